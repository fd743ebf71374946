//! The merchant in whose name orders are closed: identity, signing key, and how the secret spells them.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::{
    signature::{SignType, Signature},
    xml::Fields,
};

/// Length of an API v2 key, in characters ("API密钥", merchant platform).
const API_KEY_CHARACTERS: usize = 32;

/// The two kinds of merchant, which sign and send different requests.
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

/// A merchant. Two are equal when WeChat Pay could not tell them apart, the key included.
pub struct Merchant {
    mch_type: MchType,
    appid: String,
    mch_id: String,
    api_key: SecretString,
    sub_appid: Option<String>,
    sign_type: SignType,
}

/// What is wrong with the secret, by field and rule; its values are never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It isn't UTF-8, and so not JSON.
    #[error("the secret must be UTF-8 text")]
    NotUtf8,
    /// It isn't a JSON object.
    #[error("the secret must be a JSON object with appid, mch_id and api_key")]
    NotAnObject,
    /// A field is missing or breaks its rule.
    #[error("the secret's {0} {1}")]
    Field(&'static str, &'static str),
}

impl Merchant {
    /// Reads the secret: `{"mch_type"?: "partner" (default) | "merchant", "appid": …, "mch_id": …,
    /// "api_key": 32 characters, "sub_appid"?: … (partner), "sign_type"?: "MD5" (default) | "HMAC-SHA256"}`. A byte order
    /// mark before it, other fields and `null` are ignored.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that breaks its rule.
    pub fn from_secret(secret: &[u8]) -> Result<Self, Malformed> {
        let secret = str::from_utf8(secret).map_err(|_| Malformed::NotUtf8)?;
        // Serde's own messages would quote the value, so the shape is looked at by hand.
        let Ok(Value::Object(mut fields)) = serde_json::from_str(secret.strip_prefix('\u{feff}').unwrap_or(secret))
        else {
            return Err(Malformed::NotAnObject);
        };
        let is_appid =
            |value: &str| (1..=32).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric());
        let is_mch_id = |value: &str| (1..=32).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
        let is_key = |value: &str| value.len() == API_KEY_CHARACTERS && value.bytes().all(|b| b.is_ascii_graphic());
        let mch_type = match fields.get("mch_type") {
            None | Some(Value::Null) => MchType::Partner,
            Some(Value::String(name)) if name == MchType::Partner.as_str() => MchType::Partner,
            Some(Value::String(name)) if name == MchType::Merchant.as_str() => MchType::Merchant,
            Some(_) => return Err(Malformed::Field("mch_type", "must be \"partner\" or \"merchant\"")),
        };
        if mch_type == MchType::Merchant && fields.get("sub_appid").is_some_and(|value| !value.is_null()) {
            return Err(Malformed::Field("sub_appid", "is only for a mch_type of \"partner\""));
        }
        Ok(Self {
            mch_type,
            appid: required(&mut fields, "appid", "must be a string of 1 to 32 letters and digits", is_appid)?,
            mch_id: required(&mut fields, "mch_id", "must be a string of 1 to 32 digits", is_mch_id)?,
            api_key: required(&mut fields, "api_key", "must be a string of 32 visible ASCII characters", is_key)?
                .into(),
            sub_appid: optional(&mut fields, "sub_appid", "must be a string of 1 to 32 letters and digits", is_appid)?,
            sign_type: match fields.get("sign_type") {
                None | Some(Value::Null) => SignType::Md5,
                Some(Value::String(name)) if name == "MD5" => SignType::Md5,
                Some(Value::String(name)) if name == "HMAC-SHA256" => SignType::HmacSha256,
                Some(_) => return Err(Malformed::Field("sign_type", "must be \"MD5\" or \"HMAC-SHA256\"")),
            },
        })
    }

    /// Which kind of merchant it is.
    #[must_use]
    pub fn mch_type(&self) -> MchType {
        self.mch_type
    }

    /// The merchant's own appid; a partner's (服务商), not its sub-merchant's.
    #[must_use]
    pub fn appid(&self) -> &str {
        &self.appid
    }

    /// The merchant's own number (商户号).
    #[must_use]
    pub fn mch_id(&self) -> &str {
        &self.mch_id
    }

    /// The mini-program's appid for a partner's orders that name none.
    #[must_use]
    pub fn sub_appid(&self) -> Option<&str> {
        self.sub_appid.as_deref()
    }

    /// The algorithm of requests and, so, of the replies to them.
    #[must_use]
    pub fn sign_type(&self) -> SignType {
        self.sign_type
    }

    /// Signs fields, as [`SignType::sign`] does.
    #[must_use]
    pub fn sign(&self, fields: &Fields) -> Signature {
        self.sign_type.sign(&self.api_key, fields)
    }
}

fn required(
    fields: &mut Map<String, Value>,
    name: &'static str,
    rule: &'static str,
    is_valid: impl Fn(&str) -> bool,
) -> Result<String, Malformed> {
    optional(fields, name, rule, is_valid)?.ok_or(Malformed::Field(name, "is missing"))
}

fn optional(
    fields: &mut Map<String, Value>,
    name: &'static str,
    rule: &'static str,
    is_valid: impl Fn(&str) -> bool,
) -> Result<Option<String>, Malformed> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(value)) if is_valid(&value) => Ok(Some(value)),
        Some(_) => Err(Malformed::Field(name, rule)),
    }
}

