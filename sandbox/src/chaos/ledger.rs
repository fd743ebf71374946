//! What the function said, held against what the gateway knows.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use super::plan::Plan;
use crate::{
    mock::function::{Invocation, Outcome},
    mock::gateway::{Gateway, TradeState},
    mock::signed_xml::read_xml,
};

/// How much a warm function may grow, in kibibytes.
const MAX_GROWTH_KIB: u64 = 2048;

/// How often one order may be sent in one invocation.
const MAX_TRIES: usize = 3;

/// What the function said of an order in one invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It is closed.
    Closed,
    /// It is paid.
    Paid,
    /// The message is done: the order is closed, or can't be.
    Done,
    /// Nobody knows, or not now: call again.
    Unknown,
}

/// One line of the books.
#[derive(Clone, Debug)]
pub struct Account {
    /// What must hold.
    pub rule: &'static str,
    /// How often it was put to the test.
    pub checked: usize,
    /// What broke it; empty when it holds.
    pub broken: Vec<String>,
}

/// What was said and done in a run.
#[derive(Clone, Debug)]
pub struct Books {
    said: Vec<Vec<Word>>,
    settled: usize,
    invocations: usize,
    late: Vec<String>,
    narrowest: Duration,
    growth: Vec<u64>,
    start: Instant,
    pub(super) weather: usize,
    pub(super) acknowledged: usize,
    pub(super) dead_lettered: usize,
    accounts: Vec<Account>,
    took: Duration,
}

impl Books {
    pub(super) fn new(orders: usize) -> Self {
        Self {
            said: vec![Vec::new(); orders],
            settled: 0,
            invocations: 0,
            late: Vec::new(),
            narrowest: Duration::MAX,
            growth: Vec::new(),
            start: Instant::now(),
            weather: 0,
            acknowledged: 0,
            dead_lettered: 0,
            accounts: Vec::new(),
            took: Duration::ZERO,
        }
    }

    pub(super) fn invoked(&mut self, invocation: &Invocation, deadline: Duration) {
        self.invocations += 1;
        if matches!(invocation.outcome, Outcome::Answered(_)) && invocation.took < deadline {
            self.narrowest = self.narrowest.min(deadline.saturating_sub(invocation.took));
        } else {
            self.late.push(format!("{:?} after {:?} of {deadline:?}", invocation.outcome, invocation.took));
        }
    }

    pub(super) fn said(&mut self, place: usize, word: Word) {
        if let Some(said) = self.said.get_mut(place) {
            said.push(word);
        }
    }

    pub(super) fn settled(&mut self, orders: usize) {
        self.settled += orders;
    }

    pub(super) fn progress(&self) -> (usize, usize) {
        (self.settled, self.said.len())
    }

    pub(super) fn memory(&mut self, early_kib: u64, late_kib: u64) {
        self.growth.push(late_kib.saturating_sub(early_kib));
    }

    /// The lines of the books.
    #[must_use]
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Whether every line holds.
    #[must_use]
    pub fn balance(&self) -> bool {
        self.accounts.iter().all(|account| account.broken.is_empty())
    }

