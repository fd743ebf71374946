//! Several merchants, each with a secret of its own, cached by itself: what is wrong with one changes nothing for another.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    cached::{CachedMerchant, Failure, FailureKind},
    clock::{Now, is_within},
    recent::Recent,
    secrets_manager::SecretsManager,
};
use crate::wechat_pay::Account;

/// A stream of orders for a merchant without a secret must not become a stream of reads: the time from one read that
/// failed to the next.
const FAILURE_INTERVAL: Duration = Duration::from_secs(5);

/// An order that had less time than this for a read, and was out of time, says nothing of the secret.
const CONCLUSIVE_TIME: Duration = Duration::from_secs(1);

/// The merchants whose secrets' names begin alike.
#[derive(Debug)]
pub(super) struct SeveralMerchants {
    secrets: SecretsManager,
    prefix: String,
    ttl: Duration,
    now: Now,
    known: Mutex<Known>,
}

/// What is known, by `mch_id`.
#[derive(Debug)]
struct Known {
    cached: Recent<Arc<CachedMerchant>>,
    /// Those that are read for the first time, so that orders share the read. They are cached when there is a key in them: a
    /// number that has no secret displaces nobody's.
    first_reads: HashMap<String, Weak<CachedMerchant>>,
    failures: Recent<(SystemTime, Failure)>,
}

impl SeveralMerchants {
    /// Nothing is read before someone asks. A merchant's secret has the name `prefix` and its `mch_id`.
    pub(super) fn new(secrets: SecretsManager, prefix: String, ttl: Duration, now: Now) -> Self {
        let known = Known { cached: Recent::new(), first_reads: HashMap::new(), failures: Recent::new() };
        Self { secrets, prefix, ttl, now, known: Mutex::new(known) }
    }

    /// The merchant with this number, read anew if its time has come.
    ///
    /// # Errors
    /// [`Failure`] when its secret can't be read by the `deadline`, could not be read a moment ago, or is malformed.
    pub(super) async fn current(&self, mch_id: &str, deadline: Instant) -> Result<Arc<Account>, Failure> {
        let cached = self.find(mch_id)?;
        let start = Instant::now();
        let current = cached.current(deadline).await;
        match &current {
            Ok(_) => self.lock().keep(mch_id, cached),
            // Another order may have had the time that this one lacked.
            Err(Failure { kind: FailureKind::TimedOut, .. }) if start.elapsed() < CONCLUSIVE_TIME => {}
            Err(failure) => self.lock().forget(mch_id, (self.now)(), failure.clone()),
        }
        current
    }

    /// As [`CachedMerchant::reread_if_changed`] has it.
    pub(super) async fn reread_if_changed(&self, used: &Account) -> Option<Arc<Account>> {
        let cached = Arc::clone(self.lock().cached.get(used.merchant().mch_id())?);
        let changed = cached.reread_if_changed(used).await;
        if let Some(failure) = cached.failure() {
            self.lock().forget(used.merchant().mch_id(), (self.now)(), failure);
        }
        changed
    }

