//! The rules of a run, how often each was checked, and what broke them.

use std::fmt::{self, Debug};

use serde_json::json;

use super::{
    incidents::Incident,
    record::{Answer, History, Invocation, Line, Record, is_conclusive},
};
use crate::mock::{
    gateway::Call,
    identity::{Flaw, MchType},
};

/// How much a warm function may grow, in kibibytes.
const MAX_GROWTH_KIB: u64 = 2048;

/// How many sockets and files a function may have open when its work is done: a connection for each of the ten orders of
/// a batch to each of two endpoints, those to AWS and to the Runtime API, and what the process itself has.
const MAX_DESCRIPTORS: usize = 48;

const TRUE: &str = "a confirmed `closed`, `paid` or `not_found` is what the gateway knows of the order, to the end";
const PLAIN: &str = "where nothing goes wrong, the outcome is what the gateway knows of the order";
const FLAWED: &str = "with a wrong key or without a secret nothing is known of an order";
const HELD_BACK: &str = "no request is sent before an order's `close_at`, about an invalid order, or without a secret";
const COUNTED: &str = "no request is received that the log line does not count, and none about what is `not_sent`";
const SIGNED: &str = "every request names its order's merchant, and no signature is rejected where the key is right";
const LINES: &str = "every order of every invocation has one log line, with the outcome that a direct call got";
const ACKNOWLEDGED: &str =
    "a message is acknowledged if its conclusive outcome is published or it is set aside, else not";
const EVENT: &str = "an event has its message's outcome, order and merchant, and only messages have events";
const QUEUE: &str = "every message was acknowledged or is in the dead-letter queue";
const DEADLINES: &str = "every invocation was answered before its deadline";
const SECRECY: &str = "no log and no event has a key, a credential or a payer's id";
const MEMORY: &str = "no warm function grew by more than 2 MiB";
const SOCKETS: &str = "no function has more than 48 sockets and files open when its work is done";

const RULES: [&str; 14] = [
    TRUE,
    PLAIN,
    FLAWED,
    HELD_BACK,
    COUNTED,
    SIGNED,
    LINES,
    ACKNOWLEDGED,
    EVENT,
    QUEUE,
    DEADLINES,
    SECRECY,
    MEMORY,
    SOCKETS,
];

/// The rules of a run. It is consistent if nothing broke one.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Every rule.
    pub rules: [Rule; RULES.len()],
}

/// What must hold.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The rule.
    pub text: &'static str,
    /// How often it was checked.
    pub checked: usize,
    /// What broke it; empty when it holds.
    pub broken: Vec<String>,
}

