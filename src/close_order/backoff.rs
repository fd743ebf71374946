//! Pauses between attempts.

use std::time::Duration;

/// Mean pause after the first failed attempt; it doubles with each further one.
const AFTER_A_FAILURE: Duration = Duration::from_millis(100);

/// Mean pauses after a request that met the rate limit: 1, 2, 4, then 8 s. A full queue so slows down to what WeChat Pay
/// takes, without anybody having to name a number.
const AFTER_THE_RATE_LIMIT: Duration = Duration::from_secs(1);
const LONGEST_AFTER_THE_RATE_LIMIT: Duration = Duration::from_secs(8);

/// The pause after so many attempts.
pub(super) fn after_failure(attempts: u32) -> Duration {
    jittered(AFTER_A_FAILURE * 2_u32.saturating_pow(attempts.saturating_sub(1)))
}

/// The pauses of one call that meets the rate limit.
#[derive(Debug)]
pub(super) struct RateLimitBackoff {
    next: Duration,
}

impl RateLimitBackoff {
    pub(super) fn new() -> Self {
        Self { next: AFTER_THE_RATE_LIMIT }
    }

    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let mean = self.next;
        self.next = LONGEST_AFTER_THE_RATE_LIMIT.min(mean * 2);
        jittered(mean)
    }
}

/// Half to one and a half times the mean, lest all functions send at the same moment.
pub(super) fn jittered(mean: Duration) -> Duration {
    let random = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    mean.mul_f64(0.5 + random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_half_to_one_and_a_half_of_its_mean_which_doubles() {
        for _ in 0..1000 {
            assert!((50..=150).contains(&after_failure(1).as_millis()));
            assert!((100..=300).contains(&after_failure(2).as_millis()));
            assert!((200..=600).contains(&after_failure(3).as_millis()));
        }
        assert!((0..100).any(|_| after_failure(1) != after_failure(1)));
    }

    #[test]
    fn pauses_for_the_rate_limit_grow_to_eight_seconds() {
        for _ in 0..100 {
            let mut backoff = RateLimitBackoff::new();
            for mean in [1000, 2000, 4000, 8000, 8000] {
                let pause = backoff.pause().as_millis();
                assert!((mean / 2..=mean * 3 / 2).contains(&pause), "{mean}: {pause}");
            }
        }
    }
}
