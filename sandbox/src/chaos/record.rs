//! What a run left behind: what the gateway was asked, what the function reported, what was published.

use std::time::Instant;

use super::{incidents::Incident, plan::PlannedOrder};
use crate::mock::{
    event_bus::Event,
    gateway::{Call, Fault, TradeState},
};

/// Everything that is on record.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) orders: Vec<History>,
    pub(super) functions: Vec<FunctionRecord>,
    pub(super) dead_letters: usize,
    /// How many events were about no order of the run.
    pub(super) stray_events: usize,
    /// What may show nowhere.
    pub(super) secrets: Vec<String>,
}

impl Record {
    /// The history of the order of this number.
    pub(super) fn of(&mut self, out_trade_no: &str) -> Option<&mut History> {
        self.orders.get_mut(out_trade_no.strip_prefix('C')?.parse::<usize>().ok()?)
    }
}

/// One function, when its work was done.
#[derive(Debug)]
pub(super) struct FunctionRecord {
    pub(super) log: String,
    /// How much it grew since it was warm, if it had so much to do.
    pub(super) growth_kib: Option<u64>,
    /// How many sockets and files it had open.
    pub(super) descriptors: usize,
}

/// One order's history.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) planned: PlannedOrder,
    /// What it was when all was over, as `outcome` has it.
    pub(super) truth: &'static str,
    /// Before which moment nothing may be sent.
    pub(super) due: Option<Instant>,
    /// Whether a message of it is in the queue of invalid orders.
    pub(super) is_set_aside: bool,
    pub(super) invocations: Vec<Invocation>,
    pub(super) requests: Vec<Request>,
    pub(super) events: Vec<Event>,
}

/// One invocation, as far as it is about one order.
#[derive(Clone, Debug)]
pub(super) struct Invocation {
    /// As its log line has them: of the request, of the message (empty with a direct call), and `out_trade_no`.
    pub(super) ids: [String; 3],
    pub(super) answer: Answer,
    pub(super) from: Instant,
    pub(super) to: Instant,
    pub(super) is_in_time: bool,
    /// Whether its timeout left time for a query.
    pub(super) has_time: bool,
    /// What concerned its order meanwhile.
    pub(super) incidents: Vec<Incident>,
    /// The order's log lines.
    pub(super) lines: Vec<Line>,
}

/// What the caller got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A direct call's `outcome`; `None` with a function error.
    Direct(Option<String>),
    /// Whether the message left the queue.
    Message { is_acknowledged: bool },
}

/// A log line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Empty while the order waits for its time.
    pub(super) outcome: String,
    pub(super) is_confirmed: bool,
    /// Requests to closeorder and to orderquery.
    pub(super) requests: [u64; 2],
}

/// A request about an order.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) call: Option<Call>,
    pub(super) at: Instant,
    /// Whether it names the order's merchant, and has a signature that is this merchant's.
    pub(super) is_merchants_own: bool,
}

/// Whether nothing is left to do about an order: its message is acknowledged.
pub(super) fn is_conclusive(outcome: &str) -> bool {
    ["closed", "paid", "not_found"].contains(&outcome)
}

impl History {
    /// Whether a genuine reply about another order, or to another call, was among the replies.
    pub(super) fn was_replayed(&self) -> bool {
        self.planned.faults.iter().any(|(_, fault)| matches!(fault, Fault::Replay | Fault::OtherCall))
    }
}

/// The state of an order, as `outcome` has it.
pub(super) fn truth(state: Option<TradeState>) -> &'static str {
    match state {
        None => "not_found",
        Some(TradeState::Closed | TradeState::Revoked) => "closed",
        Some(state) if state.is_paid() => "paid",
        Some(_) => "open",
    }
}

impl Invocation {
    /// Whether it was under way then.
    pub(super) fn is_during(&self, at: Instant) -> bool {
        (self.from..=self.to).contains(&at)
    }

    /// Whether no other invocation was about the order at the same time.
    pub(super) fn is_alone(&self, history: &History) -> bool {
        history.invocations.iter().filter(|other| other.from <= self.to && self.from <= other.to).count() == 1
    }

    /// Whether an event is of its message, and has its outcome.
    pub(super) fn is_published_by(&self, event: &Event) -> bool {
        let has = |name: &str, value: &str| event.detail.get(name).is_some_and(|it| it == value);
        let is_of_line = |line: &Line| is_conclusive(&line.outcome) && has("outcome", &line.outcome);
        let [_, message_id, _] = &self.ids;
        has("message_id", message_id) && self.lines.iter().any(is_of_line) && self.is_during(event.at)
    }
}
