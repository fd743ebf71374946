//! WeChat Pay, as far as a queue feels it: a rate limit, and outages.

use std::ops::Range;

/// A time since the simulation's beginning, or a span of time, in milliseconds.
pub(super) type Ms = u64;

/// What WeChat Pay does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reception {
    /// It is answered.
    Accepted,
    /// It met the rate limit.
    Limited,
    /// There is no connection: nothing was sent.
    Refused,
}

/// How many requests a merchant may send. WeChat Pay documents neither the number nor the kind, so both usual kinds are
/// simulated; a request that is rejected does not count.
#[derive(Clone, Debug)]
pub(super) enum Limit {
    /// As many as it likes.
    None,
    /// None at all, as when the merchant's other systems use up what there is.
    All,
    /// So many in each second of the clock.
    Window { limit: u32, second: Ms, taken: u32 },
    /// A token bucket: so many a second, and what a tenth of a second brings saved up at most; in thousandths of a request.
    Bucket { limit: u32, thousandths: u64, at: Ms },
}

impl Limit {
    pub(super) fn window(limit: u32) -> Self {
        Self::Window { limit, second: 0, taken: 0 }
    }

    pub(super) fn bucket(limit: u32) -> Self {
        Self::Bucket { limit, thousandths: 0, at: 0 }
    }

    fn takes(&mut self, now: Ms) -> bool {
        match self {
            Self::None => true,
            Self::All => false,
            Self::Window { limit, second, taken } => {
                if *second != now / 1000 {
                    (*second, *taken) = (now / 1000, 0);
                }
                let takes = *taken < *limit;
                *taken += u32::from(takes);
                takes
            }
            Self::Bucket { limit, thousandths, at } => {
                let limit = u64::from(*limit);
                *thousandths = (*thousandths + (now - *at) * limit).min((limit * 100).max(1000));
                *at = now;
                let takes = *thousandths >= 1000;
                *thousandths -= if takes { 1000 } else { 0 };
                takes
            }
        }
    }
}

/// WeChat Pay.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    /// By merchant.
    limits: [Limit; 2],
    /// When every connection is refused.
    outage: Range<Ms>,
}

impl Gateway {
    pub(super) fn new(limits: [Limit; 2], outage: Range<Ms>) -> Self {
        Self { limits, outage }
    }

    /// Receives a request of a merchant; requests come in the order of time.
    pub(super) fn receive(&mut self, merchant: usize, now: Ms) -> Reception {
        if self.outage.contains(&now) {
            Reception::Refused
        } else if self.limits.get_mut(merchant).is_none_or(|limit| limit.takes(now)) {
            Reception::Accepted
        } else {
            Reception::Limited
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of ten requests a millisecond are taken, second by second.
    fn taken(mut limit: Limit) -> Vec<usize> {
        let second = |second: Ms| (second * 1000..(second + 1) * 1000).flat_map(|ms| [ms; 10]);
        (0..3).map(|it| second(it).filter(|&ms| limit.takes(ms)).count()).collect()
    }

    #[test]
    fn a_window_takes_the_limit_each_second_and_a_bucket_as_much_evenly() {
        assert_eq!(taken(Limit::window(600)), [600, 600, 600]);
        assert_eq!(taken(Limit::bucket(600)), [599, 600, 600]);
        assert_eq!(taken(Limit::None), [10_000; 3]);
        assert_eq!(taken(Limit::All), [0; 3]);
    }

    #[test]
    fn a_bucket_saves_up_what_a_tenth_of_a_second_brings() {
        let mut limit = Limit::bucket(600);
        let at_once = |now, limit: &mut Limit| std::iter::repeat_with(|| limit.takes(now)).take_while(|&it| it).count();
        assert_eq!([0, 10_000, 10_000, 10_050].map(|now| at_once(now, &mut limit)), [0, 60, 0, 30]);
    }

    #[test]
    fn in_an_outage_nothing_is_received() {
        use Reception::{Accepted, Limited, Refused};
        let mut gateway = Gateway::new([Limit::None, Limit::All], 10..20);
        let receive =
            [(0, 9), (0, 10), (0, 19), (0, 20), (1, 20)].map(|(merchant, now)| gateway.receive(merchant, now));
        assert_eq!(receive, [Accepted, Refused, Refused, Accepted, Limited]);
    }
}
