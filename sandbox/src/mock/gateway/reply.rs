//! What the gateway has to say, whichever interface it says it on, and the HTTP response that it becomes.

use super::{Call, TradeState};
use crate::mock::{
    identity::{Api, Identity},
    signed_xml::Fields,
};

/// What the gateway has to say.
pub(super) enum Says {
    /// The order is closed, as the reply to a close has it.
    Closed,
    /// The order is in this state, as the reply to a query has it.
    State(TradeState),
    /// An error code.
    Error(&'static str),
    /// Something is wrong with the request, in these words.
    UnsignedFail(&'static str),
    /// An order was made (unifiedorder).
    Made,
}

/// A request that is right in itself.
pub(super) struct Request {
    pub(super) identity: Identity,
    pub(super) api: Api,
    pub(super) call: Call,
    /// Its fields, and those of API v3 under the names that they have in API v2.
    pub(super) fields: Fields,
}

impl Request {
    /// The order's number.
    pub(super) fn order(&self) -> &str {
        self.fields.get("out_trade_no").map(String::as_str).unwrap_or_default()
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
