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

    /// Where it is made with API v2.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::CloseOrder => "/pay/closeorder",
            Self::OrderQuery => "/pay/orderquery",
        }
    }
}

/// Where a request leads: the interface, the call, and with API v3 the order number as the path has it.
#[derive(Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) api: Api,
    pub(super) call: Call,
    pub(super) number: &'a str,
}

impl<'a> Route<'a> {
    pub(super) fn of(method: &str, path: &'a str) -> Option<Self> {
        if let Some(call) = Call::ALL.into_iter().find(|call| call.path() == path) {
            return Some(Self { api: Api::V2, call, number: "" });
        }
        let rest = path.strip_prefix("/v3/pay/")?;
        let rest = rest.strip_prefix("partner/").unwrap_or(rest).strip_prefix("transactions/out-trade-no/")?;
        let (call, number) = match (method, rest.split_once('/')) {
            ("POST", Some((number, "close"))) => (Call::CloseOrder, number),
            ("GET", None) => (Call::OrderQuery, rest),
            _ => return None,
        };
        Some(Self { api: Api::V3, call, number })
    }
}
