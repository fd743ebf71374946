//! The rules of a run, how often each was checked, and what broke them.

use std::{fmt, time::Duration};

use super::history::{EVENT_RULE, History, INVOCATION_RULES, NOT_BEFORE, WAITS};
use crate::mock::{
    event_bus,
    function::{Invocation, Outcome},
};

/// How much a warm function may grow, in kibibytes.
const MAX_GROWTH_KIB: u64 = 2048;

/// How many sockets and files a function may have open when its work is done: a connection for each of the ten orders of
/// a batch to each of two endpoints, those to AWS and to the Runtime API, and what the process itself has.
const MAX_DESCRIPTORS: usize = 48;

/// The rules beside those about single invocations and events.
const SIGNED: &str =
    "every request names its order's merchant, and no signature of a merchant with the right key is rejected";
const LINES: &str = "every order of every invocation has one log line, with an outcome or that it waits";
const SECRECY: &str = "no log has a key, a credential, a signature or a payer's id";
const QUEUE: &str = "every message was acknowledged or is in the dead-letter queue, and none is left";
const DEADLINES: &str = "every invocation was answered before its deadline";
const MEMORY: &str = "no warm function grew by more than 2 MiB";
const SOCKETS: &str = "no function has more than 48 sockets and files open when its work is done";

/// The rules of a run. It is consistent if nothing broke one.
#[derive(Clone, Debug)]
pub struct Ledger {
    rules: Vec<Rule>,
    totals: Totals,
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

#[derive(Clone, Debug, Default)]
struct Totals {
    orders: usize,
    invocations: usize,
    incidents: usize,
    acknowledged: usize,
    dead_lettered: usize,
    published: usize,
    narrowest: Option<Duration>,
    most_growth_kib: u64,
    took: Duration,
}

impl Default for Ledger {
    fn default() -> Self {
        let others = [EVENT_RULE, NOT_BEFORE, WAITS, SIGNED, LINES, SECRECY, QUEUE, DEADLINES, MEMORY, SOCKETS];
        let texts = INVOCATION_RULES.iter().map(|rule| rule.text).chain(others);
        let rules = texts.map(|text| Rule { text, checked: 0, broken: Vec::new() }).collect();
        Self { rules, totals: Totals::default() }
    }
}

impl Ledger {
    /// Every rule.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Whether every rule holds.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.rules().all(|rule| rule.broken.is_empty())
    }

    fn check(&mut self, text: &str, holds: bool, what: impl FnOnce() -> String) {
        if let Some(rule) = self.rules.iter_mut().find(|rule| rule.text == text) {
            rule.checked += 1;
            if !holds {
                rule.broken.push(what());
            }
        }
    }

    /// Checks one order's history.
    pub(super) fn enter(&mut self, history: &History) {
        self.totals.orders += 1;
        self.totals.published += history.published.len();
        for invocation in &history.invocations {
            for rule in &INVOCATION_RULES {
                if let Some(holds) = (rule.holds)(history, invocation) {
                    self.check(rule.text, holds, || format!("{:?}: {history:?}", invocation.outcome));
                }
            }
        }
        if let Some(holds) = history.is_sent_in_time() {
            self.check(NOT_BEFORE, holds, || format!("{history:?}"));
        }
        for wait in &history.waits {
            self.check(WAITS, history.is_left(wait), || format!("{wait:?}: {history:?}"));
        }
        for event in &history.published {
            self.check(EVENT_RULE, history.is_right(event), || format!("{event:?}: {history:?}"));
        }
    }

    /// Takes down an event about no order of the run.
    pub(super) fn stray(&mut self, event: &event_bus::Event) {
        self.check(EVENT_RULE, false, || format!("{event:?}"));
    }

    /// Checks a request: whether it is of its order's merchant.
    pub(super) fn requested(&mut self, is_merchants_own: bool, received: impl fmt::Debug) {
        self.check(SIGNED, is_merchants_own, || format!("{received:?}"));
    }

    /// Checks whether an order has its one log line of an invocation.
    pub(super) fn logged(&mut self, lines: usize, out_trade_no: &str) {
        self.check(LINES, lines == 1, || format!("{out_trade_no}: {lines} lines in one invocation"));
    }

    /// Checks a function's log.
    pub(super) fn log(&mut self, log: &str, secrets: &[String]) {
        let leak = secrets.iter().find(|secret| log.contains(secret.as_str()));
        self.check(SECRECY, leak.is_none(), || format!("a log has {leak:?}"));
    }

    /// Checks an invocation's time.
    pub(super) fn invoked(&mut self, invocation: &Invocation, deadline: Duration) {
        let is_in_time = matches!(invocation.outcome, Outcome::Answered(_)) && invocation.took < deadline;
        let what = || format!("{:?} after {:?} of {deadline:?}", invocation.outcome, invocation.took);
        self.check(DEADLINES, is_in_time, what);
        self.totals.invocations += 1;
        if is_in_time {
            let left = deadline.saturating_sub(invocation.took);
            self.totals.narrowest = Some(self.totals.narrowest.map_or(left, |narrowest| narrowest.min(left)));
        }
    }

