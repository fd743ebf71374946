//! The merchant as Secrets Manager holds it, cached for all invocations of a warm process.
//!
//! One reader reads for everyone who waits, be it a success or a failure. A failed read is not cached: the next caller
//! reads again. A cached merchant serves on past its time while Secrets Manager is down or throttles, and a refresh then
//! holds orders up by a second at most; not when Secrets Manager answers that the secret is denied, gone or can't be
//! decrypted, or holds a malformed one: a revoked key must stop being used.

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

use crate::{aws, fault::Fault, wechat_pay::Merchant};

/// A wrong key must not hammer Secrets Manager: the time from one read after a signature failure to the next.
const REREAD_INTERVAL: Duration = Duration::from_mins(1);

/// How long a cached merchant serves on after a failed refresh, before Secrets Manager is asked again: while it hangs,
/// every order would otherwise wait for it.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// How long a refresh may take while there is something to go on with: a cached merchant, or a reply in hand.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

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
    merchant: Option<Arc<Merchant>>,
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

    /// The merchant, read anew if its time has come.
    ///
    /// # Errors
    /// [`Fault::CredentialsUnavailable`] when the secret can't be read, or is malformed, and none is cached.
    pub async fn current(&self) -> Result<Arc<Merchant>, Fault> {
        let before = self.state();
        if let Some(merchant) = before.merchant.filter(|_| self.is_fresh(before.fresh)) {
            return Ok(merchant);
        }
        let _reader = self.reader.lock().await;
        if self.state().reads == before.reads {
            self.read().await;
        }
        let State { merchant, failure, .. } = self.state();
        merchant.ok_or_else(|| Fault::CredentialsUnavailable {
            cause: failure.unwrap_or_else(|| format!("{SERVICE} did not answer in time").into()),
        })
    }

    /// The cached merchant, without reading anything.
    #[must_use]
    pub fn cached(&self) -> Option<Arc<Merchant>> {
        self.state().merchant
    }

    /// Another merchant than the one whose signature was refused or did not match, if the secret has changed: read anew
    /// at most once a minute; concurrent orders share the read.
    pub async fn reread_if_changed(&self, used: &Merchant) -> Option<Arc<Merchant>> {
        let changed = |state: State| state.merchant.filter(|merchant| **merchant != *used);
        if let Some(merchant) = changed(self.state()) {
            return Some(merchant);
        }
        let mut last_reread = self.reader.lock().await;
        let is_due = last_reread.is_none_or(|at| !self.is_within(at, REREAD_INTERVAL));
        if changed(self.state()).is_none() && is_due {
            *last_reread = Some((self.now)());
            self.read().await;
        }
        changed(self.state())
    }

    /// Reads the secret and caches what comes of it. The caller holds the reader's lock.
    async fn read(&self) {
        let before = self.state();
        let retry_interval = self.ttl.min(RETRY_INTERVAL);
        let read = if before.merchant.is_some() {
            // Counted as failed until it has succeeded: an invocation may end before the read does.
            self.set(State { fresh: Some(((self.now)(), retry_interval)), ..before.clone() });
            let too_late = || Err(ReadError::Unavailable(format!("{SERVICE} did not answer in time").into()));
            timeout(REFRESH_TIMEOUT, self.fetch()).await.unwrap_or_else(|_| too_late())
        } else {
            self.fetch().await
        };
        let (now, reads) = ((self.now)(), before.reads + 1);
        let read = read.map(|secret| Merchant::from_secret(&secret));
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
