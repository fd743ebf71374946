//! What one secret holds: a merchant and what it signs with, and how the secret spells them.

use secrecy::SecretString;
use serde_json::{Map, Value};

use super::{
    merchant::{MchType, Merchant},
    v2,
};

/// Length of an API v2 key, in characters ("API密钥", merchant platform).
const API_KEY_CHARACTERS: usize = 32;

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

impl Account {
    /// Reads the secret: `{"mch_type"?: "partner" (default) | "merchant", "appid": …, "mch_id": …,
    /// "api_key": 32 characters, "sub_appid"?: … (partner), "sign_type"?: "MD5" (default) | "HMAC-SHA256"}`. A byte order
    /// mark before it, other fields, `null` and empty optional fields are ignored.
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
        let any = |_: &str| true;
        let mch_type = match optional(&mut fields, "mch_type", "must be a string", any)?.as_deref() {
            None | Some("partner") => MchType::Partner,
            Some("merchant") => MchType::Merchant,
            Some(_) => return Err(Malformed::Field("mch_type", "must be \"partner\" or \"merchant\"")),
        };
        let appid = required(&mut fields, "appid", "must be a string of 1 to 32 letters and digits", is_appid)?;
        let mch_id = required(&mut fields, "mch_id", "must be a string of 1 to 32 digits", is_mch_id)?;
        let api_key: SecretString =
            required(&mut fields, "api_key", "must be a string of 32 visible ASCII characters", is_key)?.into();
        let sub_appid = optional(&mut fields, "sub_appid", "must be a string of 1 to 32 letters and digits", is_appid)?;
        if mch_type == MchType::Merchant && sub_appid.is_some() {
            return Err(Malformed::Field("sub_appid", "is only for a mch_type of \"partner\""));
        }
        let sign_type = match optional(&mut fields, "sign_type", "must be a string", any)?.as_deref() {
            None | Some("MD5") => v2::SignType::Md5,
            Some("HMAC-SHA256") => v2::SignType::HmacSha256,
            Some(_) => return Err(Malformed::Field("sign_type", "must be \"MD5\" or \"HMAC-SHA256\"")),
        };
        Ok(Self {
            merchant: Merchant { mch_type, mch_id, appid: Some(appid), sub_appid },
            credentials: Credentials::V2(v2::Key::new(api_key, sign_type)),
        })
    }

    /// The merchant in whose name orders are closed.
    #[must_use]
    pub fn merchant(&self) -> &Merchant {
        &self.merchant
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
        Some(Value::String(value)) if value.is_empty() => Ok(None),
        Some(Value::String(value)) if is_valid(&value) => Ok(Some(value)),
        Some(_) => Err(Malformed::Field(name, rule)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

    fn from_value(secret: &Value) -> Result<Account, Malformed> {
        Account::from_secret(secret.to_string().as_bytes())
    }

    fn secret() -> Value {
        json!({"appid": "wx8888888888888888", "mch_id": "1900000109", "api_key": KEY})
    }

    #[test]
    fn the_smallest_secret_is_a_partner_that_signs_with_md5() {
        let account = from_value(&secret()).unwrap();
        let merchant = account.merchant();
        assert_eq!((merchant.appid(), merchant.mch_id()), (Some("wx8888888888888888"), "1900000109"));
        let Credentials::V2(key) = &account.credentials;
        assert_eq!((merchant.sub_appid(), key.sign_type()), (None, v2::SignType::Md5));
        assert_eq!(merchant.mch_type(), MchType::Partner);
    }

    #[test]
    fn what_is_optional_is_taken_and_what_is_unknown_ignored() {
        let mut secret = secret();
        secret["sub_appid"] = json!("wxd678efh567hg6787");
        secret["sign_type"] = json!("HMAC-SHA256");
        secret["mch_type"] = json!(null);
        secret["note"] = json!({"rotated": "2026-11-23"});
        let account = from_value(&secret).unwrap();
        let Credentials::V2(key) = &account.credentials;
        assert_eq!(account.merchant().sub_appid(), Some("wxd678efh567hg6787"));
        assert_eq!(key.sign_type(), v2::SignType::HmacSha256);
        for name in ["sub_appid", "sign_type", "mch_type"] {
            secret[name] = json!("");
        }
        let account = from_value(&secret).unwrap();
        assert_eq!(account.merchant().sub_appid(), None, "an empty optional field counts as absent");
    }

    #[test]
    fn a_malformed_secret_is_told_by_field_and_never_by_value() {
        for (field, wrong) in [
            ("appid", json!("wx 1")),
            ("appid", json!(1)),
            ("mch_id", json!("19000001O9")),
            ("mch_id", json!(1_900_000_109)),
            ("api_key", json!(&KEY[1..])),
            ("api_key", json!(format!("{KEY}0"))),
            ("api_key", json!("密".repeat(32))),
            ("api_key", json!(format!("{} ", &KEY[1..]))),
            ("sub_appid", json!("wx-1")),
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
            for absent in [json!(null), json!("")] {
                secret[field] = absent;
                assert_eq!(from_value(&secret).unwrap_err(), Malformed::Field(field, "is missing"));
            }
            secret.as_object_mut().unwrap().remove(field);
            assert_eq!(from_value(&secret).unwrap_err(), Malformed::Field(field, "is missing"));
        }
        for text in ["", KEY, "\"192006250b4c09247ec02edce69f6a2d\"", "[]", "null", "{\"api_key\":"] {
            assert_eq!(Account::from_secret(text.as_bytes()).unwrap_err(), Malformed::NotAnObject);
        }
    }

    #[test]
    fn an_ordinary_merchant_has_no_sub_appid() {
        let mut secret = secret();
        secret["mch_type"] = json!("merchant");
        assert_eq!(from_value(&secret).unwrap().merchant().mch_type(), MchType::Merchant);
        secret["sub_appid"] = json!("wxd678efh567hg6787");
        assert!(matches!(from_value(&secret), Err(Malformed::Field("sub_appid", _))));
        secret["mch_type"] = json!("partner");
        assert_eq!(from_value(&secret).unwrap().merchant().mch_type(), MchType::Partner);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_other_bytes_than_utf8_are_not_read() {
        let with_mark = [b"\xef\xbb\xbf", secret().to_string().as_bytes()].concat();
        assert!(Account::from_secret(&with_mark).is_ok());
        assert_eq!(Account::from_secret(b"\xff\xfe{\x00}\x00").unwrap_err(), Malformed::NotUtf8);
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
