//! Signatures of WeChat Pay API v2 (its "安全规范"): every non-empty parameter but `sign`, sorted by name in byte order,
//! `k=v` joined by `&`, raw, then `&key=` and the API key; MD5 of that, or HMAC-SHA256 keyed with the API key;
//! hexadecimal, upper case.

use std::{collections::BTreeMap, fmt};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::wechat_pay::wire::Signature;

/// The algorithm of a merchant's signatures; WeChat Pay replies in the one that the request was signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignType {
    /// WeChat Pay's default; never named on the wire.
    Md5,
    /// Named by `sign_type` in the request, never in the reply.
    HmacSha256,
}

impl SignType {
    /// The value of `sign_type` on the wire, for the algorithm that needs it.
    #[must_use]
    pub(crate) fn wire_value(self) -> Option<&'static str> {
        match self {
            Self::Md5 => None,
            Self::HmacSha256 => Some("HMAC-SHA256"),
        }
    }

    /// Signs the fields; `sign` and empty ones are left out.
    #[must_use]
    #[expect(clippy::missing_panics_doc, clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104)")]
    pub fn sign(self, key: &SecretString, fields: &BTreeMap<String, String>) -> Signature {
        let mut text = String::with_capacity(512);
        for (name, value) in fields.iter().filter(|&(name, value)| name != "sign" && !value.is_empty()) {
            text.extend([name, "=", value, "&"]);
        }
        text.push_str("key=");
        // The key goes straight into the digest, so that no buffer of ours holds it.
        let key = key.expose_secret().as_bytes();
        Signature(match self {
            Self::Md5 => {
                let mut digest = Md5::new();
                digest.update(text);
                digest.update(key);
                hex::encode_upper(digest.finalize())
            }
            Self::HmacSha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
                mac.update(text.as_bytes());
                mac.update(key);
                hex::encode_upper(mac.finalize().into_bytes())
            }
        })
    }
}

/// A merchant's API v2 key, and the algorithm that it is used with.
pub struct Key {
    api_key: SecretString,
    sign_type: SignType,
}

impl Key {
    /// A key whose form was checked.
    pub(in crate::wechat_pay) fn new(api_key: SecretString, sign_type: SignType) -> Self {
        Self { api_key, sign_type }
    }

    /// The algorithm of requests and, so, of the replies to them.
    #[must_use]
    pub fn sign_type(&self) -> SignType {
        self.sign_type
    }

    /// Signs fields, as [`SignType::sign`] does.
    #[must_use]
    pub fn sign(&self, fields: &BTreeMap<String, String>) -> Signature {
        self.sign_type.sign(&self.api_key, fields)
    }

    /// Whether this is the fields' signature; takes the same time whatever differs.
    #[must_use]
    pub fn verifies(&self, fields: &BTreeMap<String, String>, signature: &str) -> bool {
        self.sign(fields).as_str().as_bytes().ct_eq(signature.as_bytes()).into()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let is_same_key = self.api_key.expose_secret().as_bytes().ct_eq(other.api_key.expose_secret().as_bytes());
        self.sign_type == other.sign_type && bool::from(is_same_key)
    }
}

/// Without the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("sign_type", &self.sign_type).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vector {
        name: String,
        key: String,
        params: BTreeMap<String, String>,
        #[serde(rename = "MD5")]
        md5: Option<String>,
        #[serde(rename = "HMAC-SHA256")]
        hmac_sha256: Option<String>,
    }

    fn vectors() -> Vec<Vector> {
        serde_json::from_str(include_str!("../../../tests/vectors.json")).unwrap()
    }

    fn sign(sign_type: SignType, vector: &Vector) -> Signature {
        sign_type.sign(&vector.key.as_str().into(), &vector.params)
    }

    #[test]
    fn every_vector_signs_as_published() {
        let mut checked = 0;
        for vector in vectors() {
            for (sign_type, expected) in [(SignType::Md5, &vector.md5), (SignType::HmacSha256, &vector.hmac_sha256)] {
                if let Some(expected) = expected {
                    assert_eq!(sign(sign_type, &vector).as_str(), expected, "{}, {sign_type:?}", vector.name);
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, 28);
    }

    #[test]
    fn a_signature_matches_the_whole_text_in_upper_case_only() {
        for vector in vectors() {
            let Some(expected) = &vector.md5 else { continue };
            let key = Key::new(vector.key.as_str().into(), SignType::Md5);
            assert!(key.verifies(&vector.params, expected));
            for wrong in
                ["", &expected.to_lowercase(), &expected[..31], &format!("{expected}0"), &format!(" {expected}")]
            {
                assert!(!key.verifies(&vector.params, wrong), "{wrong}");
            }
        }
    }

    #[test]
    fn the_signature_itself_and_empty_fields_are_left_out() {
        let key = SecretString::from("192006250b4c09247ec02edce69f6a2d");
        let sign = |fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            SignType::Md5.sign(&key, &fields)
        };
        let plain = sign(&[("a", "1"), ("z", "2")]);
        let more = sign(&[("a", "1"), ("empty", ""), ("sign", "FEED"), ("z", "2")]);
        assert_eq!(more.as_str(), plain.as_str());
    }

    #[test]
    fn debug_shows_no_key() {
        let key = Key::new("192006250b4c09247ec02edce69f6a2d".into(), SignType::Md5);
        assert_eq!(format!("{key:?}"), "Key { sign_type: Md5, .. }");
    }
}
