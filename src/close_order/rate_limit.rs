//! What the orders of one batch know of WeChat Pay's rate limit, and which merchants are not waited for.
//!
//! An order that waits out the rate limit holds its place in the batch. Where a merchant's every request meets the limit,
//! such orders would keep the places of other merchants' orders: like a circuit breaker, the process then stops to wait for
//! that merchant for a while, and its records are delivered again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long a merchant is not waited for: as long as a record stays out of sight that was not acknowledged (the template's
/// visibility timeout).
const PAUSE: Duration = Duration::from_mins(3);

/// The requests of one batch of messages, by merchant.
#[derive(Debug, Default)]
pub(crate) struct Batch(Mutex<HashMap<String, Requests>>);

#[derive(Clone, Copy, Debug, Default)]
struct Requests {
    limited: bool,
    other: bool,
}

impl Batch {
    /// Notes a request of a merchant.
    pub(super) fn sent(&self, mch_id: &str, met_rate_limit: bool) {
        let mut merchants = lock(&self.0);
        if !merchants.contains_key(mch_id) {
            merchants.insert(mch_id.to_owned(), Requests::default());
        }
        if let Some(requests) = merchants.get_mut(mch_id) {
            requests.limited |= met_rate_limit;
            requests.other |= !met_rate_limit;
        }
    }

    /// Whether any request met the limit.
    pub(super) fn has_met_rate_limit(&self) -> bool {
        lock(&self.0).values().any(|requests| requests.limited)
    }
}

/// The merchants that are not waited for, each until when.
#[derive(Debug, Default)]
pub(super) struct NotWaitedFor(Mutex<HashMap<String, Instant>>);

impl NotWaitedFor {
    pub(super) fn contains(&self, mch_id: &str) -> bool {
        lock(&self.0).get(mch_id).is_some_and(|until| Instant::now() < *until)
    }

    /// Takes what a batch has shown of its merchants.
    pub(super) fn learn(&self, batch: &Batch) {
        let now = Instant::now();
        let mut merchants = lock(&self.0);
        merchants.retain(|_, until| now < *until);
        for (mch_id, requests) in lock(&batch.0).iter() {
            if requests.other {
                merchants.remove(mch_id);
            } else {
                merchants.insert(mch_id.clone(), now + PAUSE);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(requests: &[(&str, bool)]) -> Batch {
        let batch = Batch::default();
        for (mch_id, met_rate_limit) in requests {
            batch.sent(mch_id, *met_rate_limit);
        }
        batch
    }

    #[test]
    fn a_batch_knows_whether_any_of_its_requests_met_the_limit() {
        assert!(!batch(&[]).has_met_rate_limit());
        assert!(!batch(&[("1", false)]).has_met_rate_limit());
        assert!(batch(&[("1", false), ("2", true), ("2", false)]).has_met_rate_limit());
    }

    #[tokio::test(start_paused = true)]
    async fn a_merchant_whose_every_request_met_the_limit_is_not_waited_for_for_three_minutes() {
        let merchants = NotWaitedFor::default();
        merchants.learn(&batch(&[
            ("limited", true),
            ("limited", true),
            ("some", true),
            ("some", false),
            ("good", false),
        ]));
        let are_skipped = |merchants: &NotWaitedFor| ["limited", "some", "good"].map(|it| merchants.contains(it));
        assert_eq!(are_skipped(&merchants), [true, false, false]);
        tokio::time::advance(PAUSE.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!(are_skipped(&merchants), [true, false, false]);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(are_skipped(&merchants), [false; 3]);
        merchants.learn(&batch(&[("limited", true)]));
        merchants.learn(&batch(&[("limited", true), ("limited", false)]));
        assert_eq!(are_skipped(&merchants), [false; 3], "it is waited for again as soon as it is served");
    }
}
