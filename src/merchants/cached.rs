//! The merchant of one secret, cached for all invocations of a warm process.
//!
//! One reader reads for everyone who waits, be it a success or a failure. After a failed read the next caller reads again,
//! unless a merchant is cached: that one serves on past its time while Secrets Manager is down or throttles, and a refresh
//! is attempted every half minute then, or every TTL if that is shorter. It holds an order up by two seconds at most, or by
//! half its time if that is less. Not so when Secrets Manager answers that the secret is denied, gone or can't be
//! decrypted, or holds a malformed one: a revoked key must stop being used.

use std::{
    borrow::Cow,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};
use tracing::warn;

use super::{
    clock::{Now, is_within},
    secrets_manager::{ReadError, SERVICE, SecretsManager},
};
use crate::wechat_pay::Account;

/// A wrong key must not hammer Secrets Manager: the time from one read after a signature failure to the next.
const REREAD_INTERVAL: Duration = Duration::from_mins(1);

/// How long a cached merchant serves on after a failed refresh, before Secrets Manager is asked again: while it hangs,
/// every order would otherwise wait for it.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// How long a refresh may take while there is a cached merchant to go on with: one whole attempt of the SDK's, so that an
/// answer that the key is revoked is not missed.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(2);

/// The merchant of one secret.
#[derive(Debug)]
pub(super) struct CachedMerchant {
    secrets: SecretsManager,
    secret_id: String,
    /// The `mch_id` that the secret must have: the one in its name, where there are several merchants.
    named: Option<String>,
    /// How long a read secret is used before it is read again.
    ttl: Duration,
    now: Now,
    state: RwLock<State>,
    /// Held by the one who reads; it says when the secret was last read after a signature failure.
    reader: Mutex<Option<SystemTime>>,
}

/// Why there is no merchant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: Cow<'static, str>,
    pub(super) kind: FailureKind,
}

/// What a failure says of the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// There is no such secret.
    Missing,
    /// It can't be read, or is malformed.
    Unreadable,
    /// Nothing: the order's own time ran out.
    TimedOut,
}

#[derive(Clone, Debug, Default)]
struct State {
    merchant: Option<Arc<Account>>,
    /// When the merchant was read, or its refresh failed, and how long it serves from then on.
    fresh: Option<(SystemTime, Duration)>,
    /// Why the last read failed, if it did.
    failure: Option<Failure>,
    /// How many reads have ended, so that whoever waited for one can tell.
    reads: u64,
}

/// Counts a refresh as failed when it is dropped before its end: an order may not have the time to wait for it, and the next
/// one must not wait for the same.
struct Refresh<'a> {
    cache: &'a CachedMerchant,
    has_ended: bool,
}

impl Drop for Refresh<'_> {
    fn drop(&mut self) {
        let before = self.cache.state();
        if !self.has_ended && before.merchant.is_some() {
            self.cache.set_failed(before, timed_out());
        }
    }
}

fn timed_out() -> Cow<'static, str> {
    format!("{SERVICE} did not answer in time").into()
}

impl CachedMerchant {
    /// Nothing is read before someone asks. `named` is the `mch_id` that the secret must have, if its name says one.
    pub(super) fn new(
        secrets: SecretsManager,
        secret_id: String,
        named: Option<String>,
        ttl: Duration,
        now: Now,
    ) -> Self {
        Self { secrets, secret_id, named, ttl, now, state: RwLock::default(), reader: Mutex::default() }
    }

    /// The merchant, read anew if its time has come.
    ///
    /// # Errors
    /// [`Failure`] when the secret can't be read by the `deadline`, or is malformed, and none is cached.
    pub(super) async fn current(&self, deadline: Instant) -> Result<Arc<Account>, Failure> {
        let before = self.state();
        if let Some(merchant) = before.merchant.as_ref().filter(|_| self.is_fresh(&before)) {
            return Ok(Arc::clone(merchant));
        }
        let start = Instant::now();
        let half = deadline.saturating_duration_since(start) / 2;
        let limit = if before.merchant.is_some() { start + half.min(REFRESH_TIMEOUT) } else { deadline };
        // What comes of it is in the state, also when another order's read was the one that ended.
        let _ = timeout_at(limit, self.refresh(before.reads)).await;
        let State { merchant, failure, reads, .. } = self.state();
        let failure = failure.filter(|_| reads != before.reads);
        merchant.ok_or_else(|| failure.unwrap_or(Failure { cause: timed_out(), kind: FailureKind::TimedOut }))
    }

