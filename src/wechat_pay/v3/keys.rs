//! The keys of both sides, as the secret has them: the merchant's private key with its certificate's serial number, and the
//! public keys that replies are verified with, by their IDs.
//!
//! They are parsed once, when the secret is read. The usual mistakes are reported by name
//! (<https://pay.weixin.qq.com/doc/v3/merchant/4013053249> shows which file is which).

use std::{collections::BTreeMap, fmt};

use rustls::pki_types::pem::SectionKind;

use super::{
    pem::Pem,
    signature::{PrivateKey, PublicKey},
};
use crate::wechat_pay::{secret::Malformed, wire::Signature};

/// Length of a certificate's serial number on the wire, in hexadecimal digits.
const SERIAL_DIGITS: usize = 40;

/// The fewest digits that a serial number has whose leading zeros were left out.
const MIN_SERIAL_DIGITS: usize = 30;

/// What the ID of a public key of WeChat Pay's (微信支付公钥) begins with; a platform certificate (平台证书) has a serial
/// number in its place.
const PUBLIC_KEY_ID_PREFIX: &str = "PUB_KEY_ID_";

/// A merchant's keys for API v3.
#[derive(PartialEq)]
pub(in crate::wechat_pay) struct Keys {
    private_key: PrivateKey,
    serial_no: String,
    public_key_id: String,
    /// What replies are verified with, by ID.
    trusted: BTreeMap<String, PublicKey>,
}

/// The fields of the secret that hold them.
pub(in crate::wechat_pay) struct KeyFields<'a> {
    pub(in crate::wechat_pay) private_key: &'a str,
    pub(in crate::wechat_pay) serial_no: &'a str,
    pub(in crate::wechat_pay) public_key_id: &'a str,
    pub(in crate::wechat_pay) public_key: &'a str,
    /// IDs and keys.
    pub(in crate::wechat_pay) other_public_keys: &'a [(String, String)],
}

impl Keys {
    /// Reads the keys.
    ///
    /// # Errors
    /// [`Malformed`] names the field and the mistake.
    pub(in crate::wechat_pay) fn read(fields: &KeyFields<'_>) -> Result<Self, Malformed> {
        let private_key = read_private_key(fields.private_key)?;
        let serial_no = serial_number(fields.serial_no).ok_or(Malformed::Field(
            "serial_no",
            "must be the serial number of apiclient_cert.pem, 40 hexadecimal digits",
        ))?;
        let own = (serial_no.as_str(), &private_key.public_key());
        let (public_key_id, public_key) =
            read_public_key(("public_key_id", fields.public_key_id), ("public_key", fields.public_key), own)?;
        let mut trusted = BTreeMap::from([(public_key_id.clone(), public_key)]);
        for (id, key) in fields.other_public_keys {
            let name = "other_public_keys";
            let (id, key) = read_public_key((name, id), (name, key), own)?;
            if trusted.get(&id).is_some_and(|known| *known != key) {
                return Err(Malformed::Field(name, "has two different keys of one ID"));
            }
            trusted.insert(id, key);
        }
        Ok(Self { private_key, serial_no, public_key_id, trusted })
    }

    /// Signs a text with the private key.
    pub(super) fn sign(&self, text: &str) -> Signature {
        self.private_key.sign(text)
    }

    /// The serial number of the certificate that belongs to the private key: 40 upper-case digits.
    pub(super) fn serial_no(&self) -> &str {
        &self.serial_no
    }

    /// The ID of the key that replies are to be signed with.
    pub(super) fn public_key_id(&self) -> &str {
        &self.public_key_id
    }

    /// The public key of an ID, if the secret has it.
    pub(super) fn public_key(&self, id: &str) -> Option<&PublicKey> {
        self.trusted.get(id)
    }
}

/// Without the keys; IDs and serial numbers go over the wire and into log lines.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("serial_no", &self.serial_no)
            .field("public_key_ids", &self.trusted.keys())
            .finish_non_exhaustive()
    }
}

fn read_private_key(text: &str) -> Result<PrivateKey, Malformed> {
    let rule = match Pem::read(text) {
        Pem::Section(SectionKind::PrivateKey | SectionKind::RsaPrivateKey, der) => match PrivateKey::from_der(&der) {
            Some(key) => return Ok(key),
            None => "must be a whole RSA key of 2048 to 4096 bits",
        },
        Pem::Section(SectionKind::Certificate, _) => "is a certificate: it must be the key, apiclient_key.pem",
        Pem::Section(SectionKind::PublicKey, _) => "is a public key: it must be the private one, apiclient_key.pem",
        Pem::Section(SectionKind::EcPrivateKey, _) => "must be an RSA key",
        Pem::Encrypted => "is encrypted: it must be stored without its passphrase",
        Pem::Section(..) | Pem::Invalid => {
            "must be PEM: apiclient_key.pem, -----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY----- included"
        }
    };
    Err(Malformed::Field("private_key", rule))
}