impl PartialEq for Merchant {
    fn eq(&self, other: &Self) -> bool {
        let is_same_key = self.api_key.expose_secret().as_bytes().ct_eq(other.api_key.expose_secret().as_bytes());
        self.mch_type == other.mch_type
            && self.appid == other.appid
            && self.mch_id == other.mch_id
            && self.sub_appid == other.sub_appid
            && self.sign_type == other.sign_type
            && is_same_key.into()
    }
}

/// Without the key.
impl fmt::Debug for Merchant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merchant").field("appid", &self.appid).field("mch_id", &self.mch_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

    fn from_value(secret: &Value) -> Result<Merchant, Malformed> {
        Merchant::from_secret(secret.to_string().as_bytes())
    }

    fn secret() -> Value {
        json!({"appid": "wx8888888888888888", "mch_id": "1900000109", "api_key": KEY})
    }

    #[test]
    fn the_smallest_secret_is_a_partner_that_signs_with_md5() {
        let merchant = from_value(&secret()).unwrap();
        assert_eq!((merchant.appid(), merchant.mch_id()), ("wx8888888888888888", "1900000109"));
        assert_eq!((merchant.sub_appid(), merchant.sign_type()), (None, SignType::Md5));
        assert_eq!(merchant.mch_type(), MchType::Partner);
    }

    #[test]
    fn what_is_optional_is_taken_and_what_is_unknown_ignored() {
        let mut secret = secret();
        secret["sub_appid"] = json!("wxd678efh567hg6787");
        secret["sign_type"] = json!("HMAC-SHA256");
        secret["mch_type"] = json!(null);
        secret["note"] = json!({"rotated": "2026-11-23"});
        let merchant = from_value(&secret).unwrap();
        assert_eq!((merchant.sub_appid(), merchant.sign_type()), (Some("wxd678efh567hg6787"), SignType::HmacSha256));
    }

    #[test]
    fn a_malformed_secret_is_told_by_field_and_never_by_value() {
        for (field, wrong) in [
            ("appid", json!("")),
            ("appid", json!("wx 1")),
            ("appid", json!(1)),
            ("mch_id", json!("19000001O9")),
            ("mch_id", json!(1_900_000_109)),
            ("api_key", json!(&KEY[1..])),
            ("api_key", json!(format!("{KEY}0"))),
            ("api_key", json!("密".repeat(32))),
            ("api_key", json!(format!("{} ", &KEY[1..]))),
            ("api_key", json!(null)),
            ("sub_appid", json!("")),
            ("sub_appid", json!(["wx"])),
            ("mch_type", json!("ordinary")),
            ("sign_type", json!("SHA256")),
            ("sign_type", json!("md5")),
            ("sign_type", json!(5)),
        ] {
            let mut secret = secret();
            secret[field] = wrong.clone();
            let malformed = from_value(&secret).unwrap_err();
            assert!(matches!(malformed, Malformed::Field(name, _) if name == field), "{malformed:?}");
            assert!(!malformed.to_string().contains(&KEY[1..]), "{malformed}");
        }
        for field in ["appid", "mch_id", "api_key"] {
            let mut secret = secret();
            secret.as_object_mut().unwrap().remove(field);
            assert_eq!(from_value(&secret).unwrap_err(), Malformed::Field(field, "is missing"));
        }
        for text in ["", KEY, "\"192006250b4c09247ec02edce69f6a2d\"", "[]", "null", "{\"api_key\":"] {
            assert_eq!(Merchant::from_secret(text.as_bytes()).unwrap_err(), Malformed::NotAnObject);
        }
    }

    #[test]
    fn an_ordinary_merchant_has_no_sub_appid() {
        let mut secret = secret();
        secret["mch_type"] = json!("merchant");
        assert_eq!(from_value(&secret).unwrap().mch_type(), MchType::Merchant);
        secret["sub_appid"] = json!("wxd678efh567hg6787");
        assert!(matches!(from_value(&secret), Err(Malformed::Field("sub_appid", _))));
        secret["mch_type"] = json!("partner");
        assert_eq!(from_value(&secret).unwrap().mch_type(), MchType::Partner);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_other_bytes_than_utf8_are_not_read() {
        let with_mark = [b"\xef\xbb\xbf", secret().to_string().as_bytes()].concat();
        assert!(Merchant::from_secret(&with_mark).is_ok());
        assert_eq!(Merchant::from_secret(b"\xff\xfe{\x00}\x00").unwrap_err(), Malformed::NotUtf8);
    }

    #[test]
    fn merchants_differ_in_every_field_and_in_the_key() {
        let merchant = |secret: &Value| from_value(secret).unwrap();
        assert_eq!(merchant(&secret()), merchant(&secret()));
        for (field, other) in [
            ("appid", "wx8888888888888889"),
            ("mch_id", "1900000110"),
            ("api_key", "292006250b4c09247ec02edce69f6a2d"),
            ("sub_appid", "wxd678efh567hg6787"),
            ("sign_type", "HMAC-SHA256"),
            ("mch_type", "merchant"),
        ] {
            let mut changed = secret();
            changed[field] = json!(other);
            assert_ne!(merchant(&changed), merchant(&secret()), "{field}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let merchant = from_value(&secret()).unwrap();
        assert!(!format!("{merchant:?}").contains(KEY));
    }
}