    /// Another key than the one whose signature was rejected or did not match, if the secret has changed and is still the
    /// same merchant's: read anew at most once a minute; concurrent orders share the read.
    pub(super) async fn reread_if_changed(&self, used: &Account) -> Option<Arc<Account>> {
        let is_changed =
            |merchant: &Account| *merchant != *used && merchant.merchant().mch_id() == used.merchant().mch_id();
        let changed = || self.state().merchant.filter(|merchant| is_changed(merchant));
        if let Some(merchant) = changed() {
            return Some(merchant);
        }
        let mut last_reread = self.reader.lock().await;
        let is_due = last_reread.is_none_or(|at| !is_within(self.now, at, REREAD_INTERVAL));
        if changed().is_none() && is_due {
            *last_reread = Some((self.now)());
            // The caller has a reply in hand, and bounds this by its own deadline.
            self.read().await;
        }
        changed()
    }

    /// Why it has no merchant, if the last read said that.
    pub(super) fn failure(&self) -> Option<Failure> {
        let State { merchant, failure, .. } = self.state();
        failure.filter(|_| merchant.is_none())
    }

    /// Reads the secret, unless a read has ended, or was given up, since the caller looked, when it had seen so many.
    async fn refresh(&self, reads: u64) {
        let _reader = self.reader.lock().await;
        if self.state().reads == reads {
            self.read().await;
        }
    }

    /// Reads the secret and caches what comes of it. The caller holds the reader's lock.
    async fn read(&self) {
        let mut refresh = Refresh { cache: self, has_ended: false };
        let read = self.secrets.read(&self.secret_id).await;
        refresh.has_ended = true;
        let (before, now) = (self.state(), (self.now)());
        let reads = before.reads + 1;
        let failed = |cause, kind| State { failure: Some(Failure { cause, kind }), reads, ..State::default() };
        let mch_id = self.named.as_deref();
        match read.map(|secret| self.parse(&secret)) {
            Ok(Ok(merchant)) => {
                let (merchant, fresh) = (Some(Arc::new(merchant)), Some((now, self.ttl)));
                self.set(State { merchant, fresh, failure: None, reads });
            }
            Ok(Err(cause)) => {
                warn!(%cause, mch_id, "the secret is malformed");
                self.set(failed(cause, FailureKind::Unreadable));
            }
            Err(ReadError::Revoked { cause, is_missing }) => {
                // A number that has no secret and never had one may be a sender's mistake: the order's line says it.
                if !is_missing || mch_id.is_none() || before.merchant.is_some() {
                    warn!(%cause, cached = false, mch_id, "the secret could not be read");
                }
                self.set(failed(cause, if is_missing { FailureKind::Missing } else { FailureKind::Unreadable }));
            }
            Err(ReadError::Unavailable(cause)) => self.set_failed(before, cause),
        }
    }

    /// Has a cached merchant serve on while Secrets Manager is down.
    fn set_failed(&self, before: State, cause: Cow<'static, str>) {
        let mch_id = self.named.as_deref();
        warn!(%cause, cached = before.merchant.is_some(), mch_id, "the secret could not be read");
        let fresh = Some(((self.now)(), self.ttl.min(RETRY_INTERVAL)));
        let failure = Some(Failure { cause, kind: FailureKind::Unreadable });
        self.set(State { fresh, failure, reads: before.reads + 1, merchant: before.merchant });
    }

