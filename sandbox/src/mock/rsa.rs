//! RSA as API v3 signs with it (PKCS#1 v1.5 over SHA-256), by another library than the function's, so that a mistake in
//! one is not cancelled by the same mistake in the other.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use rsa::{
    pkcs1v15::{Signature, SigningKey},
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding},
    signature::{Keypair, SignatureEncoding, Signer, Verifier},
};
use sha2::Sha256;

/// Keys that were made for the mocks: PKCS#8 in base64, one per line, without the marks by which scanners know a secret.
static KEYS: LazyLock<Vec<SigningKey<Sha256>>> = LazyLock::new(|| {
    let documents = include_str!("rsa/keys.txt").lines().filter_map(|line| BASE64_STANDARD.decode(line).ok());
    documents.filter_map(|document| SigningKey::from_pkcs8_der(&document).ok()).collect()
});

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

    #[expect(clippy::indexing_slicing, reason = "the mocks' own file has as many keys, and its test shows it")]
    fn rsa(self) -> &'static SigningKey<Sha256> {
        &KEYS[match self {
            Self::Merchant(number) => number % Self::MERCHANTS,
            Self::Platform => Self::MERCHANTS,
            Self::Certificate => Self::MERCHANTS + 1,
            Self::Foreign => Self::MERCHANTS + 2,
        }]
    }

    /// The private key as PEM (PKCS#8).
    #[must_use]
    pub fn private_pem(self) -> String {
        self.rsa().to_pkcs8_pem(LineEnding::LF).map(|pem| pem.to_string()).unwrap_or_default()
    }

    /// The public key as PEM.
    #[must_use]
    pub fn public_pem(self) -> String {
        self.rsa().verifying_key().to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// The signature of a message, in base64.
    #[must_use]
    pub fn sign(self, message: &str) -> String {
        BASE64_STANDARD.encode(self.rsa().sign(message.as_bytes()).to_bytes())
    }

    /// Whether a signature in base64 is this key's, of this message.
    #[must_use]
    pub fn verify(self, message: &str, signature: &str) -> bool {
        let signature = BASE64_STANDARD.decode(signature).unwrap_or_default();
        Signature::try_from(&*signature)
            .is_ok_and(|signature| self.rsa().verifying_key().verify(message.as_bytes(), &signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_vector_signs_and_verifies_as_published() {
        let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors-v3.json")).unwrap();
        for (list, key) in [("requests", Key::Merchant(0)), ("replies", Key::Platform)] {
            for vector in vectors[list].as_array().unwrap() {
                let [message, signature] = ["message", "signature"].map(|name| vector[name].as_str().unwrap());
                assert_eq!(key.sign(message), signature, "{}", vector["name"]);
                assert!(key.verify(message, signature), "{}", vector["name"]);
                for (key, message, signature) in [
                    (key, message.replacen('1', "2", 1), signature.to_owned()),
                    (key, message.to_owned(), format!("WECHATPAY/SIGNTEST/{signature}")),
                    (Key::Certificate, message.to_owned(), signature.to_owned()),
                    (Key::Foreign, message.to_owned(), signature.to_owned()),
                ] {
                    assert!(!key.verify(&message, &signature), "{}", vector["name"]);
                }
            }
        }
    }
}
