//! Signatures of WeChat Pay API v3: SHA-256 with RSA, PKCS#1 v1.5, in base64, over lines that each end with a line feed
//! (<https://pay.weixin.qq.com/doc/v3/merchant/4012365336>, <https://pay.weixin.qq.com/doc/v3/merchant/4013053420>).

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::Method;
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair},
};

use super::der::{self, Der};
use crate::wechat_pay::wire::Signature;

/// The text of a request that is signed; `path` with the query, as it is sent.
pub(super) fn request_text(method: &Method, path: &str, timestamp: u64, nonce: &str, body: &str) -> String {
    format!("{method}\n{path}\n{timestamp}\n{nonce}\n{body}\n")
}

/// The text of a response that is signed; without a body its last line is empty.
pub(super) fn response_text(timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    [timestamp.as_bytes(), b"\n", nonce.as_bytes(), b"\n", body, b"\n"].concat()
}

/// The merchant's private key.
pub(super) struct PrivateKey(RsaKeyPair);

impl PrivateKey {
    /// Takes the DER of PKCS#8 or PKCS#1: an RSA key of 2048 to 4096 bits whose parts belong together.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        let key = Self(RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).ok()?);
        // Whether the exponents belong to the modulus is found out by signing alone.
        key.try_sign("").map(|_| key)
    }

    /// The public half.
    pub(super) fn public_key(&self) -> PublicKey {
        let PublicKeyComponents { n, e } = self.0.public().into();
        PublicKey { modulus: n, exponent: e }
    }

    #[expect(clippy::expect_used, reason = "a key that has signed once signs every text")]
    pub(super) fn sign(&self, text: &str) -> Signature {
        self.try_sign(text).expect("the key has signed before")
    }

    fn try_sign(&self, text: &str) -> Option<Signature> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).ok()?;
        Some(Signature(BASE64_STANDARD.encode(signature)))
    }
}

/// Two keys are equal when their public halves are.
impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.public_key() == other.public_key()
    }
}

/// Without the key.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// A public key that replies are verified with: big-endian numbers without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl PublicKey {
    /// Takes the DER of a `SubjectPublicKeyInfo` or of PKCS#1: an RSA key of 2048 to 8192 bits.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        let pkcs1 = unwrap_subject_public_key_info(der).unwrap_or(der);
        let mut outer = Der::new(pkcs1);
        let mut numbers = Der::new(outer.take(der::SEQUENCE)?);
        let (modulus, exponent) = (numbers.take_positive()?, numbers.take_positive()?);
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        let is_fit = outer.is_empty()
            && numbers.is_empty()
            && (2048..=8192).contains(&bits(modulus))
            && (2..=33).contains(&bits(exponent))
            && is_odd(modulus)
            && is_odd(exponent);
        is_fit.then(|| Self { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
    }

    /// Whether this is the text's signature with the key's other half.
    pub(super) fn verifies(&self, text: &[u8], signature: &str) -> bool {
        let key = PublicKeyComponents { n: &self.modulus, e: &self.exponent };
        let signature = BASE64_STANDARD.decode(signature);
        signature.is_ok_and(|signature| key.verify(&RSA_PKCS1_2048_8192_SHA256, text, &signature).is_ok())
    }
}

/// The PKCS#1 key in a `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7) of an RSA key.
fn unwrap_subject_public_key_info(der: &[u8]) -> Option<&[u8]> {
    /// 1.2.840.113549.1.1.1, rsaEncryption.
    const RSA_ENCRYPTION: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let mut outer = Der::new(der);
    let mut info = Der::new(outer.take(der::SEQUENCE)?);
    let mut algorithm = Der::new(info.take(der::SEQUENCE)?);
    let is_rsa = algorithm.take(der::OBJECT_IDENTIFIER)? == RSA_ENCRYPTION;
    let (unused_bits, key) = info.take(der::BIT_STRING)?.split_first()?;
    (is_rsa && *unused_bits == 0 && outer.is_empty() && info.is_empty()).then_some(key)
}

