//! The merchant that the mocks know.

use serde_json::{Value, json};

/// Which of WeChat Pay's two kinds of merchant signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MchType {
    /// 服务商: every request names the `sub_mch_id` whose order it is about.
    Partner,
    /// 普通商户: no request names a `sub_mch_id` or `sub_appid`.
    Merchant,
}

/// A merchant's identity and key, as the gateway knows them and the secret holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The kind of merchant. Only [`MchType::Merchant`] is written into the secret; the other is the default there.
    pub mch_type: MchType,
    /// The appid.
    pub appid: String,
    /// The merchant number.
    pub mch_id: String,
    /// The API v2 key. The default is the key of WeChat Pay's own signing example, which everybody knows.
    pub api_key: String,
    /// `sub_appid` in the secret, if any.
    pub sub_appid: Option<String>,
    /// `sign_type` in the secret, if any.
    pub sign_type: Option<String>,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            mch_type: MchType::Partner,
            appid: "wxd678efh567hg6787".to_owned(),
            mch_id: "1230000109".to_owned(),
            api_key: "192006250b4c09247ec02edce69f6a2d".to_owned(),
            sub_appid: None,
            sign_type: None,
        }
    }
}

impl Identity {
    /// The default identity as an ordinary merchant's.
    #[must_use]
    pub fn merchant() -> Self {
        Self { mch_type: MchType::Merchant, ..Self::default() }
    }

    /// The same merchant with another key.
    #[must_use]
    pub fn with_key(&self, api_key: &str) -> Self {
        Self { api_key: api_key.to_owned(), ..self.clone() }
    }

    /// The secret as the function reads it.
    #[must_use]
    pub fn secret(&self) -> Value {
        let mut secret = json!({"appid": self.appid, "mch_id": self.mch_id, "api_key": self.api_key});
        let mch_type = (self.mch_type == MchType::Merchant).then(|| "merchant".to_owned());
        if let Value::Object(fields) = &mut secret {
            let optional = [("mch_type", &mch_type), ("sub_appid", &self.sub_appid), ("sign_type", &self.sign_type)];
            fields.extend(
                optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?)))),
            );
        }
        secret
    }
}
