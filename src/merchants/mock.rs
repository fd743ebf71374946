//! Secrets Manager with any number of secrets, and a wall clock, on tokio's paused one.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Merchants, SecretId, cached::CachedMerchant, secrets_manager::SecretsManager};
use crate::{
    aws::{
        Service,
        mock::{self, Behaviour},
    },
    wechat_pay::Account,
};

pub(crate) const KEY: &str = "192006250b4c09247ec02edce69f6a2d";
pub(crate) const ROTATED: &str = "292006250b4c09247ec02edce69f6a2d";

/// The merchant of whom there is only one.
pub(crate) const MCH_ID: &str = "1900000109";

/// What the secrets of several merchants begin with.
pub(super) const PREFIX: &str = "wechat-pay/";

thread_local! {
    /// How far the wall clock is ahead of tokio's, and when that began.
    pub(super) static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static START: Instant = Instant::now();
}

/// A wall clock that goes with tokio's paused one, and can be set.
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(1) + AHEAD.get() + START.with(Instant::elapsed)
}

/// What Secrets Manager does with a read.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Secret(String),
    Binary(Vec<u8>),
    Error(&'static str),
    Status(u16),
    Unreachable,
    Hang,
}

/// Secrets Manager: what it does with reads of the secrets that a test has set, and with those of all others.
#[derive(Clone, Debug)]
pub(crate) struct MockSecrets(Arc<Mutex<Secrets>>);

#[derive(Debug)]
struct Secrets {
    answers: HashMap<String, Answer>,
    others: Answer,
    reads: Vec<String>,
}

impl MockSecrets {
    pub(crate) fn new(others: Answer) -> Self {
        Self(Arc::new(Mutex::new(Secrets { answers: HashMap::new(), others, reads: Vec::new() })))
    }

    /// A cache of one secret.
    pub(super) fn cache(&self, ttl: Duration) -> CachedMerchant {
        CachedMerchant::new(self.client(), "secret".to_owned(), None, ttl, wall_clock)
    }

    /// The merchants of whom each has a secret of his own.
    pub(super) fn merchants(&self, ttl: Duration) -> Merchants {
        let secret_id = SecretId::PerMerchant(PREFIX.to_owned());
        Merchants::with_clock(secret_id, self.settings(), ttl, wall_clock)
    }

    /// The one merchant, as the function has him.
    pub(crate) fn only(&self) -> Merchants {
        Merchants::with_clock(SecretId::One("secret".to_owned()), self.settings(), Duration::from_mins(5), wall_clock)
    }

    pub(super) fn settings(&self) -> aws_types::SdkConfig {
        let secrets = Arc::clone(&self.0);
        mock::settings(Service::SecretsManager, move |request| secrets.lock().unwrap().read(request))
    }

    fn client(&self) -> SecretsManager {
        SecretsManager::new(self.settings())
    }

    /// Sets what reads come to, but for those of secrets that were set by name.
    pub(crate) fn set(&self, others: Answer) {
        self.0.lock().unwrap().others = others;
    }

    /// Sets what reads of a merchant's secret come to, where there are several.
    pub(super) fn set_for(&self, mch_id: &str, answer: Answer) {
        self.0.lock().unwrap().answers.insert(format!("{PREFIX}{mch_id}"), answer);
    }

    /// How often a secret was read.
    pub(crate) fn reads(&self) -> usize {
        self.0.lock().unwrap().reads.len()
    }

    /// How often the secret of one of several merchants was read.
    pub(super) fn reads_of(&self, mch_id: &str) -> usize {
        let name = format!("{PREFIX}{mch_id}");
        self.0.lock().unwrap().reads.iter().filter(|read| **read == name).count()
    }
}

impl Secrets {
    fn read(&mut self, request: &Value) -> Behaviour {
        let name = request["SecretId"].as_str().unwrap();
        self.reads.push(name.to_owned());
        match self.answers.get(name).unwrap_or(&self.others) {
            Answer::Secret(secret) => Behaviour::Answer(200, json!({"SecretString": secret})),
            Answer::Binary(secret) => Behaviour::Answer(200, json!({"SecretBinary": BASE64_STANDARD.encode(secret)})),
            Answer::Error(code) => Behaviour::Answer(400, json!({"__type": code, "message": "a message"})),
            Answer::Status(status) => Behaviour::Answer(*status, Value::Null),
            Answer::Unreachable => Behaviour::Lost,
            Answer::Hang => Behaviour::Hang,
        }
    }
}

pub(crate) fn secret_of(mch_id: &str, api_key: &str) -> Answer {
    Answer::Secret(json!({"appid": "wx8888888888888888", "mch_id": mch_id, "api_key": api_key}).to_string())
}

pub(super) fn merchant_of(mch_id: &str, api_key: &str) -> Account {
    let Answer::Secret(secret) = secret_of(mch_id, api_key) else { unreachable!() };
    Account::from_secret(secret.as_bytes()).unwrap()
}

pub(crate) fn secret(api_key: &str) -> Answer {
    secret_of(MCH_ID, api_key)
}

pub(crate) fn merchant(api_key: &str) -> Account {
    merchant_of(MCH_ID, api_key)
}

/// A deadline that leaves time for everything.
pub(super) fn far() -> Instant {
    Instant::now() + Duration::from_mins(1)
}
