//! The merchant as Secrets Manager holds it, cached for all invocations of a warm process.
//!
//! One reader reads for everyone who waits, be it a success or a failure. After a failed read the next caller reads again,
//! unless a merchant is cached: that one serves on past its time while Secrets Manager is down or throttles, and a refresh
//! is attempted every half minute then, or every TTL if that is shorter, and holds orders up by two seconds at most. Not so when Secrets Manager answers that
//! the secret is denied, gone or can't be decrypted, or holds a malformed one: a revoked key must stop being used.

use std::{
    borrow::Cow,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use aws_sdk_secretsmanager::Client;
use aws_types::SdkConfig;
use tokio::{sync::Mutex, time::timeout};
use tracing::warn;
use zeroize::Zeroizing;

use crate::{aws, fault::Fault, wechat_pay::Account};

/// A wrong key must not hammer Secrets Manager: the time from one read after a signature failure to the next.
const REREAD_INTERVAL: Duration = Duration::from_mins(1);

/// How long a cached merchant serves on after a failed refresh, before Secrets Manager is asked again: while it hangs,
/// every order would otherwise wait for it.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// How long a refresh may take while there is a cached merchant to go on with: one whole attempt of the SDK's, so that an
/// answer that the key is revoked is not missed.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(2);

const SERVICE: &str = "Secrets Manager";

/// Answers that say that the key is not to be used any more, unlike an outage
/// (<https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>).
const REVOKED: [&str; 4] =
    ["AccessDeniedException", "ResourceNotFoundException", "InvalidRequestException", "DecryptionFailure"];

/// The merchant of one secret.
#[derive(Debug)]
pub struct MerchantCache {
    client: Client,
    settings: SdkConfig,
    secret_id: String,
    /// How long a read secret is used before it is read again.
    ttl: Duration,
    /// The wall clock: the monotonic one stands still while Lambda freezes the process.
    now: fn() -> SystemTime,
    state: RwLock<State>,
    /// Held by the one who reads; it says when the secret was last read after a signature failure.
    reader: Mutex<Option<SystemTime>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    merchant: Option<Arc<Account>>,
    /// When the merchant was read, or its refresh failed, and how long it serves from then on.
    fresh: Option<(SystemTime, Duration)>,
    /// Why the last read failed, if it did.
    failure: Option<Cow<'static, str>>,
    /// How many reads have ended, so that whoever waited for one can tell.
    reads: u64,
}

/// Why a read failed.
#[derive(Debug)]
enum ReadError {
    /// Secrets Manager is down, or throttles: a cached merchant serves on.
    Unavailable(Cow<'static, str>),
    /// Secrets Manager has answered that there is no key to use.
    Revoked(Cow<'static, str>),
}

/// Counts a refresh as failed when it is dropped with a state in it: an invocation may end before its refresh does, and
/// the next one must not wait for the same.
struct GivenUp<'a> {
    cache: &'a MerchantCache,
    state: Option<State>,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.cache.set(state);
        }
    }
}

impl MerchantCache {
    /// Nothing is read before someone asks. `settings` are those of Secrets Manager.
    #[must_use]
    pub fn new(settings: SdkConfig, secret_id: String, ttl: Duration) -> Self {
        Self {
            client: Client::new(&settings),
            settings,
            secret_id,
            ttl,
            now: SystemTime::now,
            state: RwLock::default(),
            reader: Mutex::default(),
        }
    }

    /// The same by another wall clock.
    #[cfg(test)]
    pub(crate) fn with_clock(self, now: fn() -> SystemTime) -> Self {
        Self { now, ..self }
    }

    /// The merchant, read anew if its time has come.
    ///
    /// # Errors
    /// [`Fault::CredentialsUnavailable`] when the secret can't be read, or is malformed, and none is cached.
    pub async fn current(&self) -> Result<Arc<Account>, Fault> {
        let before = self.state();
        if let Some(merchant) = before.merchant.filter(|_| self.is_fresh(before.fresh)) {
            return Ok(merchant);
        }
        let _reader = self.reader.lock().await;
        if self.state().reads == before.reads {
            self.read(REFRESH_TIMEOUT).await;
        }
        let State { merchant, failure, .. } = self.state();
        merchant.ok_or_else(|| Fault::CredentialsUnavailable {
            cause: failure.unwrap_or_else(|| format!("{SERVICE} did not answer in time").into()),
        })
    }