    /// The merchant's cache, a new one if there is none and no read has failed lately.
    fn find(&self, mch_id: &str) -> Result<Arc<CachedMerchant>, Failure> {
        let mut known = self.lock();
        if let Some(cached) = known.cached.get(mch_id) {
            return Ok(Arc::clone(cached));
        }
        if let Some(cached) = known.first_reads.get(mch_id).and_then(Weak::upgrade) {
            return Ok(cached);
        }
        if let Some((at, failure)) = known.failures.get(mch_id)
            && is_within(self.now, *at, FAILURE_INTERVAL)
        {
            return Err(failure.clone());
        }
        let (secrets, secret_id) = (self.secrets.clone(), format!("{}{mch_id}", self.prefix));
        let cached = CachedMerchant::new(secrets, secret_id, Some(mch_id.to_owned()), self.ttl, self.now);
        let cached = Arc::new(cached);
        known.first_reads.retain(|_, first_read| first_read.strong_count() > 0);
        known.first_reads.insert(mch_id.to_owned(), Arc::downgrade(&cached));
        Ok(cached)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Caches a merchant that has a key.
    fn keep(&mut self, mch_id: &str, cached: Arc<CachedMerchant>) {
        self.first_reads.remove(mch_id);
        if self.cached.get(mch_id).is_none() {
            self.cached.insert(mch_id, cached);
        }
    }

    /// Remembers that a merchant has none.
    fn forget(&mut self, mch_id: &str, at: SystemTime, failure: Failure) {
        self.first_reads.remove(mch_id);
        self.cached.remove(mch_id);
        self.failures.insert(mch_id, (at, failure));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::time::advance;

    use super::*;
    use crate::merchants::{
        MerchantError, Merchants,
        mock::{Answer, KEY, MockSecrets, ROTATED, far, merchant_of, secret_of, wall_clock},
        recent::LIMIT,
    };

    const TTL: Duration = Duration::from_mins(5);
    const SECOND: Duration = Duration::from_secs(1);
    const MISSING: Answer = Answer::Error("ResourceNotFoundException");

    /// Merchants A and B have secrets, and nobody else.
    async fn world() -> (MockSecrets, Merchants) {
        let secrets = MockSecrets::new(MISSING);
        secrets.set_for("1", secret_of("1", KEY));
        secrets.set_for("2", secret_of("2", KEY));
        let merchants = secrets.merchants(TTL);
        assert_eq!(merchants.prefetch(far()).await, None);
        assert_eq!(secrets.reads(), 0, "nothing is read ahead");
        (secrets, merchants)
    }

    async fn of(merchants: &Merchants, mch_id: &str) -> Result<Arc<Account>, MerchantError> {
        merchants.of(Some(mch_id), far()).await
    }

    fn no_such() -> MerchantError {
        MerchantError::NoSuchMerchant { cause: "Secrets Manager answered ResourceNotFoundException".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn every_order_gets_the_key_of_the_merchant_that_it_names() {
        let secrets = MockSecrets::new(MISSING);
        let ids: Vec<_> = (0..200).map(|number: u32| number.to_string()).collect();
        let key = |id: &str, era: char| format!("{id:0>31}{era}");
        let merchants = secrets.merchants(TTL);
        for era in ['a', 'b'] {
            for id in &ids {
                secrets.set_for(id, secret_of(id, &key(id, era)));
            }
            // Interleaved, and all at once.
            let orders = || (0..5).flat_map(|_| &ids);
            let read = join_all(orders().map(|id| of(&merchants, id))).await;
            for (id, read) in orders().zip(read) {
                assert_eq!(*read.unwrap(), merchant_of(id, &key(id, era)), "{id}");
            }
            assert!(ids.iter().all(|id| secrets.reads_of(id) == if era == 'a' { 1 } else { 2 }));
            advance(TTL).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_that_names_no_merchant_has_none_and_nothing_is_read_for_it() {
        let (secrets, merchants) = world().await;
        assert_eq!(merchants.of(None, far()).await, Err(MerchantError::Unnamed));
        assert_eq!(secrets.reads(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_with_another_number_than_its_name_is_malformed() {
        let (secrets, merchants) = world().await;
        secrets.set_for("1", secret_of("2", KEY));
        let cause = "the secret's mch_id is not the one in its name".into();
        assert_eq!(of(&merchants, "1").await, Err(MerchantError::Unavailable { cause }));
        assert!(of(&merchants, "2").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_cant_be_read_is_asked_for_again_after_five_seconds() {
        let unavailable = |cause: &str| MerchantError::Unavailable { cause: cause.to_owned().into() };
        for (answer, expected) in [
            (MISSING, no_such()),
            (Answer::Error("AccessDeniedException"), unavailable("Secrets Manager answered AccessDeniedException")),
            (Answer::Status(503), unavailable("Secrets Manager answered with an error")),
            (Answer::Hang, unavailable("Secrets Manager did not answer in time")),
            (Answer::Secret("{}".to_owned()), unavailable("the secret's mch_id is missing")),
        ] {
            let (secrets, merchants) = world().await;
            secrets.set_for("1", answer.clone());
            for failed in join_all((0..10).map(|_| of(&merchants, "1"))).await {
                assert_eq!(failed, Err(expected.clone()), "{answer:?}");
            }
            secrets.set_for("1", secret_of("1", KEY));
            advance(FAILURE_INTERVAL.saturating_sub(Duration::from_millis(1))).await;
            assert_eq!(of(&merchants, "1").await, Err(expected), "{answer:?}");
            assert_eq!(secrets.reads_of("1"), 1, "{answer:?}: one read for all, and none for five seconds");
            assert!(of(&merchants, "2").await.is_ok(), "{answer:?}");
            advance(Duration::from_millis(1)).await;
            assert_eq!(*of(&merchants, "1").await.unwrap(), merchant_of("1", KEY), "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_without_a_secret_displace_no_key_and_are_forgotten_in_turn() {
        let (secrets, merchants) = world().await;
        of(&merchants, "1").await.unwrap();
        let unknown: Vec<_> = (0..=LIMIT).map(|number| format!("9{number}")).collect();
        // One after the other, since it is by their order that they are forgotten; within five seconds.
        let failed = join_all(unknown.iter().map(|id| of(&merchants, id))).await;
        assert!(failed.into_iter().all(|failed| failed == Err(no_such())));
        of(&merchants, "1").await.unwrap();
        assert_eq!(secrets.reads_of("1"), 1, "the key is still there");
        for (id, reads) in [(&unknown[LIMIT], 1), (&unknown[0], 2)] {
            assert_eq!(of(&merchants, id).await, Err(no_such()));
            assert_eq!(secrets.reads_of(id), reads, "{id}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_merchants_are_cached_those_used_last_and_memory_stays_flat() {
        let secrets = MockSecrets::new(MISSING);
        let merchants = SeveralMerchants::new(
            SecretsManager::new(secrets.settings()),
            crate::merchants::mock::PREFIX.to_owned(),
            Duration::from_hours(24),
            wall_clock,
        );
        for number in 0..=LIMIT + 1 {
            let id = number.to_string();
            secrets.set_for(&id, secret_of(&id, KEY));
            merchants.current(&id, far()).await.unwrap();
            merchants.current("0", far()).await.unwrap();
            // A first read that its order gave up leaves nothing behind.
            assert!(merchants.current(&format!("9{id}"), Instant::now()).await.is_err());
        }
        assert_eq!(secrets.reads_of("0"), 1, "used all the time");
        assert_eq!(merchants.lock().cached.len(), LIMIT);
        for (number, reads) in [(LIMIT + 1, 1), (3, 1), (2, 2)] {
            let id = number.to_string();
            merchants.current(&id, far()).await.unwrap();
            assert_eq!(secrets.reads_of(&id), reads, "{id}");
        }
        assert!(merchants.lock().first_reads.len() <= 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_merchant_whose_secret_hangs_holds_up_no_other_and_serves_on() {
        let (secrets, merchants) = world().await;
        of(&merchants, "1").await.unwrap();
        of(&merchants, "2").await.unwrap();
        secrets.set_for("1", Answer::Hang);
        advance(TTL).await;
        let timed = async |id| {
            let start = Instant::now();
            of(&merchants, id).await.unwrap();
            start.elapsed()
        };
        let (slow, fast) = tokio::join!(timed("1"), timed("2"));
        assert!(slow > SECOND && fast < SECOND, "{slow:?} {fast:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_merchants_key_is_read_anew_once_a_minute() {
        let (secrets, merchants) = world().await;
        let first = of(&merchants, "1").await.unwrap();
        let second = of(&merchants, "2").await.unwrap();
        assert_eq!(merchants.reread_if_changed(&first).await, None);
        secrets.set_for("1", secret_of("1", ROTATED));
        secrets.set_for("2", secret_of("2", ROTATED));
        assert_eq!(merchants.reread_if_changed(&first).await, None, "its minute is not over");
        assert_eq!(*merchants.reread_if_changed(&second).await.unwrap(), merchant_of("2", ROTATED));
        assert_eq!((secrets.reads_of("1"), secrets.reads_of("2")), (2, 2));
        advance(Duration::from_mins(1)).await;
        assert_eq!(*merchants.reread_if_changed(&first).await.unwrap(), merchant_of("1", ROTATED));
    }

    #[tokio::test(start_paused = true)]
    async fn a_revoked_key_is_not_used_any_more_and_the_others_are() {
        let (secrets, merchants) = world().await;
        let used = of(&merchants, "1").await.unwrap();
        of(&merchants, "2").await.unwrap();
        secrets.set_for("1", MISSING);
        assert_eq!(merchants.reread_if_changed(&used).await, None);
        assert_eq!(of(&merchants, "1").await, Err(no_such()));
        assert_eq!(secrets.reads_of("1"), 2, "the reread has said it: not asked again for five seconds");
        assert!(of(&merchants, "2").await.is_ok());
        advance(FAILURE_INTERVAL).await;
        assert_eq!(of(&merchants, "1").await, Err(no_such()));
        secrets.set_for("1", secret_of("1", ROTATED));
        advance(FAILURE_INTERVAL).await;
        assert_eq!(*of(&merchants, "1").await.unwrap(), merchant_of("1", ROTATED));
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_without_time_says_nothing_of_the_secret() {
        for (time, reads) in [(SECOND / 2, 2), (SECOND, 1)] {
            let (secrets, merchants) = world().await;
            secrets.set_for("1", Answer::Hang);
            assert!(merchants.of(Some("1"), Instant::now() + time).await.is_err());
            secrets.set_for("1", secret_of("1", KEY));
            assert_eq!(of(&merchants, "1").await.is_ok(), reads == 2, "{time:?}");
            assert_eq!(secrets.reads_of("1"), reads, "{time:?}");
        }
    }
}
