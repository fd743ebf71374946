//! Which merchant an order is of, with the key from Secrets Manager: the one that there is, or one of several, each cached
//! for all invocations of a warm process.

mod cached;
mod clock;
mod recent;
mod secret_id;
mod secrets_manager;
mod several;

#[cfg(test)]
pub(crate) mod mock;

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_types::SdkConfig;
use tokio::time::Instant;

pub use secret_id::{InvalidSecretId, SecretId};

use crate::wechat_pay::Account;
use cached::{CachedMerchant, Failure, FailureKind};
use clock::Now;
use secrets_manager::SecretsManager;
use several::SeveralMerchants;

/// The merchants of a deployment.
#[derive(Debug)]
pub struct Merchants(Kind);

#[derive(Debug)]
enum Kind {
    One(CachedMerchant),
    Several(SeveralMerchants),
}

/// Why an order has no merchant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MerchantError {
    /// There are several, and the order names none.
    #[error("the order names no merchant")]
    Unnamed,
    /// The secret can't be read, or is malformed.
    #[error("{cause}")]
    Unavailable {
        /// What Secrets Manager or the secret lacked; no value of it.
        cause: Cow<'static, str>,
    },
    /// There are several, and the one that the order names has no secret.
    #[error("{cause}")]
    NoSuchMerchant {
        /// What Secrets Manager answered.
        cause: Cow<'static, str>,
    },
}

impl Merchants {
    /// Nothing is read before someone asks. `settings` are those of Secrets Manager; a read secret is used for the `ttl`.
    #[must_use]
    pub fn new(secret_id: SecretId, settings: SdkConfig, ttl: Duration) -> Self {
        Self::with_clock(secret_id, settings, ttl, SystemTime::now)
    }

    /// The same by another wall clock.
    pub(crate) fn with_clock(secret_id: SecretId, settings: SdkConfig, ttl: Duration, now: Now) -> Self {
        let secrets = SecretsManager::new(settings);
        Self(match secret_id {
            SecretId::One(name) => Kind::One(CachedMerchant::new(secrets, name, None, ttl, now)),
            SecretId::PerMerchant(prefix) => Kind::Several(SeveralMerchants::new(secrets, prefix, ttl, now)),
        })
    }

    /// The merchant of an order that names this `mch_id`, or none; read anew if its time has come. Where there is one
    /// merchant, it is that one, whatever the order names.
    ///
    /// # Errors
    /// [`MerchantError`], after the `deadline` at the latest. A cached merchant serves while Secrets Manager is down, and
    /// that holds an order up by two seconds at most, or by half its time if that is less.
    pub(crate) async fn of(&self, mch_id: Option<&str>, deadline: Instant) -> Result<Arc<Account>, MerchantError> {
        let current = match (&self.0, mch_id) {
            (Kind::One(cached), _) => cached.current(deadline).await,
            (Kind::Several(_), None) => return Err(MerchantError::Unnamed),
            (Kind::Several(several), Some(mch_id)) => several.current(mch_id, deadline).await,
        };
        current.map_err(|Failure { cause, kind }| match (&self.0, kind) {
            (Kind::Several(_), FailureKind::Missing) => MerchantError::NoSuchMerchant { cause },
            _ => MerchantError::Unavailable { cause },
        })
    }

    /// Another key of the same merchant than the one whose signature was rejected or did not match, if the secret has
    /// changed: read anew at most once a minute for each merchant; concurrent orders share the read. The caller bounds it by
    /// its own deadline.
    pub(crate) async fn reread_if_changed(&self, used: &Account) -> Option<Arc<Account>> {
        match &self.0 {
            Kind::One(cached) => cached.reread_if_changed(used).await,
            Kind::Several(several) => several.reread_if_changed(used).await,
        }
    }

    /// Reads the secret ahead of the first order, where there is one merchant, and returns that. A failure is not final: the
    /// first order reads it again and says so.
    pub async fn prefetch(&self, deadline: Instant) -> Option<Arc<Account>> {
        match &self.0 {
            Kind::One(cached) => cached.current(deadline).await.ok(),
            Kind::Several(_) => None,
        }
    }
}
