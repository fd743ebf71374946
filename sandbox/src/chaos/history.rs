//! What happened to one order in a run: what the gateway was asked and replied, what the function said, what was
//! published.

use std::{fmt, time::Instant};

use serde_json::Value;

use super::plan::{Part, PlannedOrder};
use crate::mock::{
    gateway::{Call, Fault, Received, TradeState},
    signed_xml::{Fields, read_xml},
};

/// What the function claims of an order: the words of `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Closed,
    Paid,
    NotFound,
    Open,
    Unknown,
    Rejected,
    NotSent,
}

impl Claim {
    pub(super) fn read(outcome: &Value) -> Option<Self> {
        Some(match outcome.as_str()? {
            "closed" => Self::Closed,
            "paid" => Self::Paid,
            "not_found" => Self::NotFound,
            "open" => Self::Open,
            "unknown" => Self::Unknown,
            "rejected" => Self::Rejected,
            "not_sent" => Self::NotSent,
            _ => return None,
        })
    }

    /// Whether nothing is left to do about the order: its message leaves the queue.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Closed | Self::Paid | Self::NotFound)
    }
}

/// One order's history.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) planned: PlannedOrder,
    /// Its state at the gateway when all was over.
    pub(super) final_state: Option<TradeState>,
    /// In the order in which they began.
    pub(super) exchanges: Vec<Exchange>,
    pub(super) statements: Vec<Statement>,
    pub(super) published: Vec<Published>,
}

/// What one invocation said of the order.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    /// From its log line.
    pub(super) claim: Claim,
    /// Whether its log line has a `trade_state` that proves the claim.
    pub(super) is_proved: bool,
    /// Requests to closeorder and to orderquery, from its log line.
    pub(super) requests: [u64; 2],
    /// What the caller got.
    pub(super) answer: Answer,
    /// Whether the event asked for a query whatever closeorder says.
    pub(super) is_confirmed: bool,
    /// The order's state at the gateway when the invocation began.
    pub(super) state_before: Option<TradeState>,
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// Which function it was.
    pub(super) function: usize,
    /// The parts in which there was an incident meanwhile.
    pub(super) incidents: Vec<Part>,
}

/// What the caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A direct call's `outcome`; `None` with a function error.
    Direct(Option<Claim>),
    /// Whether the message left the queue.
    Message { is_acknowledged: bool },
}

/// One request to the gateway, and what came back.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) call: Call,
    pub(super) at: Instant,
    pub(super) reply: Reply,
    /// `nonce_str` of the reply.
    pub(super) nonce: Option<String>,
    /// Whether the same function got the reply for another order, too, at the same time: it goes by the first of the two.
    pub(super) is_doubled: bool,
}

/// What came back of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The gateway's own word, unchanged.
    Genuine(Meaning),
    /// A genuine reply of this call about another order.
    Replayed,
    /// Nothing, or something that must not be taken for the gateway's word.
    Disturbed,
}

/// What a genuine reply says of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Closed,
    Paid,
    NotFound,
    Open,
    /// The request itself was rejected.
    Rejected,
    /// Nothing of these: an error of WeChat Pay's, a limit.
    Undecided,
}

/// An event about the order.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) claim: Option<Claim>,
    pub(super) at: Instant,
    /// What is wrong with it in itself, if anything.
    pub(super) mistake: Option<&'static str>,
}

impl History {
    pub(super) fn new(planned: PlannedOrder, final_state: Option<TradeState>) -> Self {
        Self { planned, final_state, exchanges: Vec::new(), statements: Vec::new(), published: Vec::new() }
    }

    /// What was exchanged during the invocation of a statement.
    pub(super) fn exchanges_of(&self, statement: &Statement) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter().filter(|exchange| statement.is_during(exchange.at))
    }

    /// Whether nothing went wrong around a statement.
    pub(super) fn is_undisturbed(&self, statement: &Statement) -> bool {
        !statement.had_incident_about_order() && self.exchanges_of(statement).all(Exchange::is_told)
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let planned = &self.planned;
        let (from, to) = (planned.state(), self.final_state);
        write!(f, "{} was {from:?}, is {to:?}; confirm {:?}", planned.out_trade_no, planned.confirm)?;
        if planned.is_forged {
            write!(f, "; forged")?;
        }
        for (call, fault) in &planned.faults {
            write!(f, "; {call:?} ")?;
            match fault {
                Fault::Body(body) => write!(f, "Body({})", String::from_utf8_lossy(body))?,
                fault => write!(f, "{fault:?}")?,
            }
        }
        for statement in &self.statements {
            let Statement { claim, is_proved, requests, answer, state_before, incidents, .. } = statement;
            let took = (statement.to - statement.from).as_millis();
            write!(
                f,
                "; said {claim:?} (proved {is_proved}) of {state_before:?} after {took} ms and {requests:?} requests"
            )?;
            for exchange in self.exchanges_of(statement) {
                write!(f, ", {:?} {:?}", exchange.call, exchange.reply)?;
                if exchange.is_doubled {
                    write!(f, " doubled")?;
                }
            }
            write!(f, ", incidents {incidents:?}, answer {answer:?}")?;
        }
        write!(f, "; published {:?}", self.published.iter().map(|event| event.claim).collect::<Vec<_>>())
    }
}

impl Statement {
    /// Whether its invocation was under way then.
    pub(super) fn is_during(&self, at: Instant) -> bool {
        (self.from..=self.to).contains(&at)
    }

    /// Whether there was an incident meanwhile in what closing and querying the order takes.
    pub(super) fn had_incident_about_order(&self) -> bool {
        self.incidents.iter().any(|&part| part != Part::Events)
    }
}

