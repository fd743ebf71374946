//! Stand-ins for everything around `close-order` that a machine without WeChat or AWS lacks, on loopback: WeChat Pay
//! ([`mock::gateway`]), Secrets Manager ([`mock::secrets`]) and Lambda's Runtime API ([`mock::runtime`]), which runs the real binary
//! ([`mock::function`]). For the tests, the benchmark and people; production never links it.
//!
//! What it checks and signs it does with code of its own ([`mock::signed_xml`]), so that a mistake of the function is not cancelled
//! by the same mistake here.

pub mod bench;
pub mod binary;
pub mod chaos;
pub mod mock;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use mock::function::FunctionBuilder;
use mock::gateway::Gateway;
use mock::identity::Identity;
use mock::secrets::{self, Secrets};
use mock::tls::Authority;
use tokio_rustls::rustls::ServerConfig;

/// Loopback, on a port of the system's choosing.
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// WeChat Pay with two endpoints, and Secrets Manager with the key to it.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// WeChat Pay.
    pub gateway: Gateway,
    /// Secrets Manager.
    pub secrets: Secrets,
    /// The service provider that both know.
    pub identity: Identity,
}

impl Sandbox {
    /// Starts the stand-ins on ports of the system's choosing.
    ///
    /// # Errors
    /// When loopback can't be listened on.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_as(Identity::default()).await
    }

    /// Starts the stand-ins for another service provider.
    ///
    /// # Errors
    /// When loopback can't be listened on.
    pub async fn start_as(identity: Identity) -> anyhow::Result<Self> {
        Self::start_at(ANY, None, identity).await
    }

    /// Starts the stand-ins over TLS. A function trusts them through `SSL_CERT_FILE`, a file with the authority's
    /// certificate.
    ///
    /// # Errors
    /// When loopback can't be listened on.
    pub async fn start_over_tls(authority: &Authority) -> anyhow::Result<Self> {
        // Of another name than WeChat Pay, as in life: a TLS session with one is none with the other.
        let secrets = SocketAddr::from(([127, 0, 0, 2], 0));
        Self::start_at(secrets, Some(authority.server()), Identity::default()).await
    }

    async fn start_at(secrets: SocketAddr, tls: Option<Arc<ServerConfig>>, identity: Identity) -> anyhow::Result<Self> {
        let gateway = Gateway::start_over(tls.clone(), identity.clone(), &[ANY, ANY]).await?;
        let secrets = Secrets::start_over(tls, secrets, &identity.secret()).await?;
        Ok(Self { gateway, secrets, identity })
    }

    /// A function of this program that finds the stand-ins.
    #[must_use]
    pub fn function(&self, program: impl Into<PathBuf>) -> FunctionBuilder {
        self.environment()
            .into_iter()
            .fold(FunctionBuilder::new(program), |builder, (name, value)| builder.env(name, &value))
    }

    /// The variables by which a function finds the stand-ins.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("WECHAT_PAY_SECRET_ID", secrets::SECRET_ID.to_owned()),
            ("WECHAT_PAY_ENDPOINTS", self.gateway.urls()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.secrets.url()),
        ]
    }
}
