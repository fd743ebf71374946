//! What a run left behind: the functions' logs, the gateway's record and the events, read into each order's history.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Invoked, Run, SUB_MCH_ID, Span, TIME_TO_QUERY};
use crate::{
    chaos::{
        history::{Answer, GroundTruth, History, Invocation, Published, ReportedOutcome, Wait},
        ledger::Ledger,
        plan::Part,
    },
    mock::{
        event_bus,
        gateway::{Fault, Received, Times},
        identity::{Flaw, Identity, MchType, Merchant},
        lock,
    },
};

/// A time at most so far ahead has come, since clocks differ; and what this program takes between two looks at its own.
const MARGIN: Duration = Duration::from_millis(5_050);

/// How long the gateway may take to look at a request's signature after it came: some are delayed.
const REPLY_TIME: Duration = Duration::from_millis(500);

impl Run {
    /// Reads what a function's log says of its invocations' orders.
    pub(super) fn read_log(&self, invocations: &[Invoked], lines: &[Value]) {
        let text = |line: &Value, name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut by_order: HashMap<[String; 3], Vec<&Value>> = HashMap::new();
        for line in lines {
            by_order
                .entry(["requestId", "out_trade_no", "message_id"].map(|name| text(line, name)))
                .or_default()
                .push(line);
        }
        for invoked in invocations {
            for &(order, ref message_id, answer) in &invoked.orders {
                let Some(planned) = self.plan.orders.get(order) else { continue };
                let key = [invoked.request_id.clone(), planned.out_trade_no.clone(), message_id.clone()];
                let lines = by_order.remove(&key).unwrap_or_default();
                lock(&self.ledger).logged(lines.len(), &planned.out_trade_no);
                let waits = lines.iter().filter(|line| text(line, "message") == "waiting").map(|_| Wait {
                    is_acknowledged: answer == Answer::Message { is_acknowledged: true },
                    from: invoked.from,
                    to: invoked.to,
                });
                lock(&self.waits).entry(order).or_default().extend(waits);
                let outcomes =
                    lines.iter().filter_map(|line| Some((line, ReportedOutcome::read(line.get("outcome")?)?)));
                let read = outcomes.map(|(line, outcome)| {
                    let count = |name: &str| line.get(name).and_then(Value::as_u64).unwrap_or_default();
                    Invocation {
                        outcome,
                        is_confirmed: line.get("confirmed") == Some(&Value::Bool(true)),
                        was_to_confirm: planned.confirm.unwrap_or(matches!(answer, Answer::Message { .. })),
                        requests: ["attempts", "queries"].map(count),
                        answer,
                        from: invoked.from,
                        to: invoked.to,
                        has_time: invoked.timeout >= TIME_TO_QUERY,
                        incidents: self.incidents(&planned.merchant, invoked.from, invoked.to),
                    }
                });
                lock(&self.invocations).entry(order).or_default().extend(read);
            }
        }
    }

    /// The parts in which there was an incident in this time that can concern the merchant.
    fn incidents(&self, merchant: &Merchant, from: Instant, to: Instant) -> Vec<Part> {
        let concerns = |span: &&Span| {
            span.mch_id.as_ref().is_none_or(|mch_id| *mch_id == merchant.identity.mch_id)
                && span.from <= to
                && span.to.is_none_or(|span_to| from <= span_to)
        };
        lock(&self.incidents).iter().filter(concerns).map(|span| span.part).collect()
    }

