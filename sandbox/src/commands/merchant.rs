//! What WeChat Pay is told on the command line: which merchants there are, and how many requests each may make.

use clap::{ValueEnum, builder::PossibleValuesParser};
use sandbox::{
    Sandbox,
    mock::identity::{Api, Flaw, Identity, MchType, Merchant},
};

/// The kinds of merchant, as the secret spells them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// 服务商: orders name their `sub_mch_id`
    Partner,
    /// 普通商户
    Merchant,
}

/// The interfaces of WeChat Pay.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Interface {
    /// XML, and a key that both sides have
    V2,
    /// JSON and RSA
    V3,
}

/// What is said of WeChat Pay.
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
    /// A merchant by its number; given more than once, several, each with a secret of its own, and every order names its
    /// merchant. Behind the number can stand what is special about it: partner, merchant, v2, v3, wrong-key, no-secret.
    #[arg(long, value_name = "NUMBER[:WORD...]", value_parser = numbered)]
    mch_id: Vec<Numbered>,
    /// How many requests each merchant may make a second; the rest meet the rate limit.
    #[arg(long, value_name = "REQUESTS")]
    rate_limit: Option<u32>,
}

/// A merchant by its number, and what is said of it.
#[derive(Clone, Debug)]
struct Numbered {
    mch_id: String,
    kind: Option<Kind>,
    interface: Option<Interface>,
    flaw: Option<Flaw>,
}

fn numbered(text: &str) -> Result<Numbered, String> {
    let mut words = text.split(':');
    let mch_id = words.next().unwrap_or_default().to_owned();
    if !(1..=32).contains(&mch_id.len()) || !mch_id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a merchant number has 1 to 32 digits".to_owned());
    }
    let mut merchant = Numbered { mch_id, kind: None, interface: None, flaw: None };
    for word in words {
        match word {
            "wrong-key" => merchant.flaw = Some(Flaw::WrongKey),
            "no-secret" => merchant.flaw = Some(Flaw::NoSecret),
            _ => match (Kind::from_str(word, false), Interface::from_str(word, false)) {
                (Ok(kind), _) => merchant.kind = Some(kind),
                (_, Ok(interface)) => merchant.interface = Some(interface),
                _ => return Err(format!("{word} is not one of partner, merchant, v2, v3, wrong-key, no-secret")),
            },
        }
    }
    Ok(merchant)
}

impl MerchantArgs {
    /// Tells the mocks; the merchants that they know now.
    pub fn apply(&self, sandbox: &Sandbox) -> Vec<Merchant> {
        let merchants = self.merchants();
        sandbox.know(&merchants);
        sandbox.gateway.set_rate_limit(self.rate_limit);
        merchants
    }

    /// The sandbox's own merchant, or those that were given.
    fn merchants(&self) -> Vec<Merchant> {
        if self.mch_id.is_empty() {
            return vec![self.merchant(Identity::default(), None, None, None)];
        }
        let given = self.mch_id.iter().enumerate().map(|(place, given)| {
            self.merchant(Identity::numbered(&given.mch_id, place), given.kind, given.interface, given.flaw)
        });
        given.collect()
    }

    fn merchant(
        &self,
        identity: Identity,
        kind: Option<Kind>,
        interface: Option<Interface>,
        flaw: Option<Flaw>,
    ) -> Merchant {
        let mch_type = match kind.unwrap_or(self.mch_type) {
            Kind::Partner => MchType::Partner,
            Kind::Merchant => MchType::Merchant,
        };
        let api = match interface.unwrap_or(self.api) {
            Interface::V2 => Api::V2,
            Interface::V3 => Api::V3,
        };
        let sign_type = Some(self.sign_type.to_ascii_uppercase());
        Merchant { identity: Identity { mch_type, api, sign_type, ..identity }, flaw }
    }
}