    /// Another merchant than the one whose signature was rejected or did not match, if the secret has changed: read anew
    /// at most once a minute; concurrent orders share the read.
    pub async fn reread_if_changed(&self, used: &Account) -> Option<Arc<Account>> {
        let changed = |state: State| state.merchant.filter(|merchant| **merchant != *used);
        if let Some(merchant) = changed(self.state()) {
            return Some(merchant);
        }
        let mut last_reread = self.reader.lock().await;
        let is_due = last_reread.is_none_or(|at| !self.is_within(at, REREAD_INTERVAL));
        if changed(self.state()).is_none() && is_due {
            *last_reread = Some((self.now)());
            // The caller has a reply in hand, and bounds this by its own deadline.
            self.read(Duration::MAX).await;
        }
        changed(self.state())
    }

    /// Reads the secret and caches what comes of it; within `limit` while a merchant is cached. The caller holds the
    /// reader's lock.
    async fn read(&self, limit: Duration) {
        let before = self.state();
        let retry_interval = self.ttl.min(RETRY_INTERVAL);
        let read = if before.merchant.is_some() {
            let given_up = State { fresh: Some(((self.now)(), retry_interval)), ..before.clone() };
            let mut guard = GivenUp { cache: self, state: Some(given_up) };
            let too_late = || Err(ReadError::Unavailable(format!("{SERVICE} did not answer in time").into()));
            let read = timeout(limit, self.fetch()).await.unwrap_or_else(|_| too_late());
            guard.state = None;
            read
        } else {
            self.fetch().await
        };
        let (now, reads) = ((self.now)(), before.reads + 1);
        let read = read.map(|secret| Account::from_secret(&secret));
        self.set(match read {
            Ok(Ok(merchant)) => {
                State { merchant: Some(Arc::new(merchant)), fresh: Some((now, self.ttl)), failure: None, reads }
            }
            Ok(Err(malformed)) => {
                warn!(cause = %malformed, "the secret is malformed");
                State { failure: Some(malformed.to_string().into()), reads, ..State::default() }
            }
            Err(ReadError::Revoked(cause)) => {
                warn!(%cause, cached = false, "the secret could not be read");
                State { failure: Some(cause), reads, ..State::default() }
            }
            Err(ReadError::Unavailable(cause)) => {
                warn!(%cause, cached = before.merchant.is_some(), "the secret could not be read");
                State { fresh: Some((now, retry_interval)), failure: Some(cause), reads, ..before }
            }
        });
    }

    /// The secret, be it stored as a string or as binary.
    async fn fetch(&self) -> Result<Zeroizing<Vec<u8>>, ReadError> {
        let output = self.client.get_secret_value().secret_id(&self.secret_id).send().await.map_err(|error| {
            let cause = aws::cause(SERVICE, &self.settings, &error);
            if aws::error_code(&error).is_some_and(|code| REVOKED.contains(&code)) {
                ReadError::Revoked(cause)
            } else {
                ReadError::Unavailable(cause)
            }
        })?;
        let binary = output.secret_binary.map(aws_smithy_types::Blob::into_inner);
        Ok(Zeroizing::new(output.secret_string.map(String::into_bytes).or(binary).unwrap_or_default()))
    }

    fn is_fresh(&self, fresh: Option<(SystemTime, Duration)>) -> bool {
        fresh.is_some_and(|(since, time)| self.is_within(since, time))
    }

    /// Whether so much time has not passed yet; a clock that was set back counts as passed.
    fn is_within(&self, since: SystemTime, time: Duration) -> bool {
        (self.now)().duration_since(since).is_ok_and(|passed| passed < time)
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
    use std::{
        cell::Cell,
        sync::{Arc, Mutex},
    };

    use aws_smithy_runtime_api::{
        client::{
            http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
            orchestrator::{HttpRequest, HttpResponse},
            result::ConnectorError,
        },
        http::StatusCode,
    };
    use aws_smithy_types::{body::SdkBody, retry::RetryConfig};
    use futures_util::future::join_all;
    use serde_json::{Value, json};
    use tokio::time::{Instant, advance, sleep};

    use super::*;

    const TTL: Duration = Duration::from_mins(5);
    const SECOND: Duration = Duration::from_secs(1);
    const KEY: &str = "192006250b4c09247ec02edce69f6a2d";
    const ROTATED: &str = "292006250b4c09247ec02edce69f6a2d";

    thread_local! {
        /// How far the wall clock is ahead of tokio's, and when that began.
        static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        static START: Instant = Instant::now();
    }

    /// A wall clock that goes with tokio's paused one, and can be set.
    fn wall_clock() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(1) + AHEAD.get() + START.with(Instant::elapsed)
    }

