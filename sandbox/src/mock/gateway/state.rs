//! What the gateway knows, what it was told to do wrong, and what it received.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use tokio::sync::mpsc;

use super::{
    Call, Fault, Order, Received, Times, TradeState, Unknown, V3Fault,
    fault::Planned,
    reply::{Reply, Request, Says},
    unix_time, v2, v3,
};
use crate::mock::{
    identity::{Api, Identity},
    lock,
};

/// The number under which the faults are that are no single order's.
pub(super) const ANY_ORDER: &str = "";

/// How many genuine replies are remembered, to be replayed.
const REMEMBERED: usize = 256;

#[derive(Debug, Default)]
pub(super) struct GatewayState {
    pub(super) identities: Vec<Identity>,
    pub(super) orders: HashMap<String, Order>,
    /// How an order starts that was never put here, if not as one that was never made.
    pub(super) unknown: Option<fn(&str) -> Unknown>,
    /// What is to go wrong, by order.
    pub(super) faults: HashMap<String, VecDeque<Planned>>,
    /// How many requests a merchant may make a second.
    pub(super) rate_limit: Option<u32>,
    /// The second of each merchant's latest request, and how many it made in it.
    counted: HashMap<String, (u64, u32)>,
    pub(super) received: Vec<Arc<Mutex<Received>>>,
    pub(super) watchers: Vec<mpsc::UnboundedSender<Received>>,
    /// How many requests there were, those that are forgotten included.
    exchanges: u64,
    /// Replies that were as they should be, with call and order, the latest first.
    genuine: VecDeque<((Api, Call), String, Reply)>,
}

impl GatewayState {
    /// Lets something go wrong, after what was planned before.
    pub(super) fn plan(&mut self, out_trade_no: &str, planned: Planned) {
        self.faults.entry(out_trade_no.to_owned()).or_default().push_back(planned);
    }

    /// Puts a request on record, and into it what is to go wrong with it; its number, from 1.
    pub(super) fn begin(&mut self, mut received: Received) -> (u64, Exchange) {
        if let Some(call) = received.call {
            self.meet(received.field("out_trade_no"));
            received.fault = self.next_fault(call, &received);
        }
        self.exchanges += 1;
        let record = Arc::new(Mutex::new(received));
        self.received.push(Arc::clone(&record));
        self.watchers.retain(|watcher| !watcher.is_closed());
        (self.exchanges, Exchange { record, watchers: self.watchers.clone() })
    }

    /// Lets an order that is met for the first time start as the rule for unknown ones says.
    fn meet(&mut self, out_trade_no: &str) {
        let Some(rule) = self.unknown else { return };
        if self.orders.contains_key(out_trade_no) || self.faults.contains_key(out_trade_no) {
            return;
        }
        let Unknown { order, fault } = rule(out_trade_no);
        self.orders.extend(order.map(|order| (out_trade_no.to_owned(), order)));
        if let Some((call, fault)) = fault {
            self.plan(out_trade_no, Planned { endpoint: None, call, times: Times::Always, fault });
        }
    }

    /// The fault of this call, else of this order; with neither, the rate limit's.
    fn next_fault(&mut self, call: Call, received: &Received) -> Option<Fault> {
        let is_limited = self.is_limited(received.field("mch_id"));
        let fault = [ANY_ORDER, received.field("out_trade_no")]
            .into_iter()
            .find_map(|order| Planned::next(self.faults.get_mut(order)?, received.endpoint, call));
        fault.or_else(|| is_limited.then_some(Fault::RateLimit))
    }

    /// Counts a request of a merchant; whether it is one too many in this second.
    fn is_limited(&mut self, mch_id: &str) -> bool {
        let Some(limit) = self.rate_limit else { return false };
        let (second, count) = self.counted.entry(mch_id.to_owned()).or_default();
        if *second != unix_time() {
            (*second, *count) = (unix_time(), 0);
        }
        *count += 1;
        *count > limit
    }

