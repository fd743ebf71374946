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
pub(crate) struct OutcomeEvent(Value);

impl OutcomeEvent {
    /// The event for an answer whose outcome is terminal.
    #[must_use]
    pub(crate) fn new(answer: &Answer, replied: &Replied, message_id: &str) -> Self {
        let own: [(_, Option<Value>); 6] = [
            ("outcome", Some(answer.outcome.as_str().into())),
            ("confirmed", Some(answer.confirmed.into())),
            ("mch_id", Some(replied.ids.mch_id.as_str().into())),
            ("sub_mch_id", replied.ids.sub_mch_id.as_deref().map(Value::from)),
            ("out_trade_no", Some(replied.ids.out_trade_no.as_str().into())),
            ("message_id", Some(message_id.into())),
        ];
        let facts = FACTS.map(|name| (name, replied.get(name).map(Value::from)));
        let known = own.into_iter().chain(facts).filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Self(Value::Object(known.collect::<Map<_, _>>()))
    }
}

impl OutcomeEvents {
    /// Nothing is sent before the first batch. `bus` is the name or ARN of the event bus.
    #[must_use]
    pub fn new(bus: String, http: HttpClients) -> Self {
        Self { bus, http, client: OnceLock::new() }
    }

    /// Publishes events by the `deadline`, and says for each, in their order, why it was not accepted.
    pub(crate) async fn publish(
        &self,
        events: &[OutcomeEvent],
        deadline: Instant,
    ) -> Vec<Result<(), Cow<'static, str>>> {
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
        let results: Vec<_> =
            output.entries().iter().map(|entry| accepted(entry.event_id(), entry.error_code())).collect();
        // The entries are told apart by their places alone: where these are in doubt, no event was accepted, as far as
        // anybody knows.
        let failed = results.iter().filter(|result| result.is_err()).count();
        let does_fit = results.len() == group.len() && usize::try_from(output.failed_entry_count()) == Ok(failed);
        if does_fit { Ok(results) } else { Err(format!("{SERVICE}'s answer does not fit the events").into()) }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::aws::mock::{self, Behaviour};

    /// What becomes of so many events if EventBridge behaves so.
    async fn publish(events: usize, behaviour: Behaviour) -> Vec<Result<(), Cow<'static, str>>> {
        let settings = mock::settings(Service::EventBridge, move |_| behaviour.clone());
        let client = OnceLock::from((settings.clone(), Client::new(&settings)));
        let http = crate::http_client::new(rustls::RootCertStore::empty()).unwrap();
        let outcome_events = OutcomeEvents { client, ..OutcomeEvents::new("bus".to_owned(), http) };
        let events = vec![OutcomeEvent(json!({})); events];
        outcome_events.publish(&events, Instant::now() + Duration::from_secs(3)).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_accepts_what_it_says_if_it_fits_the_events() {
        let (taken, failed) = (json!({"EventId": "1"}), json!({"ErrorCode": "InternalFailure"}));
        let both = json!({"EventId": "1", "ErrorCode": "InternalFailure"});
        let (empty, no_code) = (json!({}), json!({"ErrorCode": "not a code"}));
        for (answer, expected) in [
            (json!({"FailedEntryCount": 0, "Entries": [taken, taken]}), [None, None]),
            (json!({"FailedEntryCount": 1, "Entries": [taken, failed]}), [None, Some("answered InternalFailure")]),
            (json!({"FailedEntryCount": 1, "Entries": [both, taken]}), [Some("answered InternalFailure"), None]),
            (json!({"FailedEntryCount": 1, "Entries": [taken, no_code]}), [None, Some("answered with an error")]),
            (json!({"FailedEntryCount": 1, "Entries": [empty, taken]}), [Some("answered with an error"), None]),
        ] {
            let results = publish(2, Behaviour::Answer(200, answer.clone())).await;
            let expected = expected.map(|cause| cause.map(|cause| format!("EventBridge {cause}")));
            let causes = results.into_iter().map(|result| result.err().map(Cow::into_owned));
            assert_eq!(causes.collect::<Vec<_>>(), expected, "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_fit_accepts_nothing() {
        let (taken, failed) = (json!({"EventId": "1"}), json!({"ErrorCode": "InternalFailure"}));
        for answer in [
            json!({}),
            json!({"FailedEntryCount": 0}),
            json!({"FailedEntryCount": 0, "Entries": []}),
            json!({"FailedEntryCount": 0, "Entries": [taken]}),
            json!({"FailedEntryCount": 1, "Entries": [taken]}),
            json!({"FailedEntryCount": 0, "Entries": [taken, taken, taken]}),
            json!({"FailedEntryCount": 1, "Entries": [taken, taken]}),
            json!({"FailedEntryCount": -1, "Entries": [taken, taken]}),
            json!({"FailedEntryCount": 0, "Entries": [taken, failed]}),
            json!({"Entries": [taken, failed]}),
            json!({"FailedEntryCount": 2, "Entries": [taken, failed]}),
            json!({"FailedEntryCount": 0, "Entries": [taken, {}]}),
        ] {
            let results = publish(2, Behaviour::Answer(200, answer.clone())).await;
            let expected = vec![Err(Cow::from("EventBridge's answer does not fit the events")); 2];
            assert_eq!(results, expected, "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_has_every_event_of_it_fail() {
        for (behaviour, cause) in [
            (Behaviour::Answer(400, json!({"__type": "AccessDeniedException"})), "answered AccessDeniedException"),
            (Behaviour::Lost, "can't be called"),
            (Behaviour::Hang, "did not answer in time"),
        ] {
            let results = publish(11, behaviour.clone()).await;
            assert_eq!(results, vec![Err(Cow::from(format!("EventBridge {cause}"))); 11], "{behaviour:?}");
        }
    }
}
