//! Outcome events: what became of each order that leaves the queue, published to an EventBridge bus.

use std::{borrow::Cow, sync::OnceLock};

use aws_sdk_eventbridge::{Client, types::PutEventsRequestEntry};
use aws_types::SdkConfig;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use crate::{
    answer::{Answer, Replied},
    aws::{self, Service},
    concurrent,
    http_client::HttpClients,
};

/// The most entries of one `PutEvents` call
/// (<https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html>).
const MAX_ENTRIES: usize = 10;

/// How many calls are under way at once.
const MAX_CALLS: usize = 10;

/// The events' `source` and `detail-type`, by which rules select them.
const SOURCE: &str = "close-order";
const DETAIL_TYPE: &str = "Order Outcome";

const SERVICE: &str = "EventBridge";

/// Facts of an answer that an event has where they are known.
const FACTS: [&str; 6] = ["err_code", "trade_state", "transaction_id", "total_fee", "fee_type", "time_end"];

/// Publishes outcome events; its client is made at the first batch.
#[derive(Debug)]
pub struct OutcomeEvents {
    bus: String,
    http: HttpClients,
    client: OnceLock<(SdkConfig, Client)>,
}

/// What became of the order of one message.
#[derive(Clone, Debug)]
pub struct OutcomeEvent(Value);

impl OutcomeEvent {
    /// The event for an answer that settles its order.
    #[must_use]
    pub fn new(answer: &Answer, replied: &Replied, message_id: &str) -> Self {
        let own = [
            ("outcome", Some(answer.outcome.as_str())),
            ("mch_id", Some(replied.ids.mch_id.as_str())),
            ("sub_mch_id", replied.ids.sub_mch_id.as_deref()),
            ("out_trade_no", Some(replied.ids.out_trade_no.as_str())),
            ("message_id", Some(message_id)),
        ];
        let facts = FACTS.map(|name| (name, replied.get(name)));
        let known = own.into_iter().chain(facts).filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        let mut detail: Map<_, _> = known.collect();
        detail.insert("confirmed".to_owned(), answer.confirmed.into());
        Self(Value::Object(detail))
    }
}

impl OutcomeEvents {
    /// Nothing is sent before the first batch. `bus` is the name or ARN of the event bus.
    #[must_use]
    pub fn new(bus: String, http: HttpClients) -> Self {
        Self { bus, http, client: OnceLock::new() }
    }

    /// Publishes events by the `deadline`, and says for each, in their order, why it was not accepted.
    pub async fn publish(&self, events: &[OutcomeEvent], deadline: Instant) -> Vec<Result<(), Cow<'static, str>>> {
        let calls = events.chunks(MAX_ENTRIES).map(|group| self.put_by(group, deadline));
        concurrent::all(calls, MAX_CALLS).await.concat()
    }

    async fn put_by(&self, group: &[OutcomeEvent], deadline: Instant) -> Vec<Result<(), Cow<'static, str>>> {
        let put = timeout_at(deadline, self.put(group)).await;
        let put = put.unwrap_or_else(|_| Err(format!("{SERVICE} did not answer in time").into()));
        put.unwrap_or_else(|cause| vec![Err(cause); group.len()])
    }

    async fn put(&self, group: &[OutcomeEvent]) -> Result<Vec<Result<(), Cow<'static, str>>>, Cow<'static, str>> {
        let (settings, client) = self.client.get_or_init(|| {
            let settings = aws::settings(Service::EventBridge, self.http.clone(), |name| std::env::var(name).ok());
            let client = Client::new(&settings);
            (settings, client)
        });
        let entry = |OutcomeEvent(detail): &OutcomeEvent| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.bus)
                .source(SOURCE)
                .detail_type(DETAIL_TYPE)
                .detail(detail.to_string())
                .build()
        };
        let call = client.put_events().set_entries(Some(group.iter().map(entry).collect()));
        let output = call.send().await.map_err(|error| aws::cause(SERVICE, settings, &error))?;
        let mut results: Vec<_> =
            output.entries().iter().map(|entry| accepted(entry.event_id(), entry.error_code())).collect();
        // An entry that the response does not mention was not accepted, as far as anybody knows.
        results.resize(group.len(), Err(format!("{SERVICE} did not mention the event").into()));
        Ok(results)
    }
}

fn accepted(event_id: Option<&str>, error_code: Option<&str>) -> Result<(), Cow<'static, str>> {
    match (event_id, error_code) {
        (Some(_), None) => Ok(()),
        (_, code) => Err(match code.filter(|code| aws::is_plain(code)) {
            Some(code) => format!("{SERVICE} answered {code}").into(),
            None => format!("{SERVICE} answered with an error").into(),
        }),
    }
}
