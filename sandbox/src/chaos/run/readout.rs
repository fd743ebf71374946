//! What a run left behind: the functions' logs, the gateway's record and the events, read into each order's history.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use serde_json::Value;

use super::{Invoked, Queue, Run, SUB_MCH_ID, Span, TIME_TO_QUERY, message_id};
use crate::{
    chaos::{
        history::{Claim, Exchange, History, Published, Reply, Statement},
        ledger::Ledger,
        plan::{Part, Work},
    },
    mock::{event_bus, identity::MchType, lock},
};

impl Run {
    /// Reads what a function's log says of its invocations' orders.
    pub(super) fn read_log(&self, function: usize, invocations: &[Invoked], lines: &[Value]) {
        let text = |line: &Value, name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut by_order: HashMap<(String, String), Vec<&Value>> = HashMap::new();
        for line in lines {
            by_order.entry((text(line, "requestId"), text(line, "out_trade_no"))).or_default().push(line);
        }
        for invoked in invocations {
            for &(order, state_before, answer) in &invoked.orders {
                let Some(planned) = self.plan.orders.get(order) else { continue };
                let key = (invoked.request_id.clone(), planned.out_trade_no.clone());
                let lines = by_order.remove(&key).unwrap_or_default();
                let claims = lines.iter().filter_map(|line| Some((*line, Claim::read(line.get("outcome")?)?)));
                let claims: Vec<(&Value, Claim)> = claims.collect();
                lock(&self.ledger).logged(claims.len(), &planned.out_trade_no);
                let statements = claims.into_iter().map(|(line, claim)| {
                    let count = |name: &str| line.get(name).and_then(Value::as_u64).unwrap_or_default();
                    let trade_state = text(line, "trade_state");
                    Statement {
                        claim,
                        is_proved: match claim {
                            Claim::Closed => matches!(trade_state.as_str(), "CLOSED" | "REVOKED"),
                            Claim::Paid => matches!(trade_state.as_str(), "SUCCESS" | "REFUND"),
                            _ => false,
                        },
                        requests: ["attempts", "queries"].map(count),
                        answer,
                        is_confirmed: planned.confirm.unwrap_or(invoked.is_batch) && invoked.timeout >= TIME_TO_QUERY,
                        state_before,
                        from: invoked.from,
                        to: invoked.to,
                        function,
                        incidents: self.incidents_during(invoked),
                    }
                });
                lock(&self.statements).entry(order).or_default().extend(statements);
            }
        }
    }

    fn incidents_during(&self, invoked: &Invoked) -> Vec<Part> {
        let incidents = lock(&self.incidents);
        let overlaps = |span: &&Span| span.from <= invoked.to && span.to.is_none_or(|to| invoked.from <= to);
        incidents.iter().filter(overlaps).map(|span| span.part).collect()
    }

    /// Puts together what happened to each order, and enters it into the ledger.
    pub(super) fn close(&self, start: Instant) -> Ledger {
        let gateway = &self.sandbox.gateway;
        let mut indexes = HashMap::new();
        let mut histories = Vec::new();
        let mut statements = std::mem::take(&mut *lock(&self.statements));
        for (index, planned) in self.plan.orders.iter().enumerate() {
            let mut history = History::new(planned.clone(), gateway.order(&planned.out_trade_no));
            history.statements = statements.remove(&index).unwrap_or_default();
            indexes.insert(planned.out_trade_no.as_str(), index);
            histories.push(history);
        }
        for received in gateway.received() {
            let order = received.fields.get("out_trade_no").and_then(|order| indexes.get(order.as_str()));
            if let Some(history) = order.and_then(|&order| histories.get_mut(order)) {
                history.exchanges.extend(Exchange::read(&received));
            }
        }
        mark_replays(&mut histories);
        let mut ledger = lock(&self.ledger).clone();
        let secrets = self.secrets();
        for event in self.sandbox.events.events() {
            let order = event.detail.get("out_trade_no").and_then(Value::as_str).and_then(|order| indexes.get(order));
            match order.and_then(|&order| Some((order, histories.get_mut(order)?))) {
                Some((order, history)) => history.published.push(self.published(&event, order, &secrets)),
                None => ledger.stray(&event),
            }
        }
        for history in &histories {
            ledger.enter(history);
        }
        let Queue { acknowledged, dead_lettered } = *lock(&self.queue);
        let messages = self.plan.jobs.iter().map(|job| match &job.work {
            Work::Direct(_) => 0,
            Work::Batch(orders) => orders.len(),
        });
        ledger.delivered(messages.sum(), acknowledged, dead_lettered);
        ledger.ran(lock(&self.incidents).len(), start.elapsed());
        ledger
    }

