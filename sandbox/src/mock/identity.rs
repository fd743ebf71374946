//! The merchants that the mocks know.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::rsa::Key;

/// Which of WeChat Pay's two kinds of merchant signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MchType {
    /// 服务商: every request names the `sub_mch_id` whose order it is about.
    Partner,
    /// 普通商户: no request names a `sub_mch_id` or `sub_appid`.
    Merchant,
}

/// One of WeChat Pay's two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Api {
    /// API v2: XML, and a key that both sides have.
    V2,
    /// API v3: JSON and RSA.
    V3,
}

/// A merchant's identity and keys, as the gateway knows them and the secret holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The kind of merchant. Only [`MchType::Merchant`] is written into the secret; the other is the default there.
    pub mch_type: MchType,
    /// The interface that the secret has the keys for. The gateway speaks both, whichever it is.
    pub api: Api,
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
    /// The keys of API v3.
    pub v3: V3,
}

/// A merchant and its secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merchant {
    /// The merchant as the gateway knows it.
    pub identity: Identity,
    /// What is wrong with its secret, if anything is.
    pub flaw: Option<Flaw>,
}

/// What can be wrong with a merchant's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flaw {
    /// It has somebody else's key.
    WrongKey,
    /// There is none.
    NoSecret,
}

impl Merchant {
    /// The secret as the function reads it, if there is one.
    #[must_use]
    pub fn secret(&self) -> Option<Value> {
        match self.flaw {
            None => Some(self.identity.secret()),
            Some(Flaw::NoSecret) => None,
            Some(Flaw::WrongKey) => {
                let v3 = V3 { key: Key::Foreign, ..self.identity.v3.clone() };
                Some(Identity { v3, ..self.identity.with_key(&"0".repeat(32)) }.secret())
            }
        }
    }
}

/// The keys of API v3, the merchant's and WeChat Pay's. The defaults are published ones, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V3 {
    /// The merchant's key.
    pub key: Key,
    /// The serial of the merchant's certificate.
    pub serial_no: String,
    /// The name of WeChat Pay's public key.
    pub public_key_id: String,
    /// The serial of WeChat Pay's certificate.
    pub certificate_serial: String,
    /// Whether the secret has the certificate's key besides (`other_public_keys`).
    pub other_public_keys: bool,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            mch_type: MchType::Partner,
            api: Api::V2,
            appid: "wxd678efh567hg6787".to_owned(),
            mch_id: "1230000109".to_owned(),
            api_key: "192006250b4c09247ec02edce69f6a2d".to_owned(),
            sub_appid: None,
            sign_type: None,
            v3: V3::default(),
        }
    }
}

impl Default for V3 {
    fn default() -> Self {
        Self {
            key: Key::Merchant(0),
            serial_no: "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB".to_owned(),
            public_key_id: "PUB_KEY_ID_0000000000000024101100397200000006".to_owned(),
            certificate_serial: "4534ACDA663850A04AD37B52BD48E1D84D841E86".to_owned(),
            other_public_keys: false,
        }
    }
}

impl Identity {
    /// The default identity as an ordinary merchant's.
    #[must_use]
    pub fn merchant() -> Self {
        Self { mch_type: MchType::Merchant, ..Self::default() }
    }

    /// A merchant of this number, with keys of its own as far as the number of its place goes: API v3 has
    /// [`Key::MERCHANTS`] of them.
    #[must_use]
    pub fn numbered(mch_id: &str, place: usize) -> Self {
        let v3 = V3 {
            key: Key::Merchant(place),
            serial_no: format!("{mch_id:0>40}"),
            public_key_id: format!("PUB_KEY_ID_{mch_id:0>34}"),
            ..V3::default()
        };
        Self { mch_id: mch_id.to_owned(), api_key: format!("{mch_id:0>32}"), v3, ..Self::default() }
    }

    /// The same merchant with a secret for this interface.
    #[must_use]
    pub fn with_api(&self, api: Api) -> Self {
        Self { api, ..self.clone() }
    }

    /// The same merchant with another API v2 key.
    #[must_use]
    pub fn with_key(&self, api_key: &str) -> Self {
        Self { api_key: api_key.to_owned(), ..self.clone() }
    }

    /// The secret as the function reads it.
    #[must_use]
    pub fn secret(&self) -> Value {
        let V3 { key, serial_no, public_key_id, certificate_serial, other_public_keys } = &self.v3;
        let mch_type = (self.mch_type == MchType::Merchant).then_some("merchant");
        let mut secret = match self.api {
            Api::V2 => json!({
                "mch_type": mch_type,
                "appid": self.appid,
                "mch_id": self.mch_id,
                "api_key": self.api_key,
                "sub_appid": self.sub_appid,
                "sign_type": self.sign_type,
            }),
            Api::V3 => json!({
                "mch_type": mch_type,
                "mch_id": self.mch_id,
                "private_key": key.private_pem(),
                "serial_no": serial_no,
                "public_key_id": public_key_id,
                "public_key": Key::Platform.public_pem(),
                "other_public_keys": other_public_keys.then(|| json!({certificate_serial: Key::Certificate.public_pem()})),
            }),
        };
        if let Value::Object(fields) = &mut secret {
            fields.retain(|_, value| !value.is_null());
        }
        secret
    }
}
