//! What WeChat Pay is told on the command line: which merchants there are, and how many requests each may make.

use clap::{ValueEnum, builder::PossibleValuesParser};
use sandbox::{
    Sandbox,
    mock::identity::{Api, Flaw, Identity, MchType, Merchant},
};

/// What is said of WeChat Pay.
#[derive(clap::Args)]
pub struct MerchantArgs {
    /// The kind of merchant.
    #[arg(long, value_enum, default_value = "partner")]
    mch_type: MchType,
    /// The interface that the secret has the keys for; the mock of WeChat Pay speaks both.
    #[arg(long, value_enum, default_value = "v2")]
    api: Api,
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
#[derive(Clone, Debug, Default)]
struct Numbered {
    mch_id: String,
    mch_type: Option<MchType>,
    api: Option<Api>,
    flaw: Option<Flaw>,
}

fn numbered(text: &str) -> Result<Numbered, String> {
    let mut words = text.split(':');
    let mch_id = words.next().unwrap_or_default().to_owned();
    if !(1..=32).contains(&mch_id.len()) || !mch_id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a merchant number has 1 to 32 digits".to_owned());
    }
    let mut merchant = Numbered { mch_id, ..Numbered::default() };
    for word in words {
        if let Ok(mch_type) = MchType::from_str(word, false) {
            merchant.mch_type = Some(mch_type);
        } else if let Ok(api) = Api::from_str(word, false) {
            merchant.api = Some(api);
        } else if let Ok(flaw) = Flaw::from_str(word, false) {
            merchant.flaw = Some(flaw);
        } else {
            return Err(format!("{word} is not one of partner, merchant, v2, v3, wrong-key, no-secret"));
        }
    }
    Ok(merchant)
}

impl MerchantArgs {
    /// Tells the mocks; the merchants that they know now: the sandbox's own, or those that were given.
    pub fn apply(&self, sandbox: &Sandbox) -> Vec<Merchant> {
        let given = self.mch_id.iter().enumerate();
        let mut merchants: Vec<Merchant> =
            given.map(|(place, given)| self.merchant(Identity::numbered(&given.mch_id, place), given)).collect();
        if merchants.is_empty() {
            merchants.push(self.merchant(Identity::default(), &Numbered::default()));
        }
        sandbox.know(&merchants);
        sandbox.gateway.set_rate_limit(self.rate_limit);
        merchants
    }

    fn merchant(&self, identity: Identity, given: &Numbered) -> Merchant {
        let (mch_type, api) = (given.mch_type.unwrap_or(self.mch_type), given.api.unwrap_or(self.api));
        let sign_type = Some(self.sign_type.to_ascii_uppercase());
        Merchant { identity: Identity { mch_type, api, sign_type, ..identity }, flaw: given.flaw }
    }
}
