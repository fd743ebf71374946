//! Which merchant the mocks know, as the command line says it.

use clap::{ValueEnum, builder::PossibleValuesParser};
use sandbox::mock::identity::{Identity, MchType};

/// The kinds of merchant, as the secret spells them.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// 服务商: orders name their `sub_mch_id`
    Partner,
    /// 普通商户
    Merchant,
}

/// What says which merchant it is.
#[derive(clap::Args)]
pub struct MerchantArgs {
    /// The kind of merchant.
    #[arg(long, value_enum, default_value = "partner")]
    mch_type: Kind,
    /// The algorithm of the signatures.
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
        Identity { mch_type, sign_type: Some(self.sign_type.to_ascii_uppercase()), ..Identity::default() }
    }
}