impl Ledger {
    /// Whether every rule holds.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.rules.iter().all(|rule| rule.broken.is_empty())
    }

    /// Checks everything.
    pub(super) fn new(record: &Record) -> Self {
        let rules = RULES.map(|text| Rule { text, checked: 0, broken: Vec::new() });
        let mut ledger = Self { rules };
        for order in &record.orders {
            ledger.enter(order);
        }
        for function in &record.functions {
            if let Some(growth) = function.growth_kib {
                ledger.check(MEMORY, growth <= MAX_GROWTH_KIB, format_args!("{growth} KiB"));
            }
            let descriptors = function.descriptors;
            ledger.check(SOCKETS, descriptors <= MAX_DESCRIPTORS, format_args!("{descriptors} are open"));
        }
        let events = record.orders.iter().flat_map(|order| &order.events).map(|event| event.detail.to_string());
        for text in record.functions.iter().map(|function| function.log.clone()).chain(events) {
            let leak = record.secrets.iter().find(|secret| text.contains(secret.as_str()));
            ledger.check(SECRECY, leak.is_none(), leak);
        }
        ledger.check(EVENT, record.stray_events == 0, format_args!("{} are about no order", record.stray_events));
        let messages: usize = record.orders.iter().map(|order| order.planned.messages).sum();
        let invocations = record.orders.iter().flat_map(|order| &order.invocations);
        let acknowledged = invocations.filter(|it| it.answer == Answer::Message { is_acknowledged: true }).count();
        let counts = [messages, acknowledged, record.dead_letters];
        ledger.check(QUEUE, messages == acknowledged + record.dead_letters, counts);
        ledger
    }

    fn check(&mut self, text: &str, holds: bool, what: impl Debug) {
        for rule in self.rules.iter_mut().filter(|rule| rule.text == text) {
            rule.checked += 1;
            if !holds {
                rule.broken.push(format!("{what:?}"));
            }
        }
    }

    /// Checks one order's history.
    fn enter(&mut self, order: &History) {
        let merchant = &order.planned.merchant;
        for it in &order.invocations {
            self.check(DEADLINES, it.is_in_time, (it, order));
            let is_answered = |line: &Line| match &it.answer {
                Answer::Direct(Some(outcome)) => *outcome == line.outcome,
                Answer::Direct(None) => !is_conclusive(&line.outcome) && line.outcome != "rejected",
                Answer::Message { .. } => true,
            };
            self.check(LINES, it.lines.len() == 1 && it.lines.iter().all(is_answered), (it, order));
            for line in &it.lines {
                self.enter_line(order, it, line);
            }
        }
        for request in &order.requests {
            self.check(SIGNED, request.is_merchants_own, (request, order));
        }
        let may_send_nothing = order.planned.is_invalid || merchant.flaw == Some(Flaw::NoSecret);
        if may_send_nothing || order.due.is_some() {
            let is_allowed = |at| !may_send_nothing && order.due.is_none_or(|due| at >= due);
            self.check(HELD_BACK, order.requests.iter().all(|request| is_allowed(request.at)), order);
        }
        for event in &order.events {
            let is_partner = merchant.identity.mch_type == MchType::Partner;
            let has = |name: &str, value: Option<&String>| event.detail.get(name) == value.map(|it| json!(it)).as_ref();
            let is_right = has("mch_id", Some(&merchant.identity.mch_id))
                && has("sub_mch_id", order.planned.sub_mch_id.as_ref().filter(|_| is_partner))
                && order.invocations.iter().any(|it| it.is_published_by(event));
            self.check(EVENT, is_right, (event, order));
        }
    }

    /// Checks what the log says of one order of one invocation.
    fn enter_line(&mut self, order: &History, it: &Invocation, line: &Line) {
        let outcome = line.outcome.as_str();
        let (is_true, is_final) = (outcome == order.truth, is_conclusive(outcome));
        let had = |is_meant: fn(&Incident) -> bool| it.incidents.iter().any(is_meant);
        // ORDERNOTEXIST names no order, so a genuine one about another order can't be told from this one's.
        if line.is_confirmed && is_final && !(outcome == "not_found" && order.was_replayed()) {
            self.check(TRUE, is_true, (it, order));
        }
        if order.planned.is_plain() && it.has_time && !had(|it| !it.is_in_results()) && !outcome.is_empty() {
            self.check(PLAIN, is_true, (it, order));
        }
        if order.planned.merchant.flaw.is_some() {
            self.check(FLAWED, !is_final && outcome != "open", (it, order));
        }
        if it.is_alone(order) {
            let requests = order.requests.iter().filter(|request| it.is_during(request.at));
            let received = Call::ALL.map(|call| requests.clone().filter(|it| it.call == Some(call)).count() as u64);
            let most = if outcome == "not_sent" { [0, 0] } else { line.requests };
            self.check(COUNTED, received.iter().zip(most).all(|(&received, most)| received <= most), (it, order));
        }
        if let Answer::Message { is_acknowledged } = it.answer {
            let is_done = if order.planned.is_invalid {
                order.is_set_aside
            } else {
                is_final && order.events.iter().any(|event| it.is_published_by(event))
            };
            // A call can fail, or be answered too late, or its answer be lost.
            let may_fail = !it.has_time
                || if order.planned.is_invalid { had(|it| it.queue.is_some()) } else { had(|it| it.events.is_some()) };
            let is_right = if is_acknowledged { is_done } else { may_fail || !(is_final || order.planned.is_invalid) };
            self.check(ACKNOWLEDGED, is_right, (it, order));
        }
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8}  {:>7}  what must hold", "checked", "broken")?;
        for rule in &self.rules {
            writeln!(f, "{:>8}  {:>7}  {}", rule.checked, rule.broken.len(), rule.text)?;
            for broken in rule.broken.iter().take(5) {
                writeln!(f, "{:>19}{broken}", "")?;
            }
        }
        let is = if self.is_consistent() { "is" } else { "is NOT" };
        write!(f, "The ledger {is} consistent.")
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;
    use crate::{
        chaos::{
            plan::PlannedOrder,
            record::{FunctionRecord, Request},
        },
        mock::{event_bus::Event, gateway::TradeState, identity::Merchant},
    };

    const ACKED: Answer = Answer::Message { is_acknowledged: true };
    const LEFT: Answer = Answer::Message { is_acknowledged: false };
    const SECOND: Duration = Duration::from_secs(1);

    /// One message that was closed, confirmed, acknowledged and published.
    fn record() -> Record {
        let from = Instant::now();
        let merchant = Merchant::default();
        let detail = json!({"mch_id": merchant.identity.mch_id, "message_id": "1", "outcome": "closed"});
        let planned =
            PlannedOrder { merchant, order: Some(TradeState::NotPay.into()), messages: 1, ..Default::default() };
        let mut order = History { planned, truth: "closed", ..Default::default() };
        order.requests = Call::ALL.map(|call| Request { call: Some(call), at: from, is_merchants_own: true }).into();
        let [bus, source, detail_type] = <[String; 3]>::default();
        order.events.push(Event { bus, source, detail_type, detail, at: from });
        order.invocations.push(Invocation {
            ids: ["", "1", ""].map(str::to_owned),
            answer: ACKED,
            from,
            to: from + SECOND,
            is_in_time: true,
            has_time: true,
            incidents: Vec::new(),
            lines: vec![Line { outcome: "closed".to_owned(), is_confirmed: true, requests: [1, 1] }],
        });
        let (log, growth_kib) = ("the log".to_owned(), Some(MAX_GROWTH_KIB));
        let functions = vec![FunctionRecord { log, growth_kib, descriptors: MAX_DESCRIPTORS }];
        Record { orders: vec![order], functions, stray_events: 0, dead_letters: 0, secrets: vec!["the key".to_owned()] }
    }

    fn order(record: &mut Record) -> &mut History {
        &mut record.orders[0]
    }

    fn invocation(record: &mut Record) -> &mut Invocation {
        &mut record.orders[0].invocations[0]
    }

    fn line(record: &mut Record) -> &mut Line {
        &mut record.orders[0].invocations[0].lines[0]
    }

    /// Nothing is published, and this is the outcome.
    fn ends(record: &mut Record, outcome: &str, answer: Answer) {
        record.dead_letters = usize::from(answer == LEFT);
        order(record).planned.messages = usize::from(!matches!(answer, Answer::Direct(_)));
        order(record).events.clear();
        line(record).outcome = outcome.to_owned();
        invocation(record).answer = answer;
    }

    fn is_invalid(record: &mut Record, is_set_aside: bool, answer: Answer) {
        ends(record, "not_sent", answer);
        (order(record).planned.is_invalid, order(record).is_set_aside) = (true, is_set_aside);
        order(record).requests.clear();
    }

    /// Which rules it breaks when this is changed in that record.
    type Change = (&'static [&'static str], fn(&mut Record));

    const CHANGES: &[Change] = &[
        (&[], |_| ()),
        (&[], |it| ends(it, "closed", Answer::Direct(Some("closed".to_owned())))),
        (&[TRUE, PLAIN], |it| order(it).truth = "open"),
        (&[PLAIN], |it| ends(it, "unknown", LEFT)),
        (&[FLAWED], |it| order(it).planned.merchant.flaw = Some(Flaw::WrongKey)),
        (&[HELD_BACK], |it| {
            ends(it, "unknown", LEFT);
            order(it).planned.merchant.flaw = Some(Flaw::NoSecret);
        }),
        (&[HELD_BACK], |it| order(it).due = Some(invocation(it).to)),
        (&[HELD_BACK, ACKNOWLEDGED], |it| order(it).planned.is_invalid = true),
        (&[COUNTED], |it| line(it).requests = [0, 2]),
        (&[COUNTED], |it| line(it).requests = [2, 0]),
        (&[PLAIN, COUNTED], |it| ends(it, "not_sent", LEFT)),
        (&[SIGNED], |it| order(it).requests[0].is_merchants_own = false),
        (&[LINES, EVENT], |it| invocation(it).lines.clear()),
        (&[LINES], |it| invocation(it).lines = vec![line(it).clone(), line(it).clone()]),
        (&[LINES], |it| ends(it, "closed", Answer::Direct(Some("paid".to_owned())))),
        (&[LINES], |it| ends(it, "closed", Answer::Direct(None))),
        (&[ACKNOWLEDGED], |it| ends(it, "closed", ACKED)),
        (&[ACKNOWLEDGED], |it| ends(it, "closed", LEFT)),
        (&[], |it| is_invalid(it, true, ACKED)),
        (&[ACKNOWLEDGED], |it| is_invalid(it, false, ACKED)),
        (&[ACKNOWLEDGED], |it| is_invalid(it, true, LEFT)),
        (&[ACKNOWLEDGED, EVENT], |it| order(it).events[0].at -= SECOND),
        (&[ACKNOWLEDGED, EVENT], |it| order(it).events[0].detail["outcome"] = json!("paid")),
        (&[ACKNOWLEDGED, EVENT], |it| order(it).events[0].detail["message_id"] = json!("2")),
        (&[EVENT], |it| order(it).events[0].detail["mch_id"] = json!("1")),
        (&[EVENT], |it| order(it).events[0].detail["sub_mch_id"] = json!("1")),
        (&[EVENT], |it| it.stray_events = 1),
        (&[PLAIN, LINES], |it| ends(it, "rejected", Answer::Direct(None))),
        (&[QUEUE], |it| it.dead_letters = 1),
        (&[QUEUE], |it| order(it).planned.messages = 2),
        (&[DEADLINES], |it| invocation(it).is_in_time = false),
        (&[SECRECY], |it| it.functions[0].log += ": the key"),
        (&[SECRECY], |it| order(it).events[0].detail["err_code_des"] = json!("the key")),
        (&[MEMORY], |it| it.functions[0].growth_kib = Some(MAX_GROWTH_KIB + 1)),
        (&[SOCKETS], |it| it.functions[0].descriptors += 1),
    ];

    #[test]
    fn every_rule_can_be_broken() {
        for (index, (rules, change)) in CHANGES.iter().enumerate() {
            let mut record = record();
            change(&mut record);
            let ledger = Ledger::new(&record);
            let broken = ledger.rules.iter().filter(|rule| !rule.broken.is_empty());
            assert_eq!(broken.map(|rule| rule.text).collect::<Vec<_>>(), *rules, "{index}");
            assert_eq!(ledger.is_consistent(), rules.is_empty());
        }
        assert!(RULES.iter().all(|rule| CHANGES.iter().any(|(rules, _)| rules.contains(rule))));
    }
}
