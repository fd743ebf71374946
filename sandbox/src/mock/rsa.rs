//! RSA as API v3 signs with it (PKCS#1 v1.5 over SHA-256), in plain numbers. Written for the mock and not shared with the
//! function, so that a mistake in one is not cancelled by the same mistake in the other. It hides no key from somebody
//! with a stop-watch: its keys are published here.

use std::{fmt, sync::LazyLock};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use num_bigint::BigUint;
use sha2::{Digest, Sha256};

/// The size of the keys and of their signatures, in bytes.
const SIZE: usize = 256;

/// The public exponent of the keys.
const EXPONENT: u32 = 65537;

/// A SHA-256 digest's `DigestInfo`, up to the digest.
const DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// A public key of [`SIZE`] and [`EXPONENT`] as `SubjectPublicKeyInfo`, before its modulus and after it.
const PUBLIC_KEY_START: [u8; 33] = [
    0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00,
];
const PUBLIC_KEY_END: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];

/// Keys that were made for the mocks: PKCS#8 in base64, one per line, without the marks by which scanners know a secret.
static KEYS: LazyLock<Vec<RsaKey>> =
    LazyLock::new(|| include_str!("rsa/keys.txt").lines().filter_map(|line| RsaKey::from_base64(line).ok()).collect());

/// One of the keys that were made for the mocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A merchant's (`apiclient_key.pem`); there are [`Key::MERCHANTS`] of them.
    Merchant(usize),
    /// WeChat Pay's public key's (`pub_key.pem`).
    Platform,
    /// That of WeChat Pay's certificate.
    Certificate,
    /// Somebody else's.
    Foreign,
}

impl Key {
    /// How many keys there are for merchants.
    pub const MERCHANTS: usize = 3;

    fn rsa(self) -> Option<&'static RsaKey> {
        KEYS.get(match self {
            Self::Merchant(number) => number % Self::MERCHANTS,
            Self::Platform => Self::MERCHANTS,
            Self::Certificate => Self::MERCHANTS + 1,
            Self::Foreign => Self::MERCHANTS + 2,
        })
    }

    /// The private key as PEM (PKCS#8).
    #[must_use]
    pub fn private_pem(self) -> String {
        self.rsa().map(|key| pem("PRIVATE KEY", &key.pkcs8)).unwrap_or_default()
    }

    /// The public key as PEM.
    #[must_use]
    pub fn public_pem(self) -> String {
        let encoded = |key: &RsaKey| [&PUBLIC_KEY_START[..], &bytes(&key.modulus), &PUBLIC_KEY_END].concat();
        self.rsa().map(|key| pem("PUBLIC KEY", &encoded(key))).unwrap_or_default()
    }

    /// The signature of a message, in base64.
    #[must_use]
    pub fn sign(self, message: &str) -> String {
        self.rsa().map(|key| key.sign(message)).unwrap_or_default()
    }

    /// Whether a signature in base64 is this key's, of this message.
    #[must_use]
    pub fn verify(self, message: &str, signature: &str) -> bool {
        self.rsa().is_some_and(|key| key.verify(message, signature))
    }
}

/// A private key: its modulus, and what signing by the Chinese remainder theorem needs.
struct RsaKey {
    pkcs8: Vec<u8>,
    modulus: BigUint,
    primes: [BigUint; 2],
    exponents: [BigUint; 2],
    coefficient: BigUint,
}

impl RsaKey {
    fn from_base64(text: &str) -> anyhow::Result<Self> {
        let pkcs8 = BASE64_STANDARD.decode(text)?;
        let numbers = numbers(&pkcs8).context("not a private key in PKCS#8")?;
        let [_version, modulus, _public, _private, p, q, dp, dq, coefficient] = numbers;
        Ok(Self { pkcs8, modulus, primes: [p, q], exponents: [dp, dq], coefficient })
    }

    fn sign(&self, message: &str) -> String {
        let (padded, [p, q], [dp, dq]) = (padded(message), &self.primes, &self.exponents);
        let [at_p, at_q] = [(dp, p), (dq, q)].map(|(exponent, prime)| padded.modpow(exponent, prime));
        let apart = (p + at_p - &at_q % p) * &self.coefficient % p;
        BASE64_STANDARD.encode(bytes(&(at_q + apart * q)))
    }

