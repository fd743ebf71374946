//! What the gateway has to say, whichever interface it says it on, and the HTTP response that it becomes.

use super::{Call, Order, TradeState, v2, v3};
use crate::mock::{identity::Identity, signed_xml::Fields};

use super::Fault;

/// What the gateway has to say.
pub(super) enum Says {
    /// The order is closed, as the reply to a close has it.
    Closed,
    /// The order is in this state, as the reply to a query has it.
    Order { out_trade_no: String, order: Order, state: TradeState },
    /// An error code.
    Error(&'static str),
    /// Something is wrong with the request, in these words.
    UnsignedFail(&'static str),
    /// There are too many requests.
    RateLimited,
    /// An order was made (unifiedorder).
    Made,
    /// These fields.
    Fields(Vec<(&'static str, String)>),
}

/// A request that is right in itself.
pub(super) struct Request {
    pub(super) identity: Identity,
    pub(super) call: Call,
    /// Its fields, and those of API v3 under the names that they have in API v2.
    pub(super) fields: Fields,
    /// What API v3 signs the reply with; API v2 has no such choice.
    pub(super) v3: Option<v3::Signer>,
}

impl Request {
    /// Writes the reply, and puts into it what a fault makes wrong with it.
    pub(super) fn reply(&self, says: &Says, fault: Option<&Fault>) -> Reply {
        match &self.v3 {
            None => v2::reply(self, says, fault),
            Some(signer) => v3::reply(self, signer, says, fault),
        }
    }
}

/// An HTTP response.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Reply {
    /// Half of it; of one without a body, half of each header.
    pub(super) fn truncate(&mut self) {
        let half = |text: &mut String| *text = text.chars().take(text.chars().count() / 2).collect();
        if self.body.is_empty() {
            self.headers.iter_mut().for_each(|(_, value)| half(value));
        } else {
            half(&mut self.body);
        }
    }
}