impl Exchange {
    /// Whether the gateway's own word tells what became of the order.
    pub(super) fn is_told(&self) -> bool {
        use Meaning::{Closed, NotFound, Open, Paid};
        matches!(self.reply, Reply::Genuine(Closed | Paid | NotFound | Open)) && !self.is_doubled
    }

    /// Reads what the gateway has on record; `None` for a request to no call that it knows.
    pub(super) fn read(received: &Received) -> Option<Self> {
        let call = received.call?;
        let genuine = |text: Option<&str>| {
            text.and_then(read_xml).map_or(Reply::Disturbed, |fields| Reply::Genuine(meaning(call, &fields)))
        };
        let reply = match &received.fault {
            None | Some(Fault::Delay(_) | Fault::ResetIfReused | Fault::Error(_) | Fault::UnsignedFail(_)) => {
                genuine(received.reply.as_deref())
            }
            // An unsigned FAIL is nobody's word, and so as genuine as any.
            Some(Fault::Body(body)) => match genuine(std::str::from_utf8(body).ok()) {
                rejected @ Reply::Genuine(Meaning::Rejected) => rejected,
                _ => Reply::Disturbed,
            },
            // A request that is wrong in itself is rejected before any fault.
            Some(_) if genuine(received.reply.as_deref()) == Reply::Genuine(Meaning::Rejected) => {
                Reply::Genuine(Meaning::Rejected)
            }
            // Nothing tells either call's reply that there is no such order from the other's.
            Some(Fault::OtherCall) if genuine(received.reply.as_deref()) == Reply::Genuine(Meaning::NotFound) => {
                Reply::Genuine(Meaning::NotFound)
            }
            Some(Fault::Replay) => Reply::Replayed,
            Some(_) => Reply::Disturbed,
        };
        let nonce = received.reply.as_deref().and_then(read_xml).and_then(|mut fields| fields.remove("nonce_str"));
        Some(Self { call, at: received.at, reply, nonce, is_doubled: false })
    }
}

impl Reply {
    /// Whether it settles an order.
    pub(super) fn settles(self) -> bool {
        matches!(self, Self::Genuine(Meaning::Closed | Meaning::Paid | Meaning::NotFound))
    }
}

fn meaning(call: Call, fields: &Fields) -> Meaning {
    let field = |name| fields.get(name).map(String::as_str).unwrap_or_default();
    if field("return_code") != "SUCCESS" {
        let is_temporary = ["系统", "频率"].iter().any(|word| field("return_msg").contains(word));
        return if is_temporary { Meaning::Undecided } else { Meaning::Rejected };
    }
    let [result_code, err_code, trade_state] = ["result_code", "err_code", "trade_state"].map(field);
    match (result_code, call) {
        ("SUCCESS", Call::CloseOrder) => Meaning::Closed,
        ("SUCCESS", Call::OrderQuery) => match trade_state {
            "CLOSED" | "REVOKED" => Meaning::Closed,
            "SUCCESS" | "REFUND" => Meaning::Paid,
            _ => Meaning::Open,
        },
        _ => match err_code {
            "ORDERCLOSED" => Meaning::Closed,
            "ORDERPAID" => Meaning::Paid,
            "ORDERNOTEXIST" => Meaning::NotFound,
            "USERPAYING" => Meaning::Open,
            "SIGNERROR" => Meaning::Rejected,
            _ => Meaning::Undecided,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn reply(call: Call, fault: Option<Fault>, document: Option<&str>) -> Reply {
        let received = Received {
            endpoint: 0,
            api: None,
            call: Some(call),
            method: "POST".to_owned(),
            path: call.path().to_owned(),
            query: String::new(),
            headers: BTreeMap::new(),
            body: String::new(),
            fields: Fields::new(),
            fault,
            reply: document.map(|document| format!("<xml><return_code>SUCCESS</return_code>{document}</xml>")),
            status: None,
            reply_headers: BTreeMap::new(),
            at: Instant::now(),
        };
        Exchange::read(&received).unwrap().reply
    }

    #[test]
    fn only_what_the_gateway_itself_says_is_genuine() {
        use Call::{CloseOrder, OrderQuery};
        let closed = Some("<result_code>SUCCESS</result_code>");
        let paid = Some("<result_code>FAIL</result_code><err_code>ORDERPAID</err_code>");
        let open = Some("<result_code>SUCCESS</result_code><trade_state>NOTPAY</trade_state>");
        let none = Some("<result_code>FAIL</result_code><err_code>ORDERNOTEXIST</err_code>");
        for (call, fault, document, expected) in [
            (CloseOrder, None, closed, Reply::Genuine(Meaning::Closed)),
            (CloseOrder, None, paid, Reply::Genuine(Meaning::Paid)),
            (OrderQuery, None, open, Reply::Genuine(Meaning::Open)),
            (CloseOrder, Some(Fault::ResetIfReused), closed, Reply::Genuine(Meaning::Closed)),
            (CloseOrder, Some(Fault::ResetIfReused), None, Reply::Disturbed),
            (CloseOrder, Some(Fault::ResetAfter), closed, Reply::Disturbed),
            (CloseOrder, Some(Fault::Forge), closed, Reply::Disturbed),
            (CloseOrder, Some(Fault::Replay), closed, Reply::Replayed),
            (OrderQuery, Some(Fault::OtherCall), closed, Reply::Disturbed),
            (CloseOrder, Some(Fault::OtherCall), open, Reply::Disturbed),
            (CloseOrder, Some(Fault::OtherCall), none, Reply::Genuine(Meaning::NotFound)),
            (CloseOrder, Some(Fault::Body(b"<html/>".to_vec())), None, Reply::Disturbed),
        ] {
            assert_eq!(reply(call, fault.clone(), document), expected, "{call:?} {fault:?} {document:?}");
        }
    }
}
