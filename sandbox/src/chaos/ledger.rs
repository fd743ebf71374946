//! What the function said, compared with what the gateway knows.

use std::{fmt, time::Duration};

use super::{
    history::History,
    rules::{EVENT_RULES, STATEMENT_RULES},
};
use crate::mock::{
    event_bus,
    function::{Invocation, Outcome},
};

/// How much a warm function may grow, in kibibytes.
const MAX_GROWTH_KIB: u64 = 2048;

/// The rules of a run, how often each was checked, and what broke it. It is consistent if nothing did.
#[derive(Clone, Debug)]
pub struct Ledger {
    statements: Vec<Rule>,
    events: Vec<Rule>,
    lines: Rule,
    secrecy: Rule,
    queue: Rule,
    deadlines: Rule,
    memory: Rule,
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
        Self {
            statements: STATEMENT_RULES.iter().map(|rule| Rule::new(rule.text)).collect(),
            events: EVENT_RULES.iter().map(|rule| Rule::new(rule.text)).collect(),
            lines: Rule::new("every order of every invocation has one log line, with an outcome"),
            secrecy: Rule::new("no log has a key, a credential, a signature or a payer's id"),
            queue: Rule::new("every message was acknowledged or is in the dead-letter queue"),
            deadlines: Rule::new("every invocation was answered before its deadline"),
            memory: Rule::new("no warm function grew by more than 2 MiB"),
            totals: Totals::default(),
        }
    }
}

impl Ledger {
    /// Every rule.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let others = [&self.lines, &self.secrecy, &self.queue, &self.deadlines, &self.memory];
        self.statements.iter().chain(&self.events).chain(others)
    }

    /// Whether every rule holds.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.rules().all(|rule| rule.broken.is_empty())
    }

    /// Checks one order's history.
    pub(super) fn enter(&mut self, history: &History) {
        self.totals.orders += 1;
        self.totals.published += history.published.len();
        for statement in &history.statements {
            for (rule, entry) in STATEMENT_RULES.iter().zip(&mut self.statements) {
                if let Some(holds) = (rule.holds)(history, statement) {
                    entry.check(holds, || format!("{:?}: {history}", statement.claim));
                }
            }
        }
        for event in &history.published {
            for (rule, entry) in EVENT_RULES.iter().zip(&mut self.events) {
                entry.check((rule.holds)(history, event), || format!("{event:?}: {history}"));
            }
        }
    }

    /// Takes down an event about no order of the run.
    pub(super) fn stray(&mut self, event: &event_bus::Event) {
        if let Some(rule) = self.events.first_mut() {
            rule.check(false, || format!("{event:?}"));
        }
    }

    /// Checks whether an order has its one log line of an invocation.
    pub(super) fn logged(&mut self, lines: usize, out_trade_no: &str) {
        self.lines.check(lines == 1, || format!("{out_trade_no}: {lines} lines with an outcome in one invocation"));
    }

    /// Checks a function's log.
    pub(super) fn log(&mut self, log: &str, secrets: &[String]) {
        let leak = secrets.iter().find(|secret| log.contains(secret.as_str()));
        self.secrecy.check(leak.is_none(), || format!("a log has {leak:?}"));
    }

    /// Checks an invocation's time.
    pub(super) fn invoked(&mut self, invocation: &Invocation, deadline: Duration) {
        let is_in_time = matches!(invocation.outcome, Outcome::Answered(_)) && invocation.took < deadline;
        self.deadlines
            .check(is_in_time, || format!("{:?} after {:?} of {deadline:?}", invocation.outcome, invocation.took));
        self.totals.invocations += 1;
        if is_in_time {
            let left = deadline.saturating_sub(invocation.took);
            self.totals.narrowest = Some(self.totals.narrowest.map_or(left, |narrowest| narrowest.min(left)));
        }
    }

    /// Checks how much a function grew.
    pub(super) fn grown(&mut self, kib: u64) {
        self.memory.check(kib <= MAX_GROWTH_KIB, || format!("{kib} KiB"));
        self.totals.most_growth_kib = self.totals.most_growth_kib.max(kib);
    }

    /// Checks where the messages went.
    pub(super) fn delivered(&mut self, messages: usize, acknowledged: usize, dead_lettered: usize) {
        self.queue.checked += messages;
        if acknowledged + dead_lettered != messages {
            self.queue.broken.push(format!("{acknowledged} + {dead_lettered} of {messages}"));
        }
        self.totals.acknowledged += acknowledged;
        self.totals.dead_lettered += dead_lettered;
    }

    /// Takes down how many incidents there were, and how long it all took.
    pub(super) fn ran(&mut self, incidents: usize, took: Duration) {
        self.totals.incidents += incidents;
        self.totals.took += took;
    }
}

impl Rule {
    fn new(text: &'static str) -> Self {
        Self { text, checked: 0, broken: Vec::new() }
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.broken.push(what());
        }
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
        write!(
            f,
            "{}",
            if self.is_consistent() { "The ledger is consistent." } else { "The ledger is NOT consistent." }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::runtime::{Answer, Ids};

    /// The rule that one entry breaks.
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
        assert_eq!(broken(|ledger| ledger.logged(0, "P000000")).len(), 1);
        assert_eq!(broken(|ledger| ledger.logged(2, "P000000")).len(), 1);
        assert_eq!(broken(|ledger| ledger.log("the key", &["key".to_owned()])).len(), 1);
        assert_eq!(broken(|ledger| ledger.invoked(&invocation(answered(), second), second)).len(), 1);
        assert_eq!(broken(|ledger| ledger.invoked(&invocation(Outcome::Exited, Duration::ZERO), second)).len(), 1);
        assert_eq!(broken(|ledger| ledger.grown(MAX_GROWTH_KIB + 1)).len(), 1);
        assert_eq!(broken(|ledger| ledger.delivered(3, 1, 1)).len(), 1);
    }

    #[test]
    fn what_is_as_it_should_be_breaks_none() {
        let second = Duration::from_secs(1);
        let answered = Outcome::Answered(Answer::Response(String::new()));
        let entries = broken(|ledger| {
            ledger.logged(1, "P000000");
            ledger.log("nothing", &["key".to_owned()]);
            ledger.invoked(&invocation(answered, second / 2), second);
            ledger.grown(MAX_GROWTH_KIB);
            ledger.delivered(3, 1, 2);
        });
        assert_eq!(entries, <[&str; 0]>::default());
    }
}