    /// Draws the lines.
    pub(super) fn close(&mut self, plan: &Plan, gateway: &Gateway) {
        self.took = self.start.elapsed();
        let received = gateway.received();
        let mut sent: HashMap<&str, usize> = HashMap::new();
        let mut forged = 0;
        for received in &received {
            if let Some(out_trade_no) = received.fields.get("out_trade_no") {
                *sent.entry(out_trade_no).or_default() += 1;
            }
            let reply = received.reply.as_deref().and_then(read_xml).unwrap_or_default();
            let says_closed = reply.get("result_code").is_some_and(|code| code == "SUCCESS");
            let order =
                plan.orders.iter().find(|order| received.fields.get("out_trade_no") == Some(&order.out_trade_no));
            forged += usize::from(says_closed && order.is_some_and(|order| order.is_forged));
        }
        let mut closed = Account::new("an order that was called closed is closed at the gateway");
        let mut paid = Account::new("an order that was called paid is paid, and a paid one was never called closed");
        let mut known = Account::new("an order closed at the gateway was called closed or unknown, never paid");
        let mut forgery = Account::new("no order was called closed on a forger's word");
        let mut tries = Account::new("no order was sent more than three times in one invocation");
        let mut words = Account::new("every order was spoken of");
        for (order, said) in plan.orders.iter().zip(&self.said) {
            let state = gateway.order(&order.out_trade_no);
            let has = |word| said.contains(&word);
            let what = || format!("{}: {state:?} after {:?}, said {said:?}", order.out_trade_no, order.state);
            let (called_closed, called_done) = (has(Word::Closed), has(Word::Done));
            // The real gateway calls an order closed that was never made, so its word for those is all there is.
            if called_closed && order.state.is_some() {
                closed.check(state == Some(TradeState::Closed), what);
            }
            if called_done {
                closed.check(!matches!(state, Some(TradeState::NotPay | TradeState::UserPaying)), what);
            }
            if has(Word::Paid) || state == Some(TradeState::Success) {
                paid.check(state == Some(TradeState::Success) && !called_closed, what);
            }
            if state == Some(TradeState::Closed) {
                known.check(!has(Word::Paid), what);
            }
            if order.is_forged {
                // All that ever comes back about it is forged, or an answer of a key that is being rotated.
                let was_closed_by_another_way = state == Some(TradeState::Closed);
                forgery.check(!called_closed && !called_done || was_closed_by_another_way, what);
            }
            let times = sent.get(order.out_trade_no.as_str()).copied().unwrap_or_default();
            tries.check(times <= MAX_TRIES * said.len(), || format!("{}: sent {times} times", order.out_trade_no));
            words.check(!said.is_empty(), what);
        }
        forgery.checked = forgery.checked.min(forged);
        let messages: usize = plan.jobs.iter().map(super::plan::Job::messages).sum();
        let mut queue = Account::new("every message was acknowledged or is in the dead-letter queue");
        queue.checked = messages;
        if self.acknowledged + self.dead_lettered != messages {
            queue.broken.push(format!("{} + {} of {messages}", self.acknowledged, self.dead_lettered));
        }
        let mut deadlines = Account::new("every invocation was answered before its deadline");
        deadlines.checked = self.invocations;
        deadlines.broken.clone_from(&self.late);
        let mut memory = Account::new("no warm function grew by more than 2 MiB");
        for &growth in &self.growth {
            memory.check(growth <= MAX_GROWTH_KIB, || format!("{growth} KiB"));
        }
        self.accounts = vec![closed, paid, known, forgery, queue, deadlines, tries, words, memory];
    }
}

impl Account {
    fn new(rule: &'static str) -> Self {
        Self { rule, checked: 0, broken: Vec::new() }
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.broken.push(what());
        }
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8}  {:>7}  what must hold", "checked", "broken")?;
        for account in &self.accounts {
            writeln!(f, "{:>8}  {:>7}  {}", account.checked, account.broken.len(), account.rule)?;
            for broken in account.broken.iter().take(5) {
                writeln!(f, "{:>19}{broken}", "")?;
            }
        }
        writeln!(
            f,
            "\n{} orders, {} invocations, {} changes of the weather, in {:.1} s; messages: {} acknowledged, {} dead letters; \
             narrowest answer {} ms before its deadline; most growth {} KiB",
            self.said.len(),
            self.invocations,
            self.weather,
            self.took.as_secs_f64(),
            self.acknowledged,
            self.dead_lettered,
            self.narrowest.as_millis(),
            self.growth.iter().max().copied().unwrap_or_default(),
        )?;
        write!(f, "{}", if self.balance() { "The books balance." } else { "The books do not balance." })
    }
}
