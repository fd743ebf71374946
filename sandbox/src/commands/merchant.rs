//! Which merchant the mocks know, as the command line says it.

use clap::{ValueEnum, builder::PossibleValuesParser};
use sandbox::mock::identity::{Api, Identity, MchType};

/// The kinds of merchant, as the secret spells them.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// 服务商: orders name their `sub_mch_id`
    Partner,
    /// 普通商户
    Merchant,
}

/// The interfaces of WeChat Pay.
#[derive(Clone, Copy, ValueEnum)]
enum Interface {
    /// XML, and a key that both sides have
    V2,
    /// JSON and RSA
    V3,
}

/// What says which merchant it is.
#[derive(clap::Args)]
pub struct MerchantArgs {
    /// The kind of merchant.
    #[arg(long, value_enum, default_value = "partner")]
    mch_type: Kind,
    /// The interface that the secret has the keys for; the mock of WeChat Pay speaks both.
    #[arg(long, value_enum, default_value = "v2")]
    api: Interface,
    /// The algorithm of API v2's signatures.
    #[arg(long, default_value = "MD5", ignore_case = true,
          value_parser = PossibleValuesParser::new(["MD5", "HMAC-SHA256"]))]
    sign_type: String,
}

impl MerchantArgs {
    /// The sandbox's merchant of this kind.
    pub fn identity(&self) -> Identity {
        let mch_type = match self.mch_type {
            Kind::Partner => MchType::Partner,
            Kind::Merchant => MchType::Merchant,
        };
        let api = match self.api {
            Interface::V2 => Api::V2,
            Interface::V3 => Api::V3,
        };
        Identity { mch_type, api, sign_type: Some(self.sign_type.to_ascii_uppercase()), ..Identity::default() }
    }
}