    fn parse(&self, secret: &[u8]) -> Result<Account, Cow<'static, str>> {
        let merchant = Account::from_secret(secret).map_err(|malformed| malformed.to_string())?;
        match &self.named {
            Some(named) if merchant.merchant().mch_id() != named => {
                Err("the secret's mch_id is not the one in its name".into())
            }
            _ => Ok(merchant),
        }
    }

    fn is_fresh(&self, state: &State) -> bool {
        state.fresh.is_some_and(|(since, time)| is_within(self.now, since, time))
    }

    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::retry::RetryConfig;
    use futures_util::future::join_all;
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::merchants::{
        mock::{AHEAD, Answer, KEY, MockSecrets, ROTATED, far, merchant, secret, secret_of, wall_clock},
        secrets_manager::REVOKED,
    };

    const TTL: Duration = Duration::from_mins(5);
    const SECOND: Duration = Duration::from_secs(1);

    /// The merchant for an order that has time.
    async fn current(cache: &CachedMerchant) -> Result<Arc<Account>, Cow<'static, str>> {
        cache.current(far()).await.map_err(|failure| failure.cause)
    }

    /// The merchant for an order that has so many milliseconds, and how long it was held up.
    async fn current_within(cache: &CachedMerchant, ms: u64) -> (Result<Arc<Account>, Failure>, Duration) {
        let start = Instant::now();
        let read = cache.current(start + Duration::from_millis(ms)).await;
        (read, start.elapsed())
    }

    /// A cache whose secret's time is up while Secrets Manager hangs.
    async fn hanging(ttl: Duration) -> (MockSecrets, CachedMerchant) {
        let secrets = MockSecrets::new(secret(KEY));
        let cache = secrets.cache(ttl);
        current(&cache).await.unwrap();
        secrets.set(Answer::Hang);
        advance(ttl).await;
        (secrets, cache)
    }

    #[tokio::test(start_paused = true)]
    async fn one_read_serves_everyone_who_waits_for_it_be_it_a_success_or_a_failure() {
        let secrets = MockSecrets::new(secret(KEY));
        let cache = secrets.cache(TTL);
        let merchants = join_all((0..10).map(|_| current(&cache))).await;
        assert!(merchants.into_iter().all(|merchant| merchant.is_ok()));
        assert_eq!(secrets.reads(), 1);

        let secrets = MockSecrets::new(Answer::Status(503));
        let cache = secrets.cache(TTL);
        let failures = join_all((0..10).map(|_| current(&cache))).await;
        assert!(failures.into_iter().all(|failure| failure.is_err()));
        assert_eq!(secrets.reads(), 1);
        assert!(current(&cache).await.is_err());
        assert_eq!(secrets.reads(), 2, "a failure is not cached: the next order reads again");
        secrets.set(secret(KEY));
        assert_eq!(*current(&cache).await.unwrap(), merchant(KEY));
    }

    #[tokio::test(start_paused = true)]
    async fn the_secret_is_cached_for_its_time() {
        let secrets = MockSecrets::new(secret(KEY));
        let cache = secrets.cache(TTL);
        current(&cache).await.unwrap();
        secrets.set(secret(ROTATED));
        advance(TTL.saturating_sub(SECOND)).await;
        assert_eq!(*current(&cache).await.unwrap(), merchant(KEY));
        assert_eq!(secrets.reads(), 1);
        advance(SECOND).await;
        let merchants = join_all((0..10).map(|_| current(&cache))).await;
        assert!(merchants.into_iter().all(|read| *read.unwrap() == merchant(ROTATED)));
        assert_eq!(secrets.reads(), 2, "and one read serves a whole batch then");

        let secrets = MockSecrets::new(secret(KEY));
        let cache = secrets.cache(Duration::ZERO);
        for reads in 1..=3 {
            current(&cache).await.unwrap();
            assert_eq!(secrets.reads(), reads, "without a time each order reads");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn its_time_is_the_wall_clocks_so_that_a_frozen_process_reads_it_anew() {
        let secrets = MockSecrets::new(secret(KEY));
        let cache = secrets.cache(TTL);
        current(&cache).await.unwrap();
        AHEAD.set(TTL.saturating_sub(SECOND));
        current(&cache).await.unwrap();
        assert_eq!(secrets.reads(), 1);
        AHEAD.set(Duration::from_hours(1));
        current(&cache).await.unwrap();
        assert_eq!(secrets.reads(), 2);
        AHEAD.set(Duration::ZERO);
        current(&cache).await.unwrap();
        assert_eq!(secrets.reads(), 3, "a clock that was set back proves nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_signature_failure_the_secret_is_read_at_most_once_a_minute() {
        let secrets = MockSecrets::new(secret(KEY));
        let cache = secrets.cache(TTL);
        let used = current(&cache).await.unwrap();
        assert!(cache.reread_if_changed(&used).await.is_none());
        assert_eq!(secrets.reads(), 2);
        secrets.set(secret(ROTATED));
        advance(REREAD_INTERVAL.saturating_sub(SECOND)).await;
        assert!(cache.reread_if_changed(&used).await.is_none());
        assert_eq!(secrets.reads(), 2, "not before a minute");
        advance(SECOND).await;
        assert_eq!(*cache.reread_if_changed(&used).await.unwrap(), merchant(ROTATED));
        assert_eq!(secrets.reads(), 3);
        assert_eq!(*current(&cache).await.unwrap(), merchant(ROTATED));
        assert_eq!(*cache.reread_if_changed(&used).await.unwrap(), merchant(ROTATED), "what changed before serves");
        assert_eq!(secrets.reads(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn orders_that_meet_a_rotated_key_together_share_one_read() {
        let secrets = MockSecrets::new(secret(KEY));
        let cache = secrets.cache(TTL);
        let used = current(&cache).await.unwrap();
        secrets.set(secret(ROTATED));
        let changed = join_all((0..10).map(|_| cache.reread_if_changed(&used))).await;
        assert!(changed.into_iter().all(|changed| *changed.unwrap() == merchant(ROTATED)));
        assert_eq!(secrets.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reread_that_fails_keeps_the_secret_and_counts_as_the_one_of_its_minute() {
        for answer in [Answer::Status(503), Answer::Hang] {
            let secrets = MockSecrets::new(secret(KEY));
            let cache = secrets.cache(TTL);
            let used = current(&cache).await.unwrap();
            secrets.set(answer.clone());
            let start = Instant::now();
            assert!(cache.reread_if_changed(&used).await.is_none(), "{answer:?}");
            assert!(start.elapsed() <= Duration::from_secs(4), "{answer:?}: the SDK gives up");
            assert_eq!(*current(&cache).await.unwrap(), merchant(KEY), "{answer:?}");
            secrets.set(secret(ROTATED));
            assert!(cache.reread_if_changed(&used).await.is_none(), "{answer:?}");
            assert_eq!(secrets.reads(), 2, "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_secrets_manager_is_down_the_cached_secret_serves_and_is_read_again_after_half_a_minute() {
        for answer in [
            Answer::Error("ThrottlingException"),
            Answer::Error("InternalServiceError"),
            Answer::Error("ExpiredTokenException"),
            Answer::Status(503),
            Answer::Unreachable,
            Answer::Hang,
        ] {
            let secrets = MockSecrets::new(secret(KEY));
            let cache = secrets.cache(TTL);
            current(&cache).await.unwrap();
            secrets.set(answer.clone());
            advance(TTL).await;
            let start = Instant::now();
            let merchants = join_all((0..10).map(|_| current(&cache))).await;
            assert!(merchants.into_iter().all(|read| *read.unwrap() == merchant(KEY)), "{answer:?}");
            assert!(
                start.elapsed() <= REFRESH_TIMEOUT,
                "{answer:?}: a refresh holds orders up for two seconds at most"
            );
            assert_eq!(secrets.reads(), 2, "{answer:?}");

            secrets.set(secret(ROTATED));
            advance(RETRY_INTERVAL.saturating_sub(SECOND)).await;
            assert_eq!(*current(&cache).await.unwrap(), merchant(KEY), "{answer:?}");
            assert_eq!(secrets.reads(), 2, "{answer:?}");
            advance(SECOND).await;
            assert_eq!(*current(&cache).await.unwrap(), merchant(ROTATED), "{answer:?}");
            assert_eq!(secrets.reads(), 3, "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_that_its_invocation_gives_up_counts_as_failed() {
        let secrets = MockSecrets::new(secret(KEY));
        let cache = secrets.cache(TTL);
        current(&cache).await.unwrap();
        secrets.set(Answer::Hang);
        advance(TTL).await;
        assert!(timeout(Duration::from_millis(200), current(&cache)).await.is_err());
        let start = Instant::now();
        assert_eq!(*current(&cache).await.unwrap(), merchant(KEY));
        assert!(start.elapsed().is_zero(), "the next order waits for nothing");
        assert_eq!(secrets.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_revoked_secret_is_not_used_any_more() {
        for code in REVOKED {
            let secrets = MockSecrets::new(secret(KEY));
            let cache = secrets.cache(TTL);
            let used = current(&cache).await.unwrap();
            secrets.set(Answer::Error(code));
            current(&cache).await.unwrap();
            advance(TTL).await;
            let failure = current(&cache).await.unwrap_err();
            assert!(failure.contains(code) && !failure.contains("a message"), "{failure}");
            assert!(cache.state().merchant.is_none(), "{code}");
            assert!(current(&cache).await.is_err(), "{code}");
            assert_eq!(secrets.reads(), 3, "{code}: each order asks again");
            assert!(cache.reread_if_changed(&used).await.is_none(), "{code}");
            secrets.set(secret(ROTATED));
            assert_eq!(*current(&cache).await.unwrap(), merchant(ROTATED), "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reread_that_finds_the_secret_revoked_stops_its_use_at_once() {
        let secrets = MockSecrets::new(secret(KEY));
        let cache = secrets.cache(TTL);
        let used = current(&cache).await.unwrap();
        secrets.set(Answer::Error("AccessDeniedException"));
        assert!(cache.reread_if_changed(&used).await.is_none());
        assert!(current(&cache).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_turns_malformed_is_not_used_and_not_covered_up_by_the_last_one() {
        for (answer, expected) in [
            (Answer::Secret("{}".to_owned()), "the secret's mch_id is missing"),
            (
                Answer::Secret(String::new()),
                "the secret must be a JSON object with mch_id and api_key (API v2) or private_key (API v3)",
            ),
            (Answer::Binary(vec![0xff]), "the secret must be UTF-8 text"),
        ] {
            let secrets = MockSecrets::new(secret(KEY));
            let cache = secrets.cache(TTL);
            current(&cache).await.unwrap();
            secrets.set(answer);
            advance(TTL).await;
            assert_eq!(current(&cache).await.unwrap_err(), expected);
            secrets.set(secret(KEY));
            assert_eq!(
                *current(&cache).await.unwrap(),
                merchant(KEY),
                "{expected}: once it is fixed, it serves at once"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_read_from_string_and_binary_with_and_without_a_byte_order_mark() {
        let Answer::Secret(text) = secret(KEY) else { unreachable!() };
        let marked = format!("\u{feff}{text}");
        for answer in [
            Answer::Secret(text.clone()),
            Answer::Secret(marked.clone()),
            Answer::Binary(text.into_bytes()),
            Answer::Binary(marked.into_bytes()),
        ] {
            let cache = MockSecrets::new(answer.clone()).cache(TTL);
            assert_eq!(*current(&cache).await.unwrap(), merchant(KEY), "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secrets_manager_that_hangs_at_first_is_given_up() {
        let cache = MockSecrets::new(Answer::Hang).cache(TTL);
        assert_eq!(current(&cache).await.unwrap_err(), "Secrets Manager did not answer in time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_holds_an_order_up_for_two_seconds_or_half_its_time() {
        for (ms, expected) in [(60_000, 2000), (4000, 2000), (3000, 1500), (1000, 500), (10, 5), (0, 0)] {
            let secrets = MockSecrets::new(secret(KEY));
            let settings = secrets.settings().into_builder();
            // With the SDK's second attempt, which would go on for longer.
            let settings = settings.retry_config(RetryConfig::standard().with_max_attempts(2)).build();
            let cache = CachedMerchant::new(SecretsManager::new(settings), "secret".to_owned(), None, TTL, wall_clock);
            current(&cache).await.unwrap();
            secrets.set(Answer::Hang);
            advance(TTL).await;
            let (read, held_up) = current_within(&cache, ms).await;
            assert_eq!(*read.unwrap(), merchant(KEY), "{ms}");
            assert!(held_up.abs_diff(Duration::from_millis(expected)) <= Duration::from_millis(1), "{ms}: {held_up:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_orders_wait_none_waits_for_another_one() {
        for ttl in [TTL, SECOND, Duration::ZERO] {
            for ms in [1000, 10_000] {
                let (secrets, cache) = hanging(ttl).await;
                let all = join_all((0..8).map(|_| current_within(&cache, ms))).await;
                let most = Duration::from_millis(ms / 2).min(REFRESH_TIMEOUT) + Duration::from_millis(1);
                for (read, held_up) in all {
                    assert_eq!(*read.unwrap(), merchant(KEY));
                    assert!(held_up <= most, "{ttl:?} {ms}: {held_up:?}");
                }
                assert_eq!(secrets.reads(), 2, "{ttl:?} {ms}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_order_does_not_wait_as_long_as_the_one_that_reads_for_it() {
        let (secrets, cache) = hanging(TTL).await;
        let ((long, held_up), (short, held_up_shortly)) =
            tokio::join!(current_within(&cache, 60_000), current_within(&cache, 1000));
        assert!(long.is_ok() && short.is_ok());
        assert!(held_up > SECOND && held_up_shortly < SECOND, "{held_up:?} {held_up_shortly:?}");
        assert_eq!(secrets.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_refresh_that_was_given_up_the_next_one_is_due_in_half_a_minute_or_a_shorter_ttl() {
        for (ttl, interval) in [(TTL, RETRY_INTERVAL), (2 * SECOND, 2 * SECOND), (SECOND, SECOND)] {
            let (secrets, cache) = hanging(ttl).await;
            current_within(&cache, 60_000).await.0.unwrap();
            let start = Instant::now();
            secrets.set(secret(ROTATED));
            advance(interval.saturating_sub(Duration::from_millis(1))).await;
            assert_eq!(*current(&cache).await.unwrap(), merchant(KEY), "{ttl:?}");
            assert_eq!(secrets.reads(), 2, "{ttl:?}: {:?} after it was given up", start.elapsed());
            advance(Duration::from_millis(1)).await;
            assert_eq!(*current(&cache).await.unwrap(), merchant(ROTATED), "{ttl:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_cached_key_an_order_waits_as_long_as_it_can() {
        let secrets = MockSecrets::new(Answer::Status(503));
        let cache = secrets.cache(TTL);
        assert_eq!(current_within(&cache, 1000).await.0.unwrap_err().kind, FailureKind::Unreadable);
        secrets.set(Answer::Hang);
        let (read, held_up) = current_within(&cache, 1000).await;
        assert_eq!(read.unwrap_err().kind, FailureKind::TimedOut);
        assert!(held_up >= SECOND, "{held_up:?}");
        secrets.set(secret(KEY));
        assert_eq!(*current_within(&cache, 1000).await.0.unwrap(), merchant(KEY));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_was_revoked_while_orders_waited_for_it_serves_none_of_them() {
        let secrets = MockSecrets::new(secret(KEY));
        let cache = secrets.cache(TTL);
        current(&cache).await.unwrap();
        secrets.set(Answer::Error("AccessDeniedException"));
        advance(TTL).await;
        for read in join_all((0..8).map(|_| current(&cache))).await {
            assert_eq!(read.unwrap_err(), "Secrets Manager answered AccessDeniedException");
        }
        assert_eq!(secrets.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_became_another_merchants_is_no_new_key() {
        let secrets = MockSecrets::new(secret(KEY));
        let cache = secrets.cache(TTL);
        let used = current(&cache).await.unwrap();
        secrets.set(secret_of("1900000110", ROTATED));
        assert_eq!(cache.reread_if_changed(&used).await, None);
        assert_eq!(secrets.reads(), 2);
        assert_eq!(
            current(&cache).await.unwrap().merchant().mch_id(),
            "1900000110",
            "the next order is that merchant's"
        );
        assert_eq!(cache.reread_if_changed(&used).await, None, "and what is cached by then is not used either");
    }
}