    /// What Secrets Manager answers.
    #[derive(Clone, Debug)]
    enum Answer {
        Secret(String),
        Binary(Vec<u8>),
        Error(&'static str),
        Status(u16),
        Unreachable,
        Hang,
    }

    /// Secrets Manager as the SDK's HTTP client meets it, on tokio's clock: it takes a tenth of a second to answer.
    #[derive(Clone, Debug)]
    struct SecretsManager(Arc<Mutex<(Answer, u32)>>);

    impl SecretsManager {
        fn new(answer: Answer) -> Self {
            Self(Arc::new(Mutex::new((answer, 0))))
        }

        fn cache(&self, ttl: Duration) -> MerchantCache {
            let variable = |name: &str| match name {
                "AWS_REGION" => Some("eu-central-1".to_owned()),
                "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".to_owned()),
                _ => None,
            };
            let connector = SharedHttpConnector::new(self.clone());
            let settings = aws::settings(aws::Service::SecretsManager, http_clients(), variable).into_builder();
            // One request for each read, so that reads can be counted.
            let settings = settings.retry_config(RetryConfig::disabled());
            let settings = settings.http_client(http_client_fn(move |_, _| connector.clone())).build();
            MerchantCache::new(settings, "secret".to_owned(), ttl).with_clock(wall_clock)
        }

        fn set(&self, answer: Answer) {
            self.0.lock().unwrap().0 = answer;
        }

        fn reads(&self) -> u32 {
            self.0.lock().unwrap().1
        }
    }

