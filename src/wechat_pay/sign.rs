//! Signatures of WeChat Pay API v2 (its "安全规范"): every non-empty parameter but `sign`, sorted by name in byte order,
//! `k=v` joined by `&`, raw, then `&key=` and the API key; MD5 of that, or HMAC-SHA256 keyed with the API key;
//! hexadecimal, upper case.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Hexadecimal characters of the longer digest, SHA-256's.
const MAX_HEX: usize = 64;

/// The algorithm of a merchant's signatures; WeChat Pay answers in the one it was asked in.
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
    pub fn wire_value(self) -> Option<&'static str> {
        match self {
            Self::Md5 => None,
            Self::HmacSha256 => Some("HMAC-SHA256"),
        }
    }

    /// Signs the fields: those whose name isn't `sign` and whose value isn't empty, which must come in the byte order
    /// of their names.
    #[must_use]
    pub fn sign<'a>(self, key: &SecretString, fields: impl Iterator<Item = (&'a str, &'a str)>) -> Sign {
        let mut text = String::with_capacity(512);
        for (name, value) in fields.filter(|&(name, value)| name != "sign" && !value.is_empty()) {
            text.push_str(name);
            text.push('=');
            text.push_str(value);
            text.push('&');
        }
        // The key goes straight into the digest, so that no buffer of ours holds it.
        let parts = [text.as_bytes(), b"key=", key.expose_secret().as_bytes()];
        match self {
            Self::Md5 => {
                let mut digest = Md5::new();
                for part in parts {
                    digest.update(part);
                }
                Sign::from_digest(&digest.finalize())
            }
            Self::HmacSha256 => match Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()) {
                Ok(mut mac) => {
                    for part in parts {
                        mac.update(part);
                    }
                    Sign::from_digest(&mac.finalize().into_bytes())
                }
                // HMAC takes keys of every length; were that to change, the empty sign would match no reply.
                Err(_) => Sign::from_digest(&[]),
            },
        }
    }
}

/// A signature: upper-case hexadecimal, compared in constant time, never shown by `Debug`.
#[derive(Clone)]
pub struct Sign {
    hex: [u8; MAX_HEX],
    length: usize,
}

impl Sign {
    fn from_digest(digest: &[u8]) -> Self {
        const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
        let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied().unwrap_or_default();
        let mut hex = [0; MAX_HEX];
        let mut length = 0;
        for (pair, byte) in hex.as_chunks_mut().0.iter_mut().zip(digest) {
            *pair = [digit(byte >> 4), digit(*byte)];
            length += pair.len();
        }
        Self { hex, length }
    }

    /// The signature as it goes over the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.hex.get(..self.length).and_then(|hex| str::from_utf8(hex).ok()).unwrap_or_default()
    }

    /// Whether this is the signature that came over the wire, found out in constant time.
    #[must_use]
    pub fn matches(&self, received: &str) -> bool {
        self.length > 0 && self.as_str().as_bytes().ct_eq(received.as_bytes()).into()
    }
}

impl fmt::Debug for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sign(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
        serde_json::from_str(include_str!("../../tests/vectors.json")).unwrap()
    }

    fn sign(sign_type: SignType, vector: &Vector) -> Sign {
        sign_type.sign(
            &vector.key.as_str().into(),
            vector.params.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        )
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
        assert_eq!(checked, 16);
    }

    #[test]
    fn a_sign_is_the_whole_text_in_upper_case_or_none() {
        for vector in vectors() {
            let Some(expected) = &vector.md5 else { continue };
            let sign = sign(SignType::Md5, &vector);
            assert!(sign.matches(expected));
            for wrong in
                ["", &expected.to_lowercase(), &expected[..31], &format!("{expected}0"), &format!(" {expected}")]
            {
                assert!(!sign.matches(wrong), "{wrong}");
            }
        }
    }

    #[test]
    fn the_sign_itself_and_empty_fields_are_left_out() {
        let key = SecretString::from("192006250b4c09247ec02edce69f6a2d");
        let plain = SignType::Md5.sign(&key, [("a", "1"), ("z", "2")].into_iter());
        let more = [("a", "1"), ("empty", ""), ("sign", "FEED"), ("z", "2")];
        assert_eq!(SignType::Md5.sign(&key, more.into_iter()).as_str(), plain.as_str());
    }

    #[test]
    fn debug_shows_no_sign() {
        let sign = SignType::Md5.sign(&SecretString::from("k"), [("a", "1")].into_iter());
        assert!(!format!("{sign:?}").contains(&sign.as_str()[..4]));
    }
}
