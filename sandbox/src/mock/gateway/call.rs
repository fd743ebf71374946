//! The calls that the gateway knows.

use crate::mock::identity::Api;

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// `/pay/closeorder`, or its like of API v3.
    CloseOrder,
    /// `/pay/orderquery`, or its like of API v3.
    OrderQuery,
}

impl Call {
    /// Every call.
    pub const ALL: [Self; 2] = [Self::CloseOrder, Self::OrderQuery];
}

/// Where a request leads: the interface, the call, and with API v3 the order number as the path has it.
pub(super) fn route<'a>(method: &str, path: &'a str) -> Option<(Api, Call, &'a str)> {
    match path {
        "/pay/closeorder" => return Some((Api::V2, Call::CloseOrder, "")),
        "/pay/orderquery" => return Some((Api::V2, Call::OrderQuery, "")),
        _ => {}
    }
    let rest = path.strip_prefix("/v3/pay/")?;
    let rest = rest.strip_prefix("partner/").unwrap_or(rest).strip_prefix("transactions/out-trade-no/")?;
    match (method, rest.split_once('/')) {
        ("POST", Some((number, "close"))) => Some((Api::V3, Call::CloseOrder, number)),
        ("GET", None) => Some((Api::V3, Call::OrderQuery, rest)),
        _ => None,
    }
}
