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
    /// So many in each second of the clock.
    Window { limit: u32, second: Ms, taken: u32 },
    /// A token bucket: so many a second, and what a tenth of a second brings saved up at most; in thousandths of a request.
    Bucket { limit: u32, thousandths: u64, at: Ms },
}

impl Limit {
    /// Any number of requests is accepted.
    pub(super) const NONE: Self = Self::window(u32::MAX);
    /// None is, as when the merchant's other systems use up what there is.
    pub(super) const ALL: Self = Self::window(0);

    pub(super) const fn window(limit: u32) -> Self {
        Self::Window { limit, second: 0, taken: 0 }
    }

    pub(super) const fn bucket(limit: u32) -> Self {
        Self::Bucket { limit, thousandths: 0, at: 0 }
    }

    fn takes(&mut self, now: Ms) -> bool {
        match self {
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

/// WeChat Pay: the limit of each merchant, and when every connection is refused.
pub(super) struct Gateway(pub(super) [Limit; 2], pub(super) Range<Ms>);

impl Gateway {
    /// One for a single merchant, without an outage.
    pub(super) fn limited(limit: Limit) -> Self {
        Self([limit, Limit::NONE], 0..0)
    }

    /// Receives a request of a merchant; requests come in the order of time.
    pub(super) fn receive(&mut self, merchant: usize, now: Ms) -> Reception {
        let Self(limits, outage) = self;
        if outage.contains(&now) {
            Reception::Refused
        } else if limits.get_mut(merchant).is_none_or(|limit| limit.takes(now)) {
            Reception::Accepted
        } else {
            Reception::Limited
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_takes_the_limit_each_second_and_a_bucket_as_much_evenly() {
        for (mut limit, expected) in [
            (Limit::window(600), [600, 600, 600]),
            (Limit::bucket(600), [599, 600, 600]),
            (Limit::NONE, [10_000; 3]),
            (Limit::ALL, [0; 3]),
        ] {
            // Of ten requests a millisecond.
            let second = |second: Ms| (second * 1000..(second + 1) * 1000).flat_map(|ms| [ms; 10]);
            let taken = [0, 1, 2].map(|it| second(it).filter(|&ms| limit.takes(ms)).count());
            assert_eq!(taken, expected, "{limit:?}");
        }
    }

    #[test]
    fn a_bucket_saves_up_what_a_tenth_of_a_second_brings() {
        let mut limit = Limit::bucket(600);
        let at_once = |now, limit: &mut Limit| std::iter::repeat_with(|| limit.takes(now)).take_while(|&it| it).count();
        assert_eq!([0, 10_000, 10_000, 10_050].map(|now| at_once(now, &mut limit)), [0, 60, 0, 30]);
    }
}
