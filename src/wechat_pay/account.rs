//! A merchant with what it signs with.

use super::{
    merchant::Merchant,
    secret::{self, Malformed},
    v2,
    v3::keys::Keys,
};

/// A merchant and its credentials. Two are equal when WeChat Pay could not tell them apart, the keys included.
#[derive(Debug, PartialEq)]
pub struct Account {
    merchant: Merchant,
    pub(super) credentials: Credentials,
}

/// What requests are signed and replies verified with; it says which version of the API is spoken.
#[derive(Debug, PartialEq)]
pub(super) enum Credentials {
    /// API v2: one symmetric key.
    V2(v2::Key),
    /// API v3: a private key, and the public keys of WeChat Pay.
    V3(Box<Keys>),
}

impl Account {
    /// Reads the secret: `mch_id`, `mch_type`? (`"partner"`, the default, or `"merchant"`), and
    ///
    /// - for API v2 `appid`, `api_key` (32 characters), `sign_type`? (`"MD5"`, the default, or `"HMAC-SHA256"`) and, for a
    ///   partner, `sub_appid`?;
    /// - for API v3 `private_key` and `public_key` (PEM), `serial_no`, `public_key_id`, and `other_public_keys`?
    ///   (`{"ID": "PEM"}`).
    ///
    /// A byte order mark before it, other fields, `null` and empty optional fields are ignored.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that breaks its rule.
    pub fn from_secret(secret: &[u8]) -> Result<Self, Malformed> {
        let (merchant, credentials) = secret::parse(secret)?;
        Ok(Self { merchant, credentials })
    }

    /// The merchant in whose name orders are closed.
    #[must_use]
    pub fn merchant(&self) -> &Merchant {
        &self.merchant
    }
}