    /// Puts together what happened to each order, and enters it into the ledger.
    pub(super) fn close(&self, start: Instant) -> Ledger {
        let gateway = &self.sandbox.gateway;
        let mut indexes = HashMap::new();
        let mut histories = Vec::new();
        let mut invocations = std::mem::take(&mut *lock(&self.invocations));
        let mut waits = std::mem::take(&mut *lock(&self.waits));
        let due = lock(&self.due).clone();
        let invalid_orders = self.queue.invalid_orders();
        for (index, planned) in self.plan.orders.iter().enumerate() {
            indexes.insert(planned.out_trade_no.as_str(), index);
            histories.push(History {
                planned: planned.clone(),
                truth: GroundTruth::new(gateway.order(&planned.out_trade_no)),
                requests: Vec::new(),
                was_replayed: false,
                // FREQUENCY_LIMITED is the rate limit, too, if the query after it brings nothing.
                was_limited: planned.order.as_ref().is_some_and(|order| order.closes_limited != Times::NEVER),
                due: due.get(&index).and_then(|due| due.checked_sub(MARGIN)),
                is_set_aside: invalid_orders.iter().any(|it| it.body.contains(&planned.out_trade_no)),
                invocations: invocations.remove(&index).unwrap_or_default(),
                waits: waits.remove(&index).unwrap_or_default(),
                published: Vec::new(),
            });
        }
        let mut ledger = lock(&self.ledger).clone();
        for received in gateway.received() {
            let order = received.fields.get("out_trade_no").and_then(|order| indexes.get(order.as_str()));
            if let Some(history) = order.and_then(|&order| histories.get_mut(order)) {
                ledger.requested(self.is_merchants_own(&received, &history.planned.merchant), &received);
                history.requests.extend(received.call.map(|call| (call, received.at)));
                history.was_limited |= matches!(received.fault, Some(Fault::RateLimit));
                history.was_replayed |= matches!(received.fault, Some(Fault::Replay | Fault::OtherCall));
            }
        }
        let secrets = self.secrets();
        for event in self.sandbox.events.events() {
            let order = event.detail.get("out_trade_no").and_then(Value::as_str).and_then(|order| indexes.get(order));
            match order.and_then(|&order| Some((order, histories.get_mut(order)?))) {
                Some((order, history)) => {
                    let published = self.published(&event, order, &history.planned.merchant.identity, &secrets);
                    history.published.push(published);
                }
                None => ledger.stray(&event),
            }
        }
        for history in &histories {
            ledger.enter(history);
        }
        let (left, dead_letters) = self.queue.left();
        ledger.delivered(lock(&self.messages).len() + left, *lock(&self.acknowledged), dead_letters);
        ledger.ran(lock(&self.incidents).len(), start.elapsed());
        ledger
    }

    /// Whether a request names its order's merchant, and has a signature that is this merchant's.
    fn is_merchants_own(&self, received: &Received, merchant: &Merchant) -> bool {
        let mch_id = &merchant.identity.mch_id;
        let signed_for = format!("mchid=\"{mch_id}\"");
        let is_named = received.fields.get("mch_id") == Some(mch_id)
            && received.headers.get("authorization").is_none_or(|signature| signature.contains(&signed_for));
        let is_rejected =
            received.status == Some(401) || received.reply.as_ref().is_some_and(|reply| reply.contains("签名错误"));
        let may_be_rejected = || {
            let incidents = self.incidents(merchant, received.at, received.at + REPLY_TIME);
            merchant.flaw == Some(Flaw::WrongKey) || incidents.contains(&Part::Secrets)
        };
        is_named && (!is_rejected || may_be_rejected())
    }

    fn published(&self, event: &event_bus::Event, order: usize, identity: &Identity, secrets: &[String]) -> Published {
        let field = |name: &str| event.detail.get(name).and_then(Value::as_str);
        let sub_mch_id = (identity.mch_type == MchType::Partner).then_some(SUB_MCH_ID);
        let text = event.detail.to_string();
        let is_secret = |name| event.detail.get(name).is_some();
        let mistake = if (event.source.as_str(), event.detail_type.as_str()) != ("close-order", "Order Outcome") {
            Some("another source or type")
        } else if event.bus != event_bus::BUS {
            Some("another bus")
        } else if field("message_id").and_then(|id| lock(&self.messages).get(id).copied()) != Some(order) {
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
        Published { outcome: event.detail.get("outcome").and_then(ReportedOutcome::read), at: event.at, mistake }
    }
}
