//! The merchant in whose name orders are closed, whatever it signs with.

/// The two kinds of merchant, which send different requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MchType {
    /// 服务商: closes its sub-merchants' orders; every request has a `sub_mch_id`.
    Partner,
    /// 普通商户: closes its own orders; no request has a `sub_mch_id` or a `sub_appid`.
    Merchant,
}

impl MchType {
    /// As the secret and the log spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Partner => "partner",
            Self::Merchant => "merchant",
        }
    }
}

/// A merchant's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merchant {
    pub(super) mch_type: MchType,
    pub(super) mch_id: String,
    pub(super) appid: Option<String>,
    pub(super) sub_appid: Option<String>,
}

impl Merchant {
    /// Which kind of merchant it is.
    #[must_use]
    pub fn mch_type(&self) -> MchType {
        self.mch_type
    }

    /// The merchant's own number (商户号).
    #[must_use]
    pub fn mch_id(&self) -> &str {
        &self.mch_id
    }

    /// The merchant's own appid, a partner's (服务商) and not its sub-merchant's. API v2 needs one.
    #[must_use]
    pub fn appid(&self) -> Option<&str> {
        self.appid.as_deref()
    }

    /// The mini-program's appid for a partner's orders that name none.
    #[must_use]
    pub fn sub_appid(&self) -> Option<&str> {
        self.sub_appid.as_deref()
    }
}