    impl HttpConnector for SecretsManager {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            let answer = {
                let mut state = self.0.lock().unwrap();
                state.1 += 1;
                state.0.clone()
            };
            let json = |status, body: Value| {
                let status = StatusCode::try_from(status).unwrap();
                Ok(HttpResponse::new(status, SdkBody::from(body.to_string())))
            };
            HttpConnectorFuture::new(async move {
                sleep(Duration::from_millis(100)).await;
                match answer {
                    Answer::Secret(secret) => json(200, json!({"SecretString": secret})),
                    Answer::Binary(secret) => {
                        use base64::Engine;
                        json(200, json!({"SecretBinary": base64::prelude::BASE64_STANDARD.encode(secret)}))
                    }
                    Answer::Error(code) => json(400, json!({"__type": code, "message": "a message"})),
                    Answer::Status(status) => json(status, Value::Null),
                    Answer::Unreachable => Err(ConnectorError::io("reset".into())),
                    Answer::Hang => std::future::pending().await,
                }
            })
        }
    }

    fn http_clients() -> crate::http_client::HttpClients {
        crate::http_client::new(rustls::RootCertStore::empty()).unwrap()
    }

    fn secret(api_key: &str) -> Answer {
        Answer::Secret(json!({"appid": "wx8888888888888888", "mch_id": "1900000109", "api_key": api_key}).to_string())
    }

    fn merchant(api_key: &str) -> Account {
        let Answer::Secret(secret) = secret(api_key) else { unreachable!() };
        Account::from_secret(secret.as_bytes()).unwrap()
    }

    fn cause(fault: Fault) -> String {
        let Fault::CredentialsUnavailable { cause } = fault else { unreachable!() };
        cause.into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn one_read_serves_everyone_who_waits_for_it_be_it_a_success_or_a_failure() {
        let secrets = SecretsManager::new(secret(KEY));
        let cache = secrets.cache(TTL);
        let merchants = join_all((0..10).map(|_| cache.current())).await;
        assert!(merchants.into_iter().all(|merchant| merchant.is_ok()));
        assert_eq!(secrets.reads(), 1);

        let secrets = SecretsManager::new(Answer::Status(503));
        let cache = secrets.cache(TTL);
        let failures = join_all((0..10).map(|_| cache.current())).await;
        assert!(failures.into_iter().all(|failure| failure.is_err()));
        assert_eq!(secrets.reads(), 1);
        assert!(cache.current().await.is_err());
        assert_eq!(secrets.reads(), 2, "a failure is not cached: the next order reads again");
        secrets.set(secret(KEY));
        assert_eq!(*cache.current().await.unwrap(), merchant(KEY));
    }

    #[tokio::test(start_paused = true)]
    async fn the_secret_is_cached_for_its_time() {
        let secrets = SecretsManager::new(secret(KEY));
        let cache = secrets.cache(TTL);
        cache.current().await.unwrap();
        secrets.set(secret(ROTATED));
        advance(TTL.saturating_sub(SECOND)).await;
        assert_eq!(*cache.current().await.unwrap(), merchant(KEY));
        assert_eq!(secrets.reads(), 1);
        advance(SECOND).await;
        let merchants = join_all((0..10).map(|_| cache.current())).await;
        assert!(merchants.into_iter().all(|read| *read.unwrap() == merchant(ROTATED)));
        assert_eq!(secrets.reads(), 2, "and one read serves a whole batch then");

        let secrets = SecretsManager::new(secret(KEY));
        let cache = secrets.cache(Duration::ZERO);
        for reads in 1..=3 {
            cache.current().await.unwrap();
            assert_eq!(secrets.reads(), reads, "without a time each order reads");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn its_time_is_the_wall_clocks_so_that_a_frozen_process_reads_it_anew() {
        let secrets = SecretsManager::new(secret(KEY));
        let cache = secrets.cache(TTL);
        cache.current().await.unwrap();
        AHEAD.set(TTL.saturating_sub(SECOND));
        cache.current().await.unwrap();
        assert_eq!(secrets.reads(), 1);
        AHEAD.set(Duration::from_hours(1));
        cache.current().await.unwrap();
        assert_eq!(secrets.reads(), 2);
        AHEAD.set(Duration::ZERO);
        cache.current().await.unwrap();
        assert_eq!(secrets.reads(), 3, "a clock that was set back proves nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_signature_failure_the_secret_is_read_at_most_once_a_minute() {
        let secrets = SecretsManager::new(secret(KEY));
        let cache = secrets.cache(TTL);
        let used = cache.current().await.unwrap();
        assert!(cache.reread_if_changed(&used).await.is_none());
        assert_eq!(secrets.reads(), 2);
        secrets.set(secret(ROTATED));
        advance(REREAD_INTERVAL.saturating_sub(SECOND)).await;
        assert!(cache.reread_if_changed(&used).await.is_none());
        assert_eq!(secrets.reads(), 2, "not before a minute");
        advance(SECOND).await;
        assert_eq!(*cache.reread_if_changed(&used).await.unwrap(), merchant(ROTATED));
        assert_eq!(secrets.reads(), 3);
        assert_eq!(*cache.current().await.unwrap(), merchant(ROTATED));
        assert_eq!(*cache.reread_if_changed(&used).await.unwrap(), merchant(ROTATED), "what changed before serves");
        assert_eq!(secrets.reads(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn orders_that_meet_a_rotated_key_together_share_one_read() {
        let secrets = SecretsManager::new(secret(KEY));
        let cache = secrets.cache(TTL);
        let used = cache.current().await.unwrap();
        secrets.set(secret(ROTATED));
        let changed = join_all((0..10).map(|_| cache.reread_if_changed(&used))).await;
        assert!(changed.into_iter().all(|changed| *changed.unwrap() == merchant(ROTATED)));
        assert_eq!(secrets.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reread_that_fails_keeps_the_secret_and_counts_as_the_one_of_its_minute() {
        for answer in [Answer::Status(503), Answer::Hang] {
            let secrets = SecretsManager::new(secret(KEY));
            let cache = secrets.cache(TTL);
            let used = cache.current().await.unwrap();
            secrets.set(answer.clone());
            let start = Instant::now();
            assert!(cache.reread_if_changed(&used).await.is_none(), "{answer:?}");
            assert!(start.elapsed() <= Duration::from_secs(4), "{answer:?}: the SDK gives up");
            assert_eq!(*cache.current().await.unwrap(), merchant(KEY), "{answer:?}");
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
            let secrets = SecretsManager::new(secret(KEY));
            let cache = secrets.cache(TTL);
            cache.current().await.unwrap();
            secrets.set(answer.clone());
            advance(TTL).await;
            let start = Instant::now();
            let merchants = join_all((0..10).map(|_| cache.current())).await;
            assert!(merchants.into_iter().all(|read| *read.unwrap() == merchant(KEY)), "{answer:?}");
            assert!(
                start.elapsed() <= REFRESH_TIMEOUT,
                "{answer:?}: a refresh holds orders up for two seconds at most"
            );
            assert_eq!(secrets.reads(), 2, "{answer:?}");

            secrets.set(secret(ROTATED));
            advance(RETRY_INTERVAL.saturating_sub(SECOND)).await;
            assert_eq!(*cache.current().await.unwrap(), merchant(KEY), "{answer:?}");
            assert_eq!(secrets.reads(), 2, "{answer:?}");
            advance(SECOND).await;
            assert_eq!(*cache.current().await.unwrap(), merchant(ROTATED), "{answer:?}");
            assert_eq!(secrets.reads(), 3, "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_that_its_invocation_gives_up_counts_as_failed() {
        let secrets = SecretsManager::new(secret(KEY));
        let cache = secrets.cache(TTL);
        cache.current().await.unwrap();
        secrets.set(Answer::Hang);
        advance(TTL).await;
        assert!(timeout(Duration::from_millis(200), cache.current()).await.is_err());
        let start = Instant::now();
        assert_eq!(*cache.current().await.unwrap(), merchant(KEY));
        assert!(start.elapsed().is_zero(), "the next order waits for nothing");
        assert_eq!(secrets.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_revoked_secret_is_not_used_any_more() {
        for code in REVOKED {
            let secrets = SecretsManager::new(secret(KEY));
            let cache = secrets.cache(TTL);
            let used = cache.current().await.unwrap();
            secrets.set(Answer::Error(code));
            cache.current().await.unwrap();
            advance(TTL).await;
            let failure = cause(cache.current().await.unwrap_err());
            assert!(failure.contains(code) && !failure.contains("a message"), "{failure}");
            assert!(cache.state().merchant.is_none(), "{code}");
            assert!(cache.current().await.is_err(), "{code}");
            assert_eq!(secrets.reads(), 3, "{code}: each order asks again");
            assert!(cache.reread_if_changed(&used).await.is_none(), "{code}");
            secrets.set(secret(ROTATED));
            assert_eq!(*cache.current().await.unwrap(), merchant(ROTATED), "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reread_that_finds_the_secret_revoked_stops_its_use_at_once() {
        let secrets = SecretsManager::new(secret(KEY));
        let cache = secrets.cache(TTL);
        let used = cache.current().await.unwrap();
        secrets.set(Answer::Error("AccessDeniedException"));
        assert!(cache.reread_if_changed(&used).await.is_none());
        assert!(cache.current().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_turns_malformed_is_not_used_and_not_covered_up_by_the_last_one() {
        for (answer, expected) in [
            (Answer::Secret("{}".to_owned()), "the secret's appid is missing"),
            (Answer::Secret(String::new()), "the secret must be a JSON object with appid, mch_id and api_key"),
            (Answer::Binary(vec![0xff]), "the secret must be UTF-8 text"),
        ] {
            let secrets = SecretsManager::new(secret(KEY));
            let cache = secrets.cache(TTL);
            cache.current().await.unwrap();
            secrets.set(answer);
            advance(TTL).await;
            assert_eq!(cause(cache.current().await.unwrap_err()), expected);
            secrets.set(secret(KEY));
            assert_eq!(
                *cache.current().await.unwrap(),
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
            let cache = SecretsManager::new(answer.clone()).cache(TTL);
            assert_eq!(*cache.current().await.unwrap(), merchant(KEY), "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secrets_manager_that_hangs_at_first_is_given_up() {
        let cache = SecretsManager::new(Answer::Hang).cache(TTL);
        assert_eq!(cause(cache.current().await.unwrap_err()), "Secrets Manager did not answer in time");
    }
}