    fn published(&self, event: &event_bus::Event, order: usize, secrets: &[String]) -> Published {
        let field = |name: &str| event.detail.get(name).and_then(Value::as_str);
        let identity = &self.plan.identity;
        let sub_mch_id = (identity.mch_type == MchType::Partner).then_some(SUB_MCH_ID);
        let text = event.detail.to_string();
        let is_secret = |name| event.detail.get(name).is_some();
        let mistake = if (event.source.as_str(), event.detail_type.as_str()) != ("close-order", "Order Outcome") {
            Some("another source or type")
        } else if event.bus != event_bus::BUS {
            Some("another bus")
        } else if field("message_id") != Some(&message_id(order)) {
            Some("another message")
        } else if field("mch_id") != Some(&identity.mch_id) || field("sub_mch_id") != sub_mch_id {
            Some("another merchant")
        } else if secrets.iter().any(|secret| text.contains(secret))
            || ["openid", "sign", "nonce_str"].iter().any(is_secret)
        {
            Some("something secret")
        } else {
            None
        };
        Published { claim: event.detail.get("outcome").and_then(Claim::read), at: event.at, mistake }
    }
}

/// Marks what a function got for two orders. When the genuine exchange was in an invocation that was over before, the
/// function must notice the replay, which is then as good as nothing. When both were in the same invocation, it takes the
/// first for the genuine one, and either may be the first.
fn mark_replays(histories: &mut [History]) {
    let mut went_by = HashMap::new();
    let mut replayed = HashSet::new();
    for history in &*histories {
        for statement in &history.statements {
            let has_settled = matches!(statement.claim, Claim::Closed | Claim::Paid | Claim::NotFound);
            for exchange in history.exchanges_of(statement) {
                let Some(nonce) = exchange.nonce.clone() else { continue };
                if exchange.reply == Reply::Replayed {
                    replayed.insert((statement.function, statement.from, nonce));
                } else if has_settled && exchange.reply.settles() {
                    let end = went_by.entry((statement.function, nonce)).or_insert(statement.to);
                    *end = statement.to.min(*end);
                }
            }
        }
    }
    for history in histories {
        for statement in &history.statements {
            for exchange in history.exchanges.iter_mut().filter(|exchange| statement.is_during(exchange.at)) {
                let Some(nonce) = exchange.nonce.clone() else { continue };
                if exchange.reply != Reply::Replayed {
                    exchange.is_doubled |= replayed.contains(&(statement.function, statement.from, nonce));
                } else if went_by.get(&(statement.function, nonce)).is_some_and(|end| *end < statement.from) {
                    exchange.reply = Reply::Disturbed;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        chaos::{
            history::{Answer, Meaning},
            plan::PlannedOrder,
        },
        mock::gateway::Call,
    };

    /// One order that the function said to be closed, in an invocation that began `at` seconds after `start`, after one
    /// reply.
    fn closed(start: Instant, at: u64, reply: Reply) -> History {
        let from = start + Duration::from_secs(at);
        let planned = PlannedOrder {
            out_trade_no: String::new(),
            order: None,
            faults: Vec::new(),
            is_forged: false,
            confirm: None,
            is_paid_after: None,
        };
        let mut history = History::new(planned, None);
        history.statements.push(Statement {
            claim: Claim::Closed,
            is_proved: false,
            requests: [1, 0],
            answer: Answer::Direct(Some(Claim::Closed)),
            is_confirmed: false,
            state_before: None,
            from,
            to: from,
            function: 0,
            incidents: Vec::new(),
        });
        let nonce = Some("n".to_owned());
        history.exchanges.push(Exchange { call: Call::CloseOrder, at: from, reply, nonce, is_doubled: false });
        history
    }

    #[test]
    fn a_replay_after_the_genuine_reply_is_nothing_and_beside_it_either_may_be_first() {
        let start = Instant::now();
        let genuine = Reply::Genuine(Meaning::Closed);
        for (at, expected) in [(1, (false, Reply::Disturbed)), (0, (true, Reply::Replayed))] {
            let mut histories = [closed(start, 0, genuine), closed(start, at, Reply::Replayed)];
            mark_replays(&mut histories);
            let [first, second] = &histories;
            assert_eq!((first.exchanges[0].is_doubled, second.exchanges[0].reply), expected, "{at}");
            assert_eq!(first.exchanges[0].reply, genuine);
        }
    }
}
