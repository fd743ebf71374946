//! Stand-ins for everything around `close-order` that a machine without WeChat or AWS lacks, on loopback: WeChat Pay
//! ([`gateway`]), Secrets Manager ([`secrets`]) and Lambda's Runtime API ([`runtime`]), which runs the real binary
//! ([`function`]). For the tests, the benchmark and people; production never links it.
//!
//! What it checks and signs it does with code of its own ([`sign`]), so that a mistake of the function is not cancelled
//! by the same mistake here.

pub mod binary;
pub mod function;
pub mod gateway;
pub mod identity;
pub mod listener;
pub mod runtime;
pub mod secrets;
pub mod sign;

use std::{net::SocketAddr, path::PathBuf};

use function::FunctionBuilder;
use gateway::Gateway;
use identity::Identity;
use secrets::Secrets;

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
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let gateway = Gateway::start(identity.clone(), &[any, any]).await?;
        let secrets = Secrets::start(any, &identity.secret()).await?;
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