    /// Checks how much a function grew.
    pub(super) fn grown(&mut self, kib: u64) {
        self.check(MEMORY, kib <= MAX_GROWTH_KIB, || format!("{kib} KiB"));
        self.totals.most_growth_kib = self.totals.most_growth_kib.max(kib);
    }

    /// Checks how many sockets and files a function has open.
    pub(super) fn open(&mut self, descriptors: usize) {
        self.check(SOCKETS, descriptors <= MAX_DESCRIPTORS, || format!("{descriptors} are open"));
    }

    /// Checks where the messages went.
    pub(super) fn delivered(&mut self, messages: usize, acknowledged: usize, dead_lettered: usize) {
        let is_right = acknowledged + dead_lettered == messages;
        self.check(QUEUE, is_right, || format!("{acknowledged} + {dead_lettered} of {messages}"));
        self.totals.acknowledged += acknowledged;
        self.totals.dead_lettered += dead_lettered;
    }

    /// Takes down how many incidents there were, and how long it all took.
    pub(super) fn ran(&mut self, incidents: usize, took: Duration) {
        self.totals.incidents += incidents;
        self.totals.took += took;
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8}  {:>7}  what must hold", "checked", "broken")?;
        for rule in self.rules() {
            writeln!(f, "{:>8}  {:>7}  {}", rule.checked, rule.broken.len(), rule.text)?;
            for broken in rule.broken.iter().take(5) {
                writeln!(f, "{:>19}{broken}", "")?;
            }
        }
        let totals = &self.totals;
        writeln!(
            f,
            "\n{} orders, {} invocations, {} incidents, in {:.1} s; messages: {} acknowledged, {} dead letters; \
             {} events; narrowest answer {} ms before its deadline; most growth {} KiB",
            totals.orders,
            totals.invocations,
            totals.incidents,
            totals.took.as_secs_f64(),
            totals.acknowledged,
            totals.dead_lettered,
            totals.published,
            totals.narrowest.unwrap_or_default().as_millis(),
            totals.most_growth_kib,
        )?;
        let is = if self.is_consistent() { "is" } else { "is NOT" };
        write!(f, "The ledger {is} consistent.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::runtime::{Answer, Ids};

    /// The rules that these entries break.
    fn broken(enter: impl FnOnce(&mut Ledger)) -> Vec<&'static str> {
        let mut ledger = Ledger::default();
        enter(&mut ledger);
        assert_eq!(ledger.is_consistent(), !ledger.to_string().contains("NOT consistent"));
        ledger.rules().filter(|rule| !rule.broken.is_empty()).map(|rule| rule.text).collect()
    }

    fn invocation(outcome: Outcome, took: Duration) -> Invocation {
        Invocation { outcome, took, ids: Ids { request_id: String::new(), trace_id: String::new() } }
    }

    #[test]
    fn every_rule_beside_those_of_orders_and_events_can_be_broken() {
        let second = Duration::from_secs(1);
        let answered = || Outcome::Answered(Answer::Response(String::new()));
        assert_eq!(broken(|ledger| ledger.logged(0, "P000000")), [LINES]);
        assert_eq!(broken(|ledger| ledger.logged(2, "P000000")), [LINES]);
        assert_eq!(broken(|ledger| ledger.requested(false, "a request")), [SIGNED]);
        assert_eq!(broken(|ledger| ledger.log("the key", &["key".to_owned()])), [SECRECY]);
        assert_eq!(broken(|ledger| ledger.invoked(&invocation(answered(), second), second)), [DEADLINES]);
        assert_eq!(broken(|ledger| ledger.invoked(&invocation(Outcome::Exited, Duration::ZERO), second)), [DEADLINES]);
        assert_eq!(broken(|ledger| ledger.grown(MAX_GROWTH_KIB + 1)), [MEMORY]);
        assert_eq!(broken(|ledger| ledger.open(MAX_DESCRIPTORS + 1)), [SOCKETS]);
        assert_eq!(broken(|ledger| ledger.delivered(3, 1, 1)), [QUEUE]);
    }

    #[test]
    fn what_is_as_it_should_be_breaks_none() {
        let second = Duration::from_secs(1);
        let answered = Outcome::Answered(Answer::Response(String::new()));
        let entries = broken(|ledger| {
            ledger.logged(1, "P000000");
            ledger.requested(true, "a request");
            ledger.log("nothing", &["key".to_owned()]);
            ledger.invoked(&invocation(answered, second / 2), second);
            ledger.grown(MAX_GROWTH_KIB);
            ledger.open(MAX_DESCRIPTORS);
            ledger.delivered(3, 1, 2);
        });
        assert_eq!(entries, <[&str; 0]>::default());
    }
}
