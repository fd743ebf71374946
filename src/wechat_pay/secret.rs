//! How a secret spells a merchant and its credentials.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    account::Credentials,
    json::Object,
    merchant::{MchType, Merchant},
    v2,
    v3::keys::{KeyFields, Keys},
};
use crate::order::{MchId, SubAppid};

/// Length of an API v2 key, in characters (`APIv2密钥`, merchant platform).
const API_KEY_CHARACTERS: usize = 32;

/// The fields of API v3: whether one of them is there says that API v3 is meant.
const V3_FIELDS: [&str; 5] = ["private_key", "serial_no", "public_key_id", "public_key", "other_public_keys"];

/// All fields.
const FIELDS: [&str; 11] = [
    "mch_type",
    "mch_id",
    "appid",
    "sub_appid",
    "api_key",
    "sign_type",
    "private_key",
    "serial_no",
    "public_key_id",
    "public_key",
    "other_public_keys",
];

const NOT_A_STRING: &str = "must be a string";
const APPID_RULE: &str = "must be a string of 1 to 32 letters and digits";

/// What is wrong with the secret, by field and rule; its values are never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It isn't UTF-8, and so not JSON.
    #[error("the secret must be UTF-8 text")]
    NotUtf8,
    /// It isn't a JSON object.
    #[error("the secret must be a JSON object with mch_id and api_key (API v2) or private_key (API v3)")]
    NotAnObject,
    /// A field that means nothing here is there twice; its name is not shown, since a value may stand in its place.
    #[error("the secret has a field twice")]
    Repeated,
    /// A field is missing or breaks its rule.
    #[error("the secret's {0} {1}")]
    Field(&'static str, &'static str),
}

/// Reads a secret.
///
/// # Errors
/// [`Malformed`] names the first field that breaks its rule.
pub(super) fn parse(secret: &[u8]) -> Result<(Merchant, Credentials), Malformed> {
    let secret = str::from_utf8(secret).map_err(|_| Malformed::NotUtf8)?;
    let fields = Fields::parse(secret.strip_prefix('\u{feff}').unwrap_or(secret))?;
    let mch_type = match fields.optional("mch_type", NOT_A_STRING, any)?.as_ref().map(|it| it.as_str()) {
        None | Some("partner") => MchType::Partner,
        Some("merchant") => MchType::Merchant,
        Some(_) => return Err(Malformed::Field("mch_type", "must be \"partner\" or \"merchant\"")),
    };
    let mch_id = fields.required("mch_id", "must be a string of 1 to 32 digits", MchId::is_valid)?;
    let merchant = Merchant { mch_type, mch_id: (*mch_id).clone(), appid: None, sub_appid: None };
    match (fields.has("api_key"), fields.has("private_key")) {
        (true, true) => {
            let rule = "stands beside private_key, and it can't be told which is meant: give this function a secret of its own";
            Err(Malformed::Field("api_key", rule))
        }
        (_, true) => Ok((merchant, Credentials::V3(Box::new(v3_keys(&fields)?)))),
        (_, false) if V3_FIELDS.into_iter().any(|name| fields.has(name)) => {
            Err(Malformed::Field("private_key", "is missing, although other fields of API v3 are there"))
        }
        (false, false) => Err(Malformed::Field("api_key", "is missing, and so is private_key (API v3)")),
        (true, false) => v2(&fields, merchant),
    }
}

fn v2(fields: &Fields<'_>, merchant: Merchant) -> Result<(Merchant, Credentials), Malformed> {
    let is_key = |value: &str| value.len() == API_KEY_CHARACTERS && value.bytes().all(|b| b.is_ascii_graphic());
    let appid = fields.required("appid", APPID_RULE, SubAppid::is_valid)?;
    let api_key = fields.required("api_key", "must be a string of 32 visible ASCII characters", is_key)?;
    let sub_appid = fields.optional("sub_appid", APPID_RULE, SubAppid::is_valid)?;
    if merchant.mch_type == MchType::Merchant && sub_appid.is_some() {
        return Err(Malformed::Field("sub_appid", "is only for a mch_type of \"partner\""));
    }
    let sign_type = match fields.optional("sign_type", NOT_A_STRING, any)?.as_ref().map(|it| it.as_str()) {
        None | Some("MD5") => v2::SignType::Md5,
        Some("HMAC-SHA256") => v2::SignType::HmacSha256,
        Some(_) => return Err(Malformed::Field("sign_type", "must be \"MD5\" or \"HMAC-SHA256\"")),
    };
    let merchant = Merchant {
        appid: Some((*appid).clone()),
        sub_appid: sub_appid.map(|sub_appid| (*sub_appid).clone()),
        ..merchant
    };
    Ok((merchant, Credentials::V2(v2::Key::new(api_key.as_str().into(), sign_type))))
}

