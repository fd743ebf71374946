//! What the gateway knows, what it was told to do wrong, and what it received.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    Call, Fault, Order, Received, Times, TradeState, Unknown,
    fault::Faults,
    reply::{Draft, Replies},
    request,
};
use crate::mock::{identity::Identity, signed_xml::Fields};

/// How many genuine replies are remembered, to be replayed.
const REMEMBERED: usize = 256;

#[derive(Debug)]
pub(super) struct GatewayState {
    pub(super) identity: Identity,
    pub(super) orders: HashMap<String, Order>,
    /// How an order starts that was never put here, if not as one that was never made.
    pub(super) unknown: Option<fn(&str) -> Unknown>,
    pub(super) faults: Faults,
    pub(super) faults_by_order: HashMap<String, Faults>,
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
    call: Call,
    out_trade_no: String,
    document: String,
}

impl GatewayState {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            orders: HashMap::new(),
            unknown: None,
            faults: Faults::default(),
            faults_by_order: HashMap::new(),
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

    /// The fault of this call, else of this order.
    pub(super) fn next_fault(&mut self, call: Call, out_trade_no: &str) -> Option<Fault> {
        self.faults.next(call).or_else(|| self.faults_by_order.get_mut(out_trade_no)?.next(call))
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

    /// Deals with a request, or with what a fault makes of it, and writes the reply.
    pub(super) fn reply(
        &mut self,
        call: Call,
        method: &str,
        request: Option<&Fields>,
        fault: Option<&Fault>,
    ) -> String {
        let request = match request::check(&self.identity, method, request) {
            Ok(request) => request,
            Err(fail) => return fail.document(&[]),
        };
        let out_trade_no = request.get("out_trade_no").cloned().unwrap_or_default();
        let identity = self.identity.clone();
        let replies = Replies { identity: &identity, call, request };
        let draft = match fault {
            Some(Fault::UnsignedFail(return_msg)) => Draft::unsigned_fail(return_msg),
            Some(Fault::Error(err_code)) => replies.failed(err_code),
            Some(Fault::Forge) => Self::says_closed(&replies, &out_trade_no).forge(),
            Some(Fault::Replay) => match self.earlier(call, &out_trade_no) {
                Some(document) => return document,
                None => Self::says_closed(&replies, "ANOTHER_ORDER"),
            },
            Some(Fault::OtherCall) => match call {
                Call::CloseOrder => self.query(&replies, &out_trade_no),
                Call::OrderQuery => replies.closed(),
            },
            Some(Fault::UnifiedOrder) => replies.made(),
            Some(Fault::SignedFields(fields)) => {
                replies.signed(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
            }
            Some(Fault::Edit(edits)) => {
                let mut draft = self.deal(&replies, &out_trade_no);
                draft.edit(edits);
                draft
            }
            Some(Fault::Tamper(edits)) => return self.deal(&replies, &out_trade_no).document(edits),
            _ => {
                let document = self.deal(&replies, &out_trade_no).document(&[]);
                self.remember(call, out_trade_no, &document);
                return document;
            }
        };
        draft.document(&[])
    }

    /// The reply to a close of another order of this request's merchant, which succeeded.
    pub(super) fn surplus(&self, request: Option<&Fields>) -> String {
        let request = request.cloned().unwrap_or_default();
        let replies = Replies { identity: &self.identity, call: Call::CloseOrder, request: &request };
        replies.closed().document(&[])
    }

    fn deal(&mut self, replies: &Replies<'_>, out_trade_no: &str) -> Draft {
        match replies.call {
            // An order that nobody made is "closed", too: the real gateway answers SUCCESS, and only a query tells.
            Call::CloseOrder => match self.orders.get_mut(out_trade_no).and_then(Order::close) {
                None => replies.closed(),
                Some(err_code) => replies.failed(err_code),
            },
            Call::OrderQuery => self.query(replies, out_trade_no),
        }
    }

    fn query(&mut self, replies: &Replies<'_>, out_trade_no: &str) -> Draft {
        let found = self.orders.get_mut(out_trade_no).and_then(|order| Some((order.query()?, &*order)));
        found.map_or_else(
            || replies.failed("ORDERNOTEXIST"),
            |(state, order)| replies.queried(out_trade_no, order, state),
        )
    }

    /// What either call replies about an order that is closed.
    fn says_closed(replies: &Replies<'_>, out_trade_no: &str) -> Draft {
        match replies.call {
            Call::CloseOrder => replies.closed(),
            Call::OrderQuery => replies.queried(out_trade_no, &TradeState::Closed.into(), TradeState::Closed),
        }
    }

    /// The latest genuine reply of this call about another order.
    fn earlier(&self, call: Call, out_trade_no: &str) -> Option<String> {
        let earlier = self.genuine.iter().rfind(|reply| reply.call == call && reply.out_trade_no != out_trade_no);
        earlier.map(|reply| reply.document.clone())
    }

    fn remember(&mut self, call: Call, out_trade_no: String, document: &str) {
        if self.genuine.len() == REMEMBERED {
            self.genuine.pop_front();
        }
        self.genuine.push_back(Genuine { call, out_trade_no, document: document.to_owned() });
    }
}

/// Another close of the same order is under way.
pub(super) struct UnderWay;
