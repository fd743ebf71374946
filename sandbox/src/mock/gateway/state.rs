//! What the gateway knows, what it was told to do wrong, and what it received.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    Call, Fault, Order, Received, Times, TradeState, Unknown, V3Fault,
    fault::Faults,
    reply::{Reply, Request, Says},
    v2, v3,
};
use crate::mock::{
    identity::{Api, Identity},
    signed_xml::Fields,
};

/// How many genuine replies are remembered, to be replayed.
const REMEMBERED: usize = 256;

#[derive(Debug)]
pub(super) struct GatewayState {
    pub(super) identities: Vec<Identity>,
    pub(super) orders: HashMap<String, Order>,
    /// How an order starts that was never put here, if not as one that was never made.
    pub(super) unknown: Option<fn(&str) -> Unknown>,
    pub(super) faults: Faults,
    pub(super) faults_by_order: HashMap<String, Faults>,
    /// How many requests a merchant may make a second.
    pub(super) rate_limit: Option<u32>,
    /// The second that is counted now, and how many requests each merchant made in it.
    counted: (u64, HashMap<String, u32>),
    started: Instant,
    /// What was received, with the number of its exchange.
    pub(super) received: Vec<(u64, Received)>,
    pub(super) exchanges: u64,
    pub(super) watchers: Vec<mpsc::UnboundedSender<Received>>,
    /// Until when the close of an order takes that is under way.
    closing: HashMap<String, Instant>,
    genuine: VecDeque<Genuine>,
}

/// A reply that was as it should be.
#[derive(Debug)]
struct Genuine {
    api: Option<Api>,
    call: Call,
    out_trade_no: String,
    reply: Reply,
}

impl GatewayState {
    pub(super) fn new(identities: Vec<Identity>) -> Self {
        Self {
            identities,
            orders: HashMap::new(),
            unknown: None,
            faults: Faults::default(),
            faults_by_order: HashMap::new(),
            rate_limit: None,
            counted: (0, HashMap::new()),
            started: Instant::now(),
            received: Vec::new(),
            exchanges: 0,
            watchers: Vec::new(),
            closing: HashMap::new(),
            genuine: VecDeque::new(),
        }
    }

    pub(super) fn faults_of(&mut self, out_trade_no: &str) -> &mut Faults {
        self.faults_by_order.entry(out_trade_no.to_owned()).or_default()
    }

    /// Lets an order that is met for the first time start as the rule for unknown ones says.
    pub(super) fn meet(&mut self, out_trade_no: &str) {
        let Some(rule) = self.unknown else { return };
        if self.orders.contains_key(out_trade_no) || self.faults_by_order.contains_key(out_trade_no) {
            return;
        }
        let Unknown { order, fault } = rule(out_trade_no);
        self.orders.extend(order.map(|order| (out_trade_no.to_owned(), order)));
        let faults = self.faults_of(out_trade_no);
        if let Some((call, fault)) = fault {
            faults.push(call, Times::Always, fault);
        }
    }

    /// The fault of this call, else of this order; with neither, the rate limit's.
    pub(super) fn next_fault(&mut self, call: Call, fields: &Fields) -> Option<Fault> {
        let field = |name| fields.get(name).map(String::as_str).unwrap_or_default();
        let is_limited = self.is_limited(field("mch_id"));
        let fault = self.faults.next(call);
        fault
            .or_else(|| self.faults_by_order.get_mut(field("out_trade_no"))?.next(call))
            .or_else(|| is_limited.then_some(Fault::RateLimit))
    }

    /// Counts a request of a merchant; whether it is one too many in this second.
    fn is_limited(&mut self, mch_id: &str) -> bool {
        let Some(limit) = self.rate_limit else { return false };
        let second = self.started.elapsed().as_secs();
        if self.counted.0 != second {
            self.counted = (second, HashMap::new());
        }
        let count = self.counted.1.entry(mch_id.to_owned()).or_default();
        *count += 1;
        *count > limit
    }

    /// Begins a close: how long it takes, or that another one of this order is under way.
    pub(super) fn begin_close(&mut self, out_trade_no: &str) -> Result<Duration, UnderWay> {
        let now = Instant::now();
        if self.closing.get(out_trade_no).is_some_and(|&until| now < until) {
            return Err(UnderWay);
        }
        let time = self.orders.get(out_trade_no).map(|order| order.close_time).unwrap_or_default();
        if !time.is_zero() {
            self.closing.insert(out_trade_no.to_owned(), now + time);
        }
        Ok(time)
    }

