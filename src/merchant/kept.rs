//! The merchant as Secrets Manager holds it, read when it must be and kept for a while.
//!
//! One read serves everyone who waits for it, be it a success or a failure. A failed read is not kept: the next caller
//! tries again. A kept merchant serves on past its time while Secrets Manager is down, but not when it answers with a
//! secret that is malformed.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_sdk_secretsmanager::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};
use tracing::warn;
use zeroize::Zeroizing;

use super::Merchant;
use crate::fault::Fault;

/// A wrong key must not hammer Secrets Manager: how long after a read for the sign's sake the next one may be.
const BETWEEN_REREADS: Duration = Duration::from_mins(1);

/// How long a kept merchant serves on after a failed read, before Secrets Manager is asked again: while it hangs,
/// every order would otherwise wait for its timeout.
const BETWEEN_FAILED_READS: Duration = Duration::from_secs(30);

/// The merchant of one secret, for all invocations of a warm process.
#[derive(Debug)]
pub struct KeptMerchant {
    client: Client,
    secret_id: String,
    /// How long a read secret is used before it is read again.
    ttl: Duration,
    state: Mutex<State>,
    /// How many reads have ended, so that whoever waited for one can tell.
    reads: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    merchant: Option<Arc<Merchant>>,
    /// When the kept merchant is to be read again.
    due: Option<Instant>,
    /// When the secret was last read for the sign's sake.
    reread: Option<Instant>,
    /// How the last read failed, if it did.
    failure: Option<Fault>,
}

impl KeptMerchant {
    /// Nothing is read before someone asks.
    #[must_use]
    pub fn new(client: Client, secret_id: String, ttl: Duration) -> Self {
        Self { client, secret_id, ttl, state: Mutex::default(), reads: AtomicU64::new(0) }
    }

    /// The merchant, read anew if its time has come.
    ///
    /// # Errors
    /// [`Fault::CredentialsUnavailable`] when the secret can't be read, or is malformed, and none is kept.
    pub async fn current(&self) -> Result<Arc<Merchant>, Fault> {
        let reads_before = self.reads.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        let is_due = state.due.is_none_or(|due| due <= Instant::now());
        let someone_read_meanwhile = self.reads.load(Ordering::Acquire) != reads_before;
        if is_due && !someone_read_meanwhile {
            self.read(&mut state).await;
        }
        match (&state.merchant, &state.failure) {
            (Some(merchant), _) => Ok(Arc::clone(merchant)),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => Err(Fault::CredentialsUnavailable { cause: Cow::Borrowed("the secret was never read") }),
        }
    }

    /// Another merchant than the one whose sign was refused or did not match, if the secret has been changed: read
    /// anew at most once a minute, by one reader at a time.
    pub async fn changed_since(&self, used: &Merchant) -> Option<Arc<Merchant>> {
        let mut state = self.state.lock().await;
        let is_used = |kept: &Option<Arc<Merchant>>| kept.as_deref() == Some(used);
        if is_used(&state.merchant) && state.reread.is_none_or(|reread| reread.elapsed() >= BETWEEN_REREADS) {
            state.reread = Some(Instant::now());
            self.read(&mut state).await;
        }
        state.merchant.clone().filter(|merchant| **merchant != *used)
    }

    async fn read(&self, state: &mut MutexGuard<'_, State>) {
        let secret = self.fetch().await;
        let now = Instant::now();
        match secret.map(|secret| Merchant::from_secret(&secret)) {
            Ok(Ok(merchant)) => {
                state.merchant = Some(Arc::new(merchant));
                state.due = Some(now + self.ttl);
                state.failure = None;
            }
            // Secrets Manager is not down, and what it says now is no key: an older one is not it either.
            Ok(Err(malformed)) => {
                warn!(cause = %malformed, "the secret is malformed");
                state.merchant = None;
                state.due = None;
                state.failure = Some(Fault::CredentialsUnavailable { cause: malformed.to_string().into() });
            }
            Err(cause) => {
                let kept = state.merchant.is_some();
                warn!(%cause, kept, "the secret can't be read");
                state.due = kept.then(|| now + self.ttl.min(BETWEEN_FAILED_READS));
                state.failure = Some(Fault::CredentialsUnavailable { cause });
            }
        }
        self.reads.fetch_add(1, Ordering::Release);
    }

    /// The secret's text; empty, which is no secret, when it holds binary data.
    async fn fetch(&self) -> Result<Zeroizing<String>, Cow<'static, str>> {
        let answer = self.client.get_secret_value().secret_id(&self.secret_id).send().await.map_err(|e| cause(&e))?;
        Ok(Zeroizing::new(answer.secret_string.unwrap_or_default()))
    }
}

/// What went wrong, without AWS's own message: that of a signature mismatch quotes the session token.
fn cause<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Cow<'static, str> {
    match error {
        SdkError::ConstructionFailure(_) => {
            "Secrets Manager can't be called: the region or credentials are missing".into()
        }
        SdkError::TimeoutError(_) => "Secrets Manager did not answer in time".into(),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "Secrets Manager did not answer in time".into(),
        SdkError::DispatchFailure(failure) if failure.is_io() => "Secrets Manager can't be reached".into(),
        SdkError::DispatchFailure(_) => "Secrets Manager can't be called: credentials or connection failed".into(),
        SdkError::ServiceError(refused) => match refused.err().code() {
            Some(code) => format!("Secrets Manager answered {code}").into(),
            None => "Secrets Manager answered with an error".into(),
        },
        _ => "Secrets Manager's answer can't be read".into(),
    }
}