    fn verify(&self, message: &str, signature: &str) -> bool {
        let signature = BASE64_STANDARD.decode(signature).unwrap_or_default();
        signature.len() == SIZE
            && BigUint::from_bytes_be(&signature).modpow(&EXPONENT.into(), &self.modulus) == padded(message)
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RsaKey")
    }
}

/// What is signed: the message's digest, padded to the size of the key.
fn padded(message: &str) -> BigUint {
    let end = [&DIGEST_INFO[..], &Sha256::digest(message.as_bytes())].concat();
    let mut padded = vec![0xff; SIZE - end.len() - 1];
    padded.splice(..2, [0, 1]);
    padded.push(0);
    padded.extend(end);
    BigUint::from_bytes_be(&padded)
}

/// A number as long as a key.
fn bytes(number: &BigUint) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    [vec![0; SIZE.saturating_sub(bytes.len())], bytes].concat()
}

/// The nine numbers of a private key in PKCS#8: version, n, e, d, p, q, d mod p-1, d mod q-1, 1/q mod p.
fn numbers(pkcs8: &[u8]) -> Option<[BigUint; 9]> {
    let (mut outer, _) = element(pkcs8, 0x30)?;
    let mut inner = [0x02, 0x30, 0x04].into_iter().try_fold(&[][..], |_, tag| {
        let (content, rest) = element(outer, tag)?;
        outer = rest;
        Some(content)
    })?;
    (inner, _) = element(inner, 0x30)?;
    let mut numbers = Vec::new();
    while !inner.is_empty() {
        let (number, rest) = element(inner, 0x02)?;
        numbers.push(BigUint::from_bytes_be(number));
        inner = rest;
    }
    numbers.try_into().ok()
}

/// The content of the first element of a DER encoding, which must have this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], mut rest) = der.split_first_chunk()?;
    let mut length = usize::from(length);
    if length >= 0x80 {
        let (digits, after) = rest.split_at_checked(length - 0x80)?;
        length = digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit));
        rest = after;
    }
    (found == tag).then(|| rest.split_at_checked(length))?
}

/// PEM with its usual marks, which stand nowhere in the sources.
fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio_rustls::rustls::{
        SignatureScheme,
        crypto::ring::sign::any_supported_type,
        pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer, pem::PemObject},
    };

    use super::*;

    #[test]
    fn every_vector_signs_and_verifies_as_published() {
        let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors-v3.json")).unwrap();
        for (list, key) in [("requests", Key::Merchant(0)), ("replies", Key::Platform)] {
            for vector in vectors[list].as_array().unwrap() {
                let [message, signature] = ["message", "signature"].map(|name| vector[name].as_str().unwrap());
                assert_eq!(key.sign(message), signature, "{}", vector["name"]);
                assert!(key.verify(message, signature), "{}", vector["name"]);
                assert!(!key.verify(&message.replacen('1', "2", 1), signature), "{}", vector["name"]);
                assert!(!Key::Foreign.verify(message, signature), "{}", vector["name"]);
                assert!(!key.verify(message, &format!("WECHATPAY/SIGNTEST/{signature}")), "{}", vector["name"]);
            }
        }
    }

    #[test]
    fn ring_takes_every_key_and_signs_the_same_with_it() {
        let mut all = Vec::new();
        for key in (0..Key::MERCHANTS).map(Key::Merchant).chain([Key::Platform, Key::Certificate, Key::Foreign]) {
            let private = PrivateKeyDer::from_pem_slice(key.private_pem().as_bytes()).unwrap();
            let ring = any_supported_type(&private).unwrap();
            assert_eq!(
                ring.public_key().unwrap(),
                SubjectPublicKeyInfoDer::from_pem_slice(key.public_pem().as_bytes()).unwrap()
            );
            let signer = ring.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).unwrap();
            assert_eq!(key.sign("message"), BASE64_STANDARD.encode(signer.sign(b"message").unwrap()));
            all.push(key.public_pem());
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), Key::MERCHANTS + 3, "no key is there twice");
    }
}
