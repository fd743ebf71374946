//! Tries `close-order` on a machine without WeChat or AWS. [`mock`] has everything around the function, on loopback;
//! [`chaos`] lets all of it go wrong, [`mod@bench`] measures; [`binary`] builds the real binary. For the tests, the benchmark
//! and people; production never links it.
//!
//! What it checks and signs it does with code of its own ([`mock::signed_xml`]), so that a mistake of the function is not
//! cancelled by the same mistake here.

pub mod bench;
pub mod binary;
pub mod chaos;
mod markdown;
pub mod mock;
pub mod simulate;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use mock::{
    event_bus::{self, EventBus},
    function::FunctionBuilder,
    gateway::Gateway,
    identity::{Identity, Merchant},
    secrets::{self, Secrets},
    tls::Authority,
};
use tokio_rustls::rustls::ServerConfig;

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
    ///
    /// # Errors
    /// When loopback can't be listened on.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_as(Identity::default()).await
    }

    /// Starts the mocks for another merchant.
    ///
    /// # Errors
    /// When loopback can't be listened on.
    pub async fn start_as(identity: Identity) -> anyhow::Result<Self> {
        Self::start_at([127, 0, 0, 1].into(), None, identity).await
    }

    /// Starts the mocks over TLS. A function trusts them through `SSL_CERT_FILE`, a file with the authority's
    /// certificate.
    ///
    /// # Errors
    /// When loopback can't be listened on.
    pub async fn start_over_tls(authority: &Authority) -> anyhow::Result<Self> {
        // AWS has another name than WeChat Pay, as in life: a TLS session with one is none with the other.
        Self::start_at([127, 0, 0, 2].into(), Some(authority.server()), Identity::default()).await
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

    async fn start_at(aws: Ipv4Addr, tls: Option<Arc<ServerConfig>>, identity: Identity) -> anyhow::Result<Self> {
        // A port of the system's choosing.
        let at = |host| SocketAddr::new(IpAddr::V4(host), 0);
        let gateway = Gateway::start(tls.clone(), identity.clone(), &[at(Ipv4Addr::LOCALHOST); 2]).await?;
        let secrets = Secrets::start_over(tls.clone(), at(aws), &identity.secret()).await?;
        let events = EventBus::start_over(tls, at(aws)).await?;
        Ok(Self { gateway, secrets, events, identity })
    }

    /// A function of this program that finds the mocks and publishes no events.
    #[must_use]
    pub fn function(&self, program: impl Into<PathBuf>) -> FunctionBuilder {
        with(FunctionBuilder::new(program), self.environment())
    }

    /// A function of this program that finds the mocks and publishes its events.
    #[must_use]
    pub fn function_with_events(&self, program: impl Into<PathBuf>) -> FunctionBuilder {
        with(self.function(program), self.events_environment())
    }

    /// The variables by which a function finds the mocks that it needs.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 3] {
        let secret_id = if self.gateway.identities().len() > 1 { SECRET_OF_EACH } else { secrets::SECRET_ID };
        [
            ("WECHAT_PAY_SECRET_ID", secret_id.to_owned()),
            ("WECHAT_PAY_ENDPOINTS", self.gateway.urls()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.secrets.url()),
        ]
    }

    /// The variables by which a function publishes events.
    #[must_use]
    pub fn events_environment(&self) -> [(&'static str, String); 2] {
        [("OUTCOME_EVENT_BUS", event_bus::BUS.to_owned()), ("AWS_ENDPOINT_URL_EVENTBRIDGE", self.events.url())]
    }
}

fn with<const N: usize>(builder: FunctionBuilder, environment: [(&'static str, String); N]) -> FunctionBuilder {
    environment.into_iter().fold(builder, |builder, (name, value)| builder.env(name, &value))
}