/// How many bits a number has that begins with a byte other than zero.
fn bits(number: &[u8]) -> usize {
    let leading = number.first().map_or(0, |first| first.leading_zeros() as usize);
    number.len() * 8 - leading
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wechat_pay::v3::vectors::{self, VECTORS, der, pkcs1};

    fn private(name: &str) -> PrivateKey {
        PrivateKey::from_der(&der(name)).unwrap()
    }

    fn public(name: &str) -> PublicKey {
        PublicKey::from_der(&der(name)).unwrap()
    }

    /// With signatures that openssl made, and the one that WeChat Pay's documentation shows.
    #[test]
    fn every_request_of_the_vectors_is_signed_as_published() {
        let key = private("merchant_private_pkcs8_b64");
        let requests = VECTORS["requests"].as_array().unwrap().iter().chain([&VECTORS["docs_request"]]);
        let mut checked = 0;
        for vector in requests {
            let field = |name: &str| vector[name].as_str().unwrap();
            let (method, timestamp) = (Method::from_bytes(field("method").as_bytes()).unwrap(), field("timestamp"));
            let text = request_text(&method, field("url"), timestamp.parse().unwrap(), field("nonce"), field("body"));
            assert!(vector["message"].is_null() || text == field("message"), "{vector}");
            assert_eq!(key.sign(&text).as_str(), field("signature"), "{vector}");
            assert!(public("merchant_public_spki_b64").verifies(text.as_bytes(), field("signature")), "{vector}");
            checked += 1;
        }
        assert_eq!(checked, 7);
    }

    #[test]
    fn every_reply_of_the_vectors_is_verified_and_none_that_was_changed() {
        let replies = VECTORS["replies"].as_array().unwrap().iter().map(|reply| (reply, "platform_public_spki_b64"));
        let mut checked = 0;
        for (vector, key) in replies.chain([(&VECTORS["docs_reply"], "docs_wxpay_public_spki_b64")]) {
            let field = |name: &str| vector[name].as_str().unwrap();
            let (key, signature) = (public(key), field("signature"));
            let text = |timestamp, nonce, body: &str| response_text(timestamp, nonce, body.as_bytes());
            let (timestamp, nonce, body) = (field("timestamp"), field("nonce"), field("body"));
            assert!(key.verifies(&text(timestamp, nonce, body), signature), "{vector}");
            for other in [
                text("1722850422", nonce, body),
                text(timestamp, "d824f2e086d3c1df967785d13fcd22ee", body),
                text(timestamp, nonce, &format!("{body} ")),
                text(timestamp, nonce, &format!("{body}\n")),
            ] {
                assert!(!key.verifies(&other, signature), "{vector}");
            }
            let last = if signature.ends_with("w==") { "x==" } else { "y==" };
            for wrong in
                ["", "AAAA", &signature[1..], &signature.replace('=', ""), &format!("{}{last}", &signature[..341])]
            {
                assert!(!key.verifies(&text(timestamp, nonce, body), wrong), "{wrong}");
            }
            assert!(!public("merchant_public_spki_b64").verifies(&text(timestamp, nonce, body), signature), "{vector}");
            checked += 1;
        }
        assert_eq!(checked, 9);
    }

    #[test]
    fn a_key_is_the_same_in_either_wrapper() {
        let (pkcs8, spki) = (der("merchant_private_pkcs8_b64"), der("merchant_public_spki_b64"));
        assert!(PrivateKey::from_der(&pkcs1(&pkcs8)).unwrap() == PrivateKey::from_der(&pkcs8).unwrap());
        let public = PublicKey::from_der(&spki).unwrap();
        assert_eq!(PublicKey::from_der(unwrap_subject_public_key_info(&spki).unwrap()).as_ref(), Some(&public));
        assert_eq!(private("merchant_private_pkcs8_b64").public_key(), public);
        assert!(private("merchant_private_pkcs8_b64") != private("platform_private_pkcs8_b64"));
    }

    #[test]
    fn a_key_that_is_cut_changed_or_too_short_is_none() {
        let (pkcs8, spki) = (der("merchant_private_pkcs8_b64"), der("merchant_public_spki_b64"));
        for length in (0..pkcs8.len()).step_by(7) {
            assert!(PrivateKey::from_der(&pkcs8[..length]).is_none(), "{length}");
        }
        for length in 0..spki.len() {
            assert!(PublicKey::from_der(&spki[..length]).is_none(), "{length}");
        }
        assert!(PublicKey::from_der(&[&spki[..], &[0]].concat()).is_none(), "something follows");
        // dP, which ring looks at when it signs; its last byte stands 2 × 131 bytes before the end.
        let mut changed = pkcs8.clone();
        let place = changed.len() - 263;
        changed[place] ^= 4;
        assert!(RsaKeyPair::from_pkcs8(&changed).is_ok(), "the probe signature alone tells");
        assert!(PrivateKey::from_der(&changed).is_none());
        for modulus in [255, 256] {
            let mut numbers = vec![0x02, 0x82, 1, u8::try_from(modulus - 255).unwrap()];
            numbers.splice(2.., u16::try_from(modulus + 1).unwrap().to_be_bytes());
            numbers.extend([&[0, 0x81][..], &vec![0xff; modulus - 1], &[0x02, 0x03, 0x01, 0x00, 0x01]].concat());
            let header = u16::try_from(numbers.len()).unwrap().to_be_bytes();
            let key = [&[0x30, 0x82][..], &header, &numbers].concat();
            assert_eq!(PublicKey::from_der(&key).is_some(), modulus == 256, "{modulus}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", *vectors::PLATFORM), "PrivateKey(…)");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd_to_be_read(place in 0_usize..294, byte: u8, bytes: Vec<u8>) {
            let mut changed = der("merchant_public_spki_b64");
            changed[place] = byte;
            for der in [changed, bytes] {
                if let Some(key) = PublicKey::from_der(&der) {
                    key.verifies(b"", "AAAA");
                }
                PrivateKey::from_der(&der);
            }
        }
    }
}