/// Reads an ID and its key, each with the name of its field, and compares them with the merchant's own.
fn read_public_key(
    (id_field, id): (&'static str, &str),
    (key_field, text): (&'static str, &str),
    (own_serial_no, own_key): (&str, &PublicKey),
) -> Result<(String, PublicKey), Malformed> {
    let id = public_key_id(id).ok_or(Malformed::Field(
        id_field,
        "must be PUB_KEY_ID_… or the serial number of a platform certificate, 40 hexadecimal digits",
    ))?;
    if id == own_serial_no {
        let rule = "is serial_no, your own certificate's: it must be the ID of WeChat Pay's public key, PUB_KEY_ID_…";
        return Err(Malformed::Field(id_field, rule));
    }
    let rule = match Pem::read(text) {
        Pem::Section(SectionKind::PublicKey, der) => match PublicKey::from_der(&der) {
            Some(key) if key == *own_key => {
                "is the public half of your own private_key: it must be WeChat Pay's, pub_key.pem"
            }
            Some(key) => return Ok((id, key)),
            None => "must be a whole RSA key of 2048 to 8192 bits",
        },
        Pem::Section(SectionKind::Certificate, _) => {
            "is a certificate: it must be a public key (openssl x509 -pubkey -noout prints a certificate's)"
        }
        Pem::Section(SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey, _)
        | Pem::Encrypted => "is a private key: it must be WeChat Pay's public key, pub_key.pem",
        Pem::Section(..) | Pem::Invalid => {
            "must be PEM: pub_key.pem, -----BEGIN PUBLIC KEY----- and -----END PUBLIC KEY----- included"
        }
    };
    Err(Malformed::Field(key_field, rule))
}

fn public_key_id(text: &str) -> Option<String> {
    let text = text.trim();
    let is_id = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match text.strip_prefix(PUBLIC_KEY_ID_PREFIX) {
        Some(rest) => (is_id(rest) && text.len() <= 128).then(|| text.to_owned()),
        None => serial_number(text),
    }
}

/// A certificate's serial number as it goes over the wire: 40 upper-case digits. OpenSSL's several forms have colons, lower
/// case, or other leading zeros.
fn serial_number(text: &str) -> Option<String> {
    let digits: String = text.trim().chars().filter(|character| *character != ':').collect();
    let significant = digits.trim_start_matches('0').to_ascii_uppercase();
    let is_serial = digits.len() >= MIN_SERIAL_DIGITS
        && significant.len() <= SERIAL_DIGITS
        && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_serial.then(|| format!("{significant:0>SERIAL_DIGITS$}"))
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use serde_json::{Value, json};

    use super::*;
    use crate::wechat_pay::{
        Account,
        v3::vectors::{PUBLIC_KEY_ID, SERIAL_NO, account, der, keys, pem, pkcs1, private_pem, public_pem, secret},
    };

    /// RSA with 1024 bits, PKCS#8.
    const SHORT_KEY: &str = "MIICeQIBADANBgkqhkiG9w0BAQEFAASCAmMwggJfAgEAAoGBAMWyU3D14yVVXdFUTVcQXJ8fB9gOUORXt9c76SDrDdQjaroO5YUmZj9ha+HVxMo5OR52iTWLqLhdcztwLAxBzdFeBXNUTszByBs86S8Rf9u9PyKLFW/RGHHqrnrI9cs17xv6zbxoTJVp5U9i8dtpvix8BuriF/bB5FuDwHjLrg+ZAgMBAAECgYEAqW2pAThaERbWLp5XIfSNzHklmc67GNbsYXOg2mtYEKTBxO8bWT+NhWgSsxsnakAcabUg5ljoogjExv3dYivLHM3hckKjWHxgR0VNOVltN86liLGo+d4ZxhuMCkzoc273nBzdYevzgYP5MLpIBVjl1KWN2Z9GPxNaqrs1D61nyLkCQQD6o5Q8kPSTE40BF+2ojmfUrgaL6/xtNEglotWmZf6P/I9bIMrFnfTak7U5vA8FLoiXS2BfUPViZtoM+APkNK1fAkEAyezZ0HUhpfIweq2OD+D+OUEMSOIYGWz2q1/nRnKEjcIl/tjg7d9Fjw9vrv/2REt3BzTXEdLatu42qPd2hlHuBwJBAPqKH7j3UXPfvDiWmbu/Ni1UFDk0GS10cJYmkpj2JaP627ZFLkyiW8tOkX537S/J10IdV+WPwOqvU1JZbVJmEdMCQQCSc0IWup1I6jrW/wFF6vz3MYJjaffomOreqJPouC4DUoiUKWAZphGhDKUH24UVS1Zs15oUx0Tx4BusuK4yBUIJAkEA7vMqrxGKwYO1Khnooizv64yt3TMoE6rDrtNa27akAg6XZE6iXEnaaod7v2BO+mZb8yjlczpnywzd0jVLRUMD5g==";

    /// P-256, PKCS#8.
    const EC_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgnEbGzOXFhl1PkXZii0jR+NAVBO+XYYT5b5Bwt3LZc8ihRANCAARJ5wASvVliUOO5w75Mz4T6L6qzMC/EWU0mGpaTQ9zPRhw/tM+bt48XHTDaqCFlzU5REGa/Gv7UF7/WzQJ+sHIM";

    fn with(field: &str, value: &str) -> Result<Account, Malformed> {
        let mut secret = secret("partner");
        secret[field] = json!(value);
        Account::from_secret(secret.to_string().as_bytes())
    }

    fn with_others(others: &Value) -> Result<Account, Malformed> {
        let mut secret = secret("partner");
        secret["other_public_keys"] = others.clone();
        Account::from_secret(secret.to_string().as_bytes())
    }

    #[test]
    fn keys_are_taken_in_either_wrapper_and_whatever_became_of_their_lines() {
        let private = pem("RSA PRIVATE KEY", &pkcs1(&der("merchant_private_pkcs8_b64")));
        let spki = der("platform_public_spki_b64");
        // Header, algorithm and the bit string's own header have 24 bytes.
        let public = pem("RSA PUBLIC KEY", &spki[24..]);
        for (field, text) in [
            ("private_key", private.clone()),
            ("private_key", private.replace('\n', " ")),
            ("private_key", private_pem().replace('\n', "\\n")),
            ("private_key", private_pem().replace('\n', "\r\n")),
            ("public_key", public),
            ("public_key", public_pem().replace('\n', " ")),
            ("public_key", public_pem().replace('\n', "\\n")),
            ("public_key", format!("  {}", public_pem())),
        ] {
            assert_eq!(with(field, &text).unwrap(), account("partner"), "{text}");
        }
    }

    #[test]
    fn the_usual_mistakes_are_told_by_field_and_name_and_never_by_value() {
        let certificate = pem("CERTIFICATE", &der("platform_cert_b64"));
        let own_public = pem("PUBLIC KEY", &der("merchant_public_spki_b64"));
        let short_private = pem("PRIVATE KEY", &BASE64_STANDARD.decode(SHORT_KEY).unwrap());
        let ec = pem("PRIVATE KEY", &BASE64_STANDARD.decode(EC_KEY).unwrap());
        let encrypted = pem("ENCRYPTED PRIVATE KEY", b"whatever");
        let encrypted_pkcs1 =
            private_pem().replace("KEY-----\nMII", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMII");
        let bare = private_pem().lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n");
        for (field, value, told) in [
            ("private_key", certificate.as_str(), "is a certificate"),
            ("private_key", &own_public, "is a public key"),
            ("private_key", &public_pem(), "is a public key"),
            ("private_key", &encrypted, "is encrypted"),
            ("private_key", &encrypted_pkcs1, "is encrypted"),
            ("private_key", &encrypted.replace('\n', " "), "is encrypted"),
            ("private_key", &bare, "must be PEM"),
            ("private_key", "apiclient_key.pem", "must be PEM"),
            ("private_key", &private_pem()[..1000], "must be PEM"),
            ("private_key", &short_private, "of 2048 to 4096 bits"),
            ("private_key", &ec, "RSA key"),
            ("private_key", &pem("EC PRIVATE KEY", b"whatever"), "RSA key"),
            ("public_key", &certificate, "is a certificate"),
            ("public_key", &private_pem(), "is a private key"),
            ("public_key", &encrypted, "is a private key"),
            ("public_key", &own_public, "public half of your own private_key"),
            ("public_key", "PUB_KEY_ID_01", "must be PEM"),
            ("public_key", &pem("PUBLIC KEY", &der("platform_public_spki_b64")[..200]), "of 2048 to 8192 bits"),
            ("public_key_id", SERIAL_NO, "is serial_no"),
            ("public_key_id", &SERIAL_NO.to_lowercase(), "is serial_no"),
            ("public_key_id", "PUB_KEY_ID_", "must be PUB_KEY_ID_…"),
            ("public_key_id", "PUB_KEY_ID_0\r\nx: y", "must be PUB_KEY_ID_…"),
            ("public_key_id", &public_pem(), "must be PUB_KEY_ID_…"),
            ("serial_no", "", "is missing"),
            ("serial_no", PUBLIC_KEY_ID, "40 hexadecimal digits"),
            ("serial_no", &"1".repeat(48), "40 hexadecimal digits"),
            ("serial_no", "408B07E79B8269FEC3D5D3E6AB8ED", "40 hexadecimal digits"),
            ("serial_no", "G08B07E79B8269FEC3D5D3E6AB8ED163A6A380DB", "40 hexadecimal digits"),
        ] {
            let malformed = with(field, value).unwrap_err();
            let Malformed::Field(name, rule) = malformed else { panic!("{malformed:?}") };
            assert!(name == field && rule.contains(told), "{field} {told}: {malformed}");
            let text = malformed.to_string();
            let values = value.lines().filter(|line| line.len() >= 20 && !line.starts_with('-'));
            assert!(values.into_iter().all(|line| !text.contains(line)), "{text}");
        }
        for (others, told) in [
            (json!({SERIAL_NO: public_pem()}), "is serial_no"),
            (json!({"1": public_pem()}), "must be PUB_KEY_ID_…"),
            (json!({"PUB_KEY_ID_2": certificate}), "is a certificate"),
            (json!({"PUB_KEY_ID_2": private_pem()}), "is a private key"),
            (json!({"PUB_KEY_ID_2": own_public}), "public half"),
            (json!({PUBLIC_KEY_ID: pem("PUBLIC KEY", &der("docs_wxpay_public_spki_b64"))}), "two different keys"),
        ] {
            let malformed = with_others(&others).unwrap_err();
            assert!(
                matches!(malformed, Malformed::Field("other_public_keys", rule) if rule.contains(told)),
                "{malformed}"
            );
        }
        assert_eq!(
            with_others(&json!({PUBLIC_KEY_ID: public_pem()})).unwrap(),
            account("partner"),
            "the same key again"
        );
    }

    #[test]
    fn a_serial_number_has_40_upper_case_digits_on_the_wire() {
        let short = "0000000000B8269FEC3D5D3E6AB8ED163A6A380D";
        for (given, expected) in [
            (SERIAL_NO, Some(SERIAL_NO)),
            (&SERIAL_NO.to_lowercase(), Some(SERIAL_NO)),
            (&format!("00{SERIAL_NO}"), Some(SERIAL_NO)),
            (&format!(" {SERIAL_NO}\n"), Some(SERIAL_NO)),
            ("40:8b:07:e7:9b:82:69:fe:c3:d5:d3:e6:ab:8e:d1:63:a6:a3:80:db", Some(SERIAL_NO)),
            (&short[10..], Some(short)),
            (&short[9..], Some(short)),
            (&short[11..], None),
            (&format!("1{SERIAL_NO}"), None),
            ("serial=408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB", None),
            ("", None),
        ] {
            assert_eq!(serial_number(given).as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn a_public_key_has_an_id_or_a_platform_certificate_s_serial_number() {
        let serial = "5F1C72E2A8931B72A2E13AF8DEE92471EB397115";
        let by_serial = with("public_key_id", &serial.to_lowercase()).unwrap();
        assert!(keys(&by_serial).public_key(serial).is_some());
        assert_eq!(keys(&by_serial).public_key_id(), serial);
        let others = json!({serial.to_lowercase(): pem("PUBLIC KEY", &der("docs_wxpay_public_spki_b64"))});
        let account = with_others(&others).unwrap();
        let keys = keys(&account);
        assert_eq!(keys.public_key_id(), PUBLIC_KEY_ID);
        assert!(keys.public_key(PUBLIC_KEY_ID).is_some() && keys.public_key(serial).is_some());
        assert!(keys.public_key("PUB_KEY_ID_2").is_none());
    }

    #[test]
    fn accounts_differ_in_every_key_and_name_of_one() {
        let docs_key = pem("PUBLIC KEY", &der("docs_wxpay_public_spki_b64"));
        for (field, other) in [
            ("private_key", pem("PRIVATE KEY", &der("platform_private_pkcs8_b64"))),
            ("serial_no", "5F1C72E2A8931B72A2E13AF8DEE92471EB397115".to_owned()),
            ("public_key_id", "PUB_KEY_ID_2".to_owned()),
            ("public_key", docs_key.clone()),
            ("mch_id", "1900007292".to_owned()),
            ("mch_type", "merchant".to_owned()),
        ] {
            let mut secret = secret("partner");
            // The platform's private key fits no public key of its own.
            secret["public_key"] = json!(docs_key);
            let before = Account::from_secret(secret.to_string().as_bytes()).unwrap();
            secret[field] = if field == "public_key" { json!(public_pem()) } else { json!(other) };
            assert_ne!(Account::from_secret(secret.to_string().as_bytes()).unwrap(), before, "{field}");
        }
        assert_ne!(with_others(&json!({"PUB_KEY_ID_2": docs_key})).unwrap(), account("partner"));
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", account("partner"));
        assert!(shown.contains(SERIAL_NO) && shown.contains(PUBLIC_KEY_ID), "{shown}");
        assert!(shown.len() < 400 && !shown.contains("MII"), "{shown}");
    }
}
