//! The merchant as Secrets Manager holds it, read when it must be and kept for a while.
//!
//! One reader reads for everyone who waits, be it a success or a failure; whoever has a merchant in hand never waits.
//! A failed read is not kept: the next caller tries again. A kept merchant serves on past its time while Secrets
//! Manager is down, but not when it answers with a secret that is malformed.

use std::{
    borrow::Cow,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use aws_sdk_secretsmanager::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tracing::warn;
use zeroize::Zeroizing;

use super::Merchant;
use crate::fault::Fault;

/// A wrong key must not hammer Secrets Manager: how long after a read for the sign's sake the next one may be.
const BETWEEN_REREADS: Duration = Duration::from_mins(1);

/// How long a kept merchant serves on after a failed read, before Secrets Manager is asked again: while it hangs,
/// every order would otherwise wait for it.
const BETWEEN_FAILED_READS: Duration = Duration::from_secs(30);

/// How long a read may take while there is something to go on with: a kept merchant, or a reply in hand.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

const NO_ANSWER: &str = "Secrets Manager did not answer in time";

/// The merchant of one secret, for all invocations of a warm process.
#[derive(Debug)]
pub struct KeptMerchant {
    client: Client,
    secret_id: String,
    /// How long a read secret is used before it is read again.
    ttl: Duration,
    kept: RwLock<Kept>,
    /// Held by the one who reads; it says when the secret was last read for the sign's sake.
    reader: Mutex<Option<Instant>>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    merchant: Option<Arc<Merchant>>,
    /// When the merchant is to be read again.
    due: Option<Instant>,
    /// How the last read failed, if it did.
    failure: Option<Fault>,
    /// How many reads have ended, so that whoever waited for one can tell.
    reads: u64,
}

impl Kept {
    fn is_due(&self) -> bool {
        self.due.is_none_or(|due| due <= Instant::now())
    }
}

impl KeptMerchant {
    /// Nothing is read before someone asks.
    #[must_use]
    pub fn new(client: Client, secret_id: String, ttl: Duration) -> Self {
        Self { client, secret_id, ttl, kept: RwLock::default(), reader: Mutex::default() }
    }

    /// The merchant, read anew if its time has come.
    ///
    /// # Errors
    /// [`Fault::CredentialsUnavailable`] when the secret can't be read, or is malformed, and none is kept.
    pub async fn current(&self) -> Result<Arc<Merchant>, Fault> {
        let before = self.kept();
        if let (false, Some(merchant)) = (before.is_due(), before.merchant) {
            return Ok(merchant);
        }
        let _reader = self.reader.lock().await;
        if self.kept().reads == before.reads {
            self.read().await;
        }
        let kept = self.kept();
        kept.merchant.ok_or_else(|| kept.failure.unwrap_or(Fault::CredentialsUnavailable { cause: NO_ANSWER.into() }))
    }

    /// Another merchant than the one whose sign was refused or did not match, if the secret has been changed: read
    /// anew at most once a minute, by one reader at a time.
    pub async fn changed_since(&self, used: &Merchant) -> Option<Arc<Merchant>> {
        let changed = |kept: Kept| kept.merchant.filter(|merchant| **merchant != *used);
        if let Some(merchant) = changed(self.kept()) {
            return Some(merchant);
        }
        let mut reread = self.reader.lock().await;
        let someone_did = changed(self.kept()).is_some();
        if !someone_did && reread.is_none_or(|reread| reread.elapsed() >= BETWEEN_REREADS) {
            *reread = Some(Instant::now());
            self.read().await;
        }
        changed(self.kept())
    }

    /// Reads the secret and keeps what comes of it. The caller holds the reader's lock.
    async fn read(&self) {
        let kept = self.kept();
        let read = if kept.merchant.is_some() {
            // Counted as failed until it has succeeded: an invocation may end before the read does.
            self.keep(Kept { due: Some(Instant::now() + self.ttl.min(BETWEEN_FAILED_READS)), ..kept.clone() });
            timeout(REFRESH_TIMEOUT, self.fetch()).await.unwrap_or(Err(NO_ANSWER.into()))
        } else {
            self.fetch().await
        };
        let now = Instant::now();
        let reads = kept.reads + 1;
        self.keep(match read.map(|secret| Merchant::from_secret(&secret)) {
            Ok(Ok(merchant)) => {
                Kept { merchant: Some(Arc::new(merchant)), due: Some(now + self.ttl), failure: None, reads }
            }
            // Secrets Manager is not down, and what it says now is no key: an older one is not it either.
            Ok(Err(malformed)) => {
                warn!(cause = %malformed, "the secret is malformed");
                let failure = Fault::CredentialsUnavailable { cause: malformed.to_string().into() };
                Kept { merchant: None, due: None, failure: Some(failure), reads }
            }
            Err(cause) => {
                warn!(%cause, kept = kept.merchant.is_some(), "the secret can't be read");
                let due = kept.merchant.is_some().then(|| now + self.ttl.min(BETWEEN_FAILED_READS));
                Kept { due, failure: Some(Fault::CredentialsUnavailable { cause }), reads, ..kept }
            }
        });
    }

    /// The secret's text; empty, which is no secret, when it holds binary data.
    async fn fetch(&self) -> Result<Zeroizing<String>, Cow<'static, str>> {
        let answer = self.client.get_secret_value().secret_id(&self.secret_id).send().await.map_err(|e| cause(&e))?;
        Ok(Zeroizing::new(answer.secret_string.unwrap_or_default()))
    }

    fn kept(&self) -> Kept {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, kept: Kept) {
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = kept;
    }
}

/// What went wrong, without AWS's own message: that of a signature mismatch quotes the session token.
fn cause<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Cow<'static, str> {
    let is_code = |code: &&str| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    match error {
        SdkError::ConstructionFailure(_) => {
            "Secrets Manager can't be called: the region or credentials are missing".into()
        }
        SdkError::TimeoutError(_) => NO_ANSWER.into(),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => NO_ANSWER.into(),
        SdkError::DispatchFailure(failure) if failure.is_io() => "Secrets Manager can't be reached".into(),
        SdkError::DispatchFailure(_) => "Secrets Manager can't be called: credentials or connection failed".into(),
        SdkError::ServiceError(refused) => match refused.err().code().filter(is_code) {
            Some(code) => format!("Secrets Manager answered {code}").into(),
            None => "Secrets Manager answered with an error".into(),
        },
        _ => "Secrets Manager's answer can't be read".into(),
    }
}