fn v3_keys(fields: &Fields<'_>) -> Result<Keys, Malformed> {
    let text = |name| fields.required(name, NOT_A_STRING, any);
    Keys::read(&KeyFields {
        private_key: &text("private_key")?,
        serial_no: &text("serial_no")?,
        public_key_id: &text("public_key_id")?,
        public_key: &text("public_key")?,
        other_public_keys: &fields.other_public_keys()?,
    })
}

/// The fields as raw JSON, so that no copy of a key is left behind.
struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    fn parse(text: &'a str) -> Result<Self, Malformed> {
        let Object { fields, repeated } = Object::parse(text).ok_or(Malformed::NotAnObject)?;
        if let Some(repeated) = repeated {
            let known = FIELDS.into_iter().find(|name| *name == repeated);
            return Err(known.map_or(Malformed::Repeated, |name| Malformed::Field(name, "is there twice")));
        }
        let with_a_blank = FIELDS.into_iter().find(|known| fields.keys().any(|name| is_with_a_blank(name, known)));
        match with_a_blank {
            Some(name) => Err(Malformed::Field(name, "has a blank in its name")),
            None => Ok(Self(fields)),
        }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(|raw| raw.get()).filter(|raw| !matches!(*raw, "null" | "\"\"" | "{}"))
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn optional(
        &self,
        name: &'static str,
        rule: &'static str,
        is_valid: impl Fn(&str) -> bool,
    ) -> Result<Option<Zeroizing<String>>, Malformed> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        let value = serde_json::from_str(raw).map(Zeroizing::<String>::new).ok();
        value.filter(|value| is_valid(value)).map(Some).ok_or(Malformed::Field(name, rule))
    }

    fn required(
        &self,
        name: &'static str,
        rule: &'static str,
        is_valid: impl Fn(&str) -> bool,
    ) -> Result<Zeroizing<String>, Malformed> {
        self.optional(name, rule, is_valid)?.ok_or(Malformed::Field(name, "is missing"))
    }

    /// An object of IDs and keys, or the text of one: the console's key/value editor knows no objects.
    fn other_public_keys(&self) -> Result<Vec<(String, String)>, Malformed> {
        let name = "other_public_keys";
        let Some(raw) = self.get(name) else { return Ok(Vec::new()) };
        let text = serde_json::from_str::<String>(raw);
        let rule = "must be an object of public keys by their IDs, each once";
        match Object::<String>::parse(text.as_deref().unwrap_or(raw)) {
            Some(Object { fields, repeated: None }) => Ok(fields.into_iter().collect()),
            _ => Err(Malformed::Field(name, rule)),
        }
    }
}

fn any(_: &str) -> bool {
    true
}

