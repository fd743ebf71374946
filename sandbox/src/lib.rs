//! Tries `close-order` on a machine without WeChat or AWS. [`mock`] has everything around the function, on loopback;
//! [`chaos`] lets all of it go wrong, [`mod@bench`] measures; [`binary`] builds the real binary. For the tests, the benchmark
//! and people; production never links it.
//!
//! What it checks and signs it does with code of its own ([`mock::signed_xml`]), so that a mistake of the function is not
//! cancelled by the same mistake here.

#![expect(
    clippy::must_use_candidate,
    clippy::missing_errors_doc,
    reason = "whoever calls this is a test: it looks at what it needs, and an error is the machine's: an address that is \
              taken, a program that can't be run"
)]

pub mod bench;
pub mod binary;
pub mod chaos;
mod markdown;
pub mod mock;
pub mod simulate;

use std::{ffi::OsStr, net::SocketAddr};

use mock::{
    event_bus::{self, EventBus},
    function::FunctionBuilder,
    gateway::Gateway,
    identity::{Identity, Merchant},
    secrets::{self, Secrets},
    tls::Authority,
};

/// Where the secrets of several merchants are, as `WECHAT_PAY_SECRET_ID` has it.
const SECRET_OF_EACH: &str = "wechat-pay/{mch_id}";

/// WeChat Pay with two endpoints, Secrets Manager with the key to it, and EventBridge.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// WeChat Pay.
    pub gateway: Gateway,
    /// Secrets Manager.
    pub secrets: Secrets,
    /// EventBridge.
    pub events: EventBus,
    /// The merchant that WeChat Pay and the secret know.
    pub identity: Identity,
}

impl Sandbox {
    /// Starts the mocks on ports of the system's choosing.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_as(Identity::default()).await
    }

    /// Starts the mocks for another merchant.
    pub async fn start_as(identity: Identity) -> anyhow::Result<Self> {
        let any_port = ([127, 0, 0, 1], 0).into();
        Self::start_at([any_port; 2], [any_port; 2], None, identity).await
    }

    /// Starts the mocks over TLS. A function trusts them through `SSL_CERT_FILE`, a file with the authority's
    /// certificate.
    pub async fn start_over_tls(authority: &Authority) -> anyhow::Result<Self> {
        // AWS has another name than WeChat Pay, as in life: a TLS session with one is none with the other.
        let [wechat_pay, aws] = [1, 2].map(|host| ([127, 0, 0, host], 0).into());
        Self::start_at([wechat_pay; 2], [aws; 2], Some(authority), Identity::default()).await
    }

    /// Starts the mocks at these addresses: WeChat Pay at two, Secrets Manager and EventBridge.
    pub async fn start_at(
        wechat_pay: [SocketAddr; 2],
        aws: [SocketAddr; 2],
        authority: Option<&Authority>,
        identity: Identity,
    ) -> anyhow::Result<Self> {
        let tls = authority.map(Authority::server);
        let gateway = Gateway::start(tls.clone(), identity.clone(), &wechat_pay).await?;
        let secrets = Secrets::start(tls.clone(), aws[0], &identity.secret()).await?;
        let events = EventBus::start(tls, aws[1]).await?;
        Ok(Self { gateway, secrets, events, identity })
    }

    /// Lets WeChat Pay and Secrets Manager know these merchants and no others. If it is more than one, a function that is
    /// started from now on takes the secret of each from a name of its own.
    pub fn know(&self, merchants: &[Merchant]) {
        self.gateway.set_identities(merchants.iter().map(|merchant| merchant.identity.clone()).collect());
        for merchant in merchants {
            let name = match merchants {
                [_] => secrets::SECRET_ID.to_owned(),
                _ => SECRET_OF_EACH.replace("{mch_id}", &merchant.identity.mch_id),
            };
            match merchant.secret() {
                Some(secret) => self.secrets.put(&name, &secret),
                None => self.secrets.delete(&name),
            }
        }
    }

    /// A function of this program that finds the mocks and publishes no events.
    pub fn function(&self, program: impl AsRef<OsStr>) -> FunctionBuilder {
        FunctionBuilder::new(program).envs(self.environment())
    }

    /// A function of this program that finds the mocks and publishes its events.
    pub fn function_with_events(&self, program: impl AsRef<OsStr>) -> FunctionBuilder {
        self.function(program).envs(self.events_environment())
    }

    /// The variables by which a function finds the mocks that it needs.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        let secret_id = if self.gateway.identities().len() > 1 { SECRET_OF_EACH } else { secrets::SECRET_ID };
        [
            ("WECHAT_PAY_SECRET_ID", secret_id.to_owned()),
            ("WECHAT_PAY_ENDPOINTS", self.gateway.urls()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.secrets.url()),
        ]
    }

    /// The variables by which a function publishes events.
    pub fn events_environment(&self) -> [(&'static str, String); 2] {
        [("OUTCOME_EVENT_BUS", event_bus::BUS.to_owned()), ("AWS_ENDPOINT_URL_EVENTBRIDGE", self.events.url())]
    }
}