    /// Deals with a request, or with what a fault makes of it, and writes the reply.
    pub(super) fn reply(&mut self, received: &Received) -> Reply {
        let fault = received.fault.as_ref();
        let accepted = match received.api {
            Some(Api::V3) => v3::accept(&self.identities, received),
            _ => v2::accept(&self.identities, received),
        };
        let identity = match accepted {
            Ok(identity) => identity.clone(),
            Err(reply) => return reply,
        };
        let (api, call) = (received.api.unwrap_or(Api::V2), received.call.unwrap_or(Call::CloseOrder));
        let mut request = Request { identity, api, call, fields: received.fields.clone() };
        if let Some(Fault::Replay) = fault {
            let is_like = |(of, order, _): &&(_, String, _)| *of == (api, call) && order != request.order();
            if let Some((.., reply)) = self.genuine.iter().find(is_like) {
                return reply.clone();
            }
            request.fields.insert("out_trade_no".to_owned(), "ANOTHER_ORDER".to_owned());
        }
        let says = self.says(&request, fault);
        let reply = match api {
            Api::V2 => v2::reply(&request, &says, fault),
            Api::V3 => v3::reply(&request, &says, fault),
        };
        if fault.is_none_or(Fault::leaves_the_reply) {
            self.genuine.push_front(((api, call), request.order().to_owned(), reply.clone()));
            self.genuine.truncate(REMEMBERED);
        }
        reply
    }

    /// What there is to say to a request, which deals with the order unless a fault keeps it from that.
    fn says(&mut self, request: &Request, fault: Option<&Fault>) -> Says {
        match (fault, request.call) {
            (Some(Fault::UnsignedFail(message)), _) => Says::UnsignedFail(message),
            (Some(Fault::RateLimit), _) => Says::UnsignedFail("频率限制,请稍后再试"),
            (Some(Fault::Error(code)), _) => Says::Error(code),
            (Some(Fault::UnifiedOrder), _) => Says::Made,
            (Some(Fault::Forge | Fault::Replay), Call::OrderQuery) => Says::State(TradeState::Closed),
            (Some(Fault::Forge | Fault::Replay), Call::CloseOrder) | (Some(Fault::OtherCall), Call::OrderQuery) => {
                Says::Closed
            }
            // What these say is their own.
            (Some(Fault::V3(V3Fault::Signed(..) | V3Fault::Unsigned(..))), _) if request.api == Api::V3 => Says::Closed,
            (Some(Fault::OtherCall), Call::CloseOrder) | (_, Call::OrderQuery) => {
                self.order_of(request).and_then(Order::query).map_or(Says::Error("ORDERNOTEXIST"), Says::State)
            }
            // An order that nobody made is "closed", too: the real gateway answers SUCCESS, and only a query tells.
            (_, Call::CloseOrder) => self.order_of(request).and_then(Order::close).map_or(Says::Closed, Says::Error),
        }
    }

    /// The order, if there is one that is this merchant's.
    fn order_of(&mut self, request: &Request) -> Option<&mut Order> {
        let order = self.orders.get_mut(request.order())?;
        order.mch_id.as_ref().is_none_or(|mch_id| *mch_id == request.identity.mch_id).then_some(order)
    }
}

/// A request on record; whoever watches hears of it when it is over, however it ends.
pub(super) struct Exchange {
    record: Arc<Mutex<Received>>,
    watchers: Vec<mpsc::UnboundedSender<Received>>,
}

impl Exchange {
    /// The request, as far as is known now.
    pub(super) fn received(&self) -> Received {
        lock(&self.record).clone()
    }

    /// Adds the reply.
    pub(super) fn add_reply(&self, reply: &Reply) {
        let mut received = lock(&self.record);
        received.reply = Some(reply.body.clone());
        received.status = Some(reply.status);
        received.reply_headers =
            reply.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        for watcher in &self.watchers {
            let _ = watcher.send(self.received());
        }
    }
}