/// Whether a name is a known one but for blanks in it, or in place of its underscores.
fn is_with_a_blank(name: &str, known: &str) -> bool {
    let without_blanks = || name.chars().filter(|character| !character.is_whitespace());
    let is_letter = |character: &char| *character != '_';
    name.contains(char::is_whitespace)
        && (without_blanks().eq(known.chars())
            || without_blanks().filter(is_letter).eq(known.chars().filter(is_letter)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::wechat_pay::{Account, v3::vectors};

    const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

    fn from_value(secret: &Value) -> Result<Account, Malformed> {
        Account::from_secret(secret.to_string().as_bytes())
    }

    /// The secret with a field set, or without it.
    fn with(mut secret: Value, field: &str, value: Option<Value>) -> Value {
        let fields = secret.as_object_mut().unwrap();
        match value {
            Some(value) => fields.insert(field.to_owned(), value),
            None => fields.remove(field),
        };
        secret
    }

    const MISSING: &str = "is missing";

    fn secret() -> Value {
        json!({"appid": "wx8888888888888888", "mch_id": "1900000109", "api_key": KEY})
    }

    #[test]
    fn the_smallest_secret_is_a_partner_that_signs_with_md5() {
        let account = from_value(&secret()).unwrap();
        let merchant = account.merchant();
        assert_eq!((merchant.appid(), merchant.mch_id()), (Some("wx8888888888888888"), "1900000109"));
        let Credentials::V2(key) = &account.credentials else { unreachable!() };
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
        let Credentials::V2(key) = &account.credentials else { unreachable!() };
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
        for (field, rule) in
            [("appid", MISSING), ("mch_id", MISSING), ("api_key", "is missing, and so is private_key (API v3)")]
        {
            for absent in [Some(json!(null)), Some(json!("")), None] {
                assert_eq!(from_value(&with(secret(), field, absent)), Err(Malformed::Field(field, rule)));
            }
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

    /// The field that a malformed secret is reported by.
    fn field_of(secret: &str) -> &'static str {
        match Account::from_secret(secret.as_bytes()) {
            Err(Malformed::Field(field, _)) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_private_key_says_that_api_v3_is_spoken_and_what_belongs_to_v2_is_ignored() {
        for mch_type in ["partner", "merchant"] {
            let mut secret = vectors::secret(mch_type);
            for (name, value) in [
                ("appid", json!(1)),
                ("sub_appid", json!("wxd678efh567hg6787")),
                ("sign_type", json!("SM2")),
                ("api_key", json!("")),
                ("other_public_keys", json!({})),
                ("note", json!([1, 2])),
            ] {
                secret[name] = value;
            }
            let account = from_value(&secret).unwrap();
            let merchant = account.merchant();
            assert_eq!((merchant.mch_type().as_str(), merchant.mch_id()), (mch_type, vectors::MCH_ID));
            assert_eq!((merchant.appid(), merchant.sub_appid()), (None, None));
            assert!(matches!(account.credentials, Credentials::V3(_)));
            assert_eq!(account, vectors::account(mch_type));
        }
    }

    #[test]
    fn both_sets_of_credentials_are_as_wrong_as_half_of_one() {
        let v3 = || vectors::secret("partner");
        let both = with(v3(), "api_key", Some(json!(KEY)));
        assert_eq!(field_of(&both.to_string()), "api_key");
        for field in ["serial_no", "public_key_id", "public_key"] {
            for absent in [None, Some(json!(null)), Some(json!(""))] {
                let half = with(v3(), field, absent);
                assert_eq!(from_value(&half), Err(Malformed::Field(field, MISSING)));
            }
        }
        for field in ["serial_no", "public_key_id", "public_key", "other_public_keys"] {
            let half = with(secret(), field, Some(v3().get(field).cloned().unwrap_or(json!({"PUB_KEY_ID_1": "a"}))));
            assert_eq!(field_of(&half.to_string()), "private_key", "beside api_key: {field}");
            let half = with(half, "api_key", None);
            assert_eq!(field_of(&half.to_string()), "private_key", "{field}");
        }
        assert_eq!(field_of(&with(v3(), "private_key", None).to_string()), "private_key");
    }

    #[test]
    fn a_field_that_is_there_twice_or_has_a_blank_in_its_name_is_told_by_name() {
        let text = secret().to_string();
        let twice = |field: &str| format!("{},{field}}}", &text[..text.len() - 1]);
        for (field, expected) in [
            (format!(r#""api_key":"{KEY}""#), "api_key"),
            (r#""mch_id":"1900000109""#.to_owned(), "mch_id"),
            (r#""\u0061ppid":null"#.to_owned(), "appid"),
        ] {
            let malformed = Account::from_secret(twice(&field).as_bytes()).unwrap_err();
            assert_eq!(malformed, Malformed::Field(expected, "is there twice"), "{field}");
        }
        let unknown = twice(&format!(r#""{KEY}":1,"{KEY}":1"#));
        assert_eq!(Account::from_secret(unknown.as_bytes()).unwrap_err(), Malformed::Repeated);
        for (name, expected) in [
            (" api_key", "api_key"),
            ("api_key\t", "api_key"),
            ("api key", "api_key"),
            ("app id", "appid"),
            ("private_\u{3000}key", "private_key"),
            ("mch_id\n", "mch_id"),
        ] {
            let malformed = from_value(&with(secret(), name, Some(json!(KEY)))).unwrap_err();
            assert_eq!(malformed, Malformed::Field(expected, "has a blank in its name"), "{name}");
        }
        assert!(from_value(&with(secret(), "a note", Some(json!(1)))).is_ok(), "no field's name");
    }

    #[test]
    fn other_public_keys_are_an_object_or_the_text_of_one() {
        let keys = json!({"PUB_KEY_ID_2": vectors::pem("PUBLIC KEY", &vectors::der("docs_wxpay_public_spki_b64"))});
        let secret = |value| with(vectors::secret("partner"), "other_public_keys", Some(value));
        let account = from_value(&secret(keys.clone())).unwrap();
        assert_ne!(account, vectors::account("partner"));
        assert_eq!(from_value(&secret(json!(keys.to_string()))).unwrap(), account);
        for absent in [json!(null), json!(""), json!({}), json!("{}")] {
            assert_eq!(from_value(&secret(absent)).unwrap(), vectors::account("partner"));
        }
        for wrong in [json!([]), json!("PUB_KEY_ID_2"), json!({"PUB_KEY_ID_2": 1}), json!("{\"a\":\"\",\"a\":\"\"}")] {
            assert_eq!(field_of(&secret(wrong).to_string()), "other_public_keys");
        }
    }
}