    /// Rejects a close because another one is under way; the `err_code`.
    pub(super) fn limit(&mut self, out_trade_no: &str) -> &'static str {
        self.orders.get_mut(out_trade_no).map_or("FREQUENCY_LIMITED", Order::limit)
    }

    /// Deals with a request, or with what a fault makes of it, and writes the reply; and one that is surplus, if there is
    /// to be one, which goes out first.
    pub(super) fn reply(&mut self, received: &Received, fault: Option<&Fault>) -> (Reply, Option<Reply>) {
        let accepted = match received.api {
            Some(Api::V3) => v3::accept(&self.identities, received),
            _ => v2::accept(&self.identities, received),
        };
        let request = match accepted {
            Ok(request) => request,
            Err(reply) => return (reply, None),
        };
        let out_trade_no = request.fields.get("out_trade_no").cloned().unwrap_or_default();
        if let Some(Fault::Replay) = fault
            && let Some(earlier) = self.earlier(received.api, request.call, &out_trade_no)
        {
            return (earlier, None);
        }
        let says = self.says(&request, &out_trade_no, fault);
        let reply = request.reply(&says, fault);
        match fault {
            Some(Fault::Surplus) => {
                (reply, Some(Request { call: Call::CloseOrder, ..request }.reply(&Says::Closed, None)))
            }
            Some(Fault::ReplyTwice) => (reply.clone(), Some(reply)),
            None
            | Some(
                Fault::Delay(_)
                | Fault::ResetIfReused
                | Fault::HangAfter
                | Fault::ResetAfter
                | Fault::CloseAfter
                | Fault::Truncate,
            ) => {
                self.remember(Genuine { api: received.api, call: request.call, out_trade_no, reply: reply.clone() });
                (reply, None)
            }
            Some(_) => (reply, None),
        }
    }

    /// What there is to say to a request, which deals with the order unless a fault keeps it from that.
    fn says(&mut self, request: &Request, out_trade_no: &str, fault: Option<&Fault>) -> Says {
        match fault {
            Some(Fault::UnsignedFail(message)) => Says::UnsignedFail(message),
            Some(Fault::RateLimit) => Says::RateLimited,
            Some(Fault::Error(code)) => Says::Error(code),
            Some(Fault::Forge) => says_closed(request.call, out_trade_no),
            Some(Fault::Replay) => says_closed(request.call, "ANOTHER_ORDER"),
            Some(Fault::OtherCall) => match request.call {
                Call::CloseOrder => self.query(request, out_trade_no),
                Call::OrderQuery => Says::Closed,
            },
            Some(Fault::UnifiedOrder) => Says::Made,
            Some(Fault::SignedFields(fields)) => Says::Fields(fields.clone()),
            // What these say is their own.
            Some(Fault::V3(V3Fault::Signed(..) | V3Fault::Unsigned(..))) if request.v3.is_some() => Says::Closed,
            _ => match request.call {
                // An order that nobody made is "closed", too: the real gateway answers SUCCESS, and only a query tells.
                Call::CloseOrder => {
                    self.order_of(request, out_trade_no).and_then(Order::close).map_or(Says::Closed, Says::Error)
                }
                Call::OrderQuery => self.query(request, out_trade_no),
            },
        }
    }

    fn query(&mut self, request: &Request, out_trade_no: &str) -> Says {
        let found = self.order_of(request, out_trade_no).and_then(|order| Some((order.query()?, order.clone())));
        found.map_or(Says::Error("ORDERNOTEXIST"), |(state, order)| Says::Order {
            out_trade_no: out_trade_no.to_owned(),
            order,
            state,
        })
    }

    /// The order, if there is one that is this merchant's.
    fn order_of(&mut self, request: &Request, out_trade_no: &str) -> Option<&mut Order> {
        let order = self.orders.get_mut(out_trade_no)?;
        order.mch_id.as_ref().is_none_or(|mch_id| *mch_id == request.identity.mch_id).then_some(order)
    }

    /// The latest genuine reply of this call about another order.
    fn earlier(&self, api: Option<Api>, call: Call, out_trade_no: &str) -> Option<Reply> {
        let is_like = |reply: &&Genuine| (reply.api, reply.call) == (api, call) && reply.out_trade_no != out_trade_no;
        self.genuine.iter().rfind(is_like).map(|genuine| genuine.reply.clone())
    }

    fn remember(&mut self, genuine: Genuine) {
        if self.genuine.len() == REMEMBERED {
            self.genuine.pop_front();
        }
        self.genuine.push_back(genuine);
    }
}

/// What either call says of an order that is closed.
fn says_closed(call: Call, out_trade_no: &str) -> Says {
    match call {
        Call::CloseOrder => Says::Closed,
        Call::OrderQuery => Says::Order {
            out_trade_no: out_trade_no.to_owned(),
            order: TradeState::Closed.into(),
            state: TradeState::Closed,
        },
    }
}

/// Another close of the same order is under way.
pub(super) struct UnderWay;
