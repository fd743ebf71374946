//! SQS as the function calls it: a record whose time has not come waits in its queue, by its visibility timeout, and what
//! is no valid order is sent to a queue of its own.

mod url;

use std::{borrow::Cow, collections::HashMap, sync::OnceLock};

use aws_sdk_sqs::{
    Client,
    error::BuildError,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, ChangeMessageVisibilityBatchResultEntry,
        MessageAttributeValue, SendMessageBatchRequestEntry, SendMessageBatchResultEntry,
    },
};
use aws_types::SdkConfig;
use tokio::time::{Instant, timeout_at};

use crate::{
    aws::{self, Service},
    concurrent,
    http_client::HttpClients,
};

pub use url::{InvalidQueueUrl, QueueUrl};

/// The most entries of one call
/// (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html>).
const MAX_ENTRIES: usize = 10;

/// The most bytes of messages in one call: SQS takes a MiB, and took a quarter of that for long, as emulators still do.
const MAX_BYTES: usize = 256 * 1024;

/// How many calls are under way at once.
const MAX_CALLS: usize = 10;

/// The longest wait, in seconds: a message may be invisible for 12 hours from its receipt, which is a moment ago.
const MAX_WAIT_SECONDS: u32 = 43_000;

/// The longest reason that a message is sent with, in characters.
const MAX_REASON: usize = 512;

/// The message attribute that says why an order is invalid.
const REASON: &str = "reason";

const SERVICE: &str = "SQS";

/// The queue of orders, and that of invalid ones; the client is made at the first call.
#[derive(Debug)]
pub struct Queue {
    orders: QueueUrl,
    invalid_orders: Option<QueueUrl>,
    http: HttpClients,
    client: OnceLock<(SdkConfig, Client)>,
}

/// A record that is to wait in the queue of orders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait<'a> {
    /// The record's `receiptHandle`.
    pub receipt_handle: &'a str,
    /// How long, from now; 43,000 s at most.
    pub seconds: u32,
}

/// A record that is to go to the queue of invalid orders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetAside<'a> {
    /// The record's body, sent as it is.
    pub body: &'a str,
    /// Why it is invalid: not empty.
    pub reason: &'a str,
}

/// Whether SQS accepted an entry, and if not, why.
pub(crate) type Accepted = Result<(), Cow<'static, str>>;

impl Queue {
    /// Nothing is sent before the first call.
    #[must_use]
    pub fn new(orders: QueueUrl, invalid_orders: Option<QueueUrl>, http: HttpClients) -> Self {
        Self { orders, invalid_orders, http, client: OnceLock::new() }
    }

    /// Queues at a mock of SQS.
    #[cfg(test)]
    pub(crate) fn with_settings(orders: QueueUrl, invalid_orders: Option<QueueUrl>, settings: SdkConfig) -> Self {
        let http = crate::http_client::new(rustls::RootCertStore::empty()).unwrap();
        let queue = Self::new(orders, invalid_orders, http);
        let client = Client::new(&settings);
        queue.client.set((settings, client)).unwrap();
        queue
    }

    /// Whether a record with this `eventSourceARN` is one of the queue of orders.
    #[must_use]
    pub(crate) fn owns(&self, event_source_arn: &str) -> bool {
        self.orders.is_named_by(event_source_arn)
    }

    /// Whether there is a queue of invalid orders.
    #[must_use]
    pub(crate) fn takes_invalid_orders(&self) -> bool {
        self.invalid_orders.is_some()
    }

    /// Has records wait in the queue of orders, by the `deadline`, and says for each, in their order, why it was not
    /// accepted: then it is redelivered after the queue's own visibility timeout.
    pub(crate) async fn wait(&self, entries: &[Wait<'_>], deadline: Instant) -> Vec<Accepted> {
        let calls = entries
            .chunks(MAX_ENTRIES)
            .map(|group| async move { answered_by(deadline, self.change_visibility(group), group.len()).await });
        concurrent::all(calls, MAX_CALLS).await.concat()
    }

    /// Sends records to the queue of invalid orders, by the `deadline`, and says for each, in their order, why it was not
    /// accepted.
    pub(crate) async fn set_aside(&self, entries: &[SetAside<'_>], deadline: Instant) -> Vec<Accepted> {
        let Some(queue) = &self.invalid_orders else {
            return vec![Err("INVALID_ORDERS_QUEUE_URL is not set".into()); entries.len()];
        };
        let calls = groups(entries)
            .into_iter()
            .map(|group| async move { answered_by(deadline, self.send(queue, group), group.len()).await });
        concurrent::all(calls, MAX_CALLS).await.concat()
    }

    async fn change_visibility(&self, group: &[Wait<'_>]) -> Result<Vec<Accepted>, Cow<'static, str>> {
        let (settings, client) = self.client();
        let entry = |(place, wait): (usize, &Wait<'_>)| {
            let seconds = i32::try_from(wait.seconds.min(MAX_WAIT_SECONDS)).unwrap_or(i32::MAX);
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(place.to_string())
                .receipt_handle(wait.receipt_handle)
                .visibility_timeout(seconds)
                .build()
        };
        let entries = group.iter().enumerate().map(entry).collect::<Result<_, _>>().map_err(incomplete)?;
        let call =
            client.change_message_visibility_batch().queue_url(self.orders.to_string()).set_entries(Some(entries));
        let output = call.send().await.map_err(|error| aws::cause(SERVICE, settings, &error))?;
        Ok(accepted(
            output.successful().iter().map(ChangeMessageVisibilityBatchResultEntry::id),
            output.failed(),
            group.len(),
        ))
    }

    async fn send(&self, queue: &QueueUrl, group: &[SetAside<'_>]) -> Result<Vec<Accepted>, Cow<'static, str>> {
        let (settings, client) = self.client();
        let entry = |(place, set_aside): (usize, &SetAside<'_>)| {
            let reason = MessageAttributeValue::builder().data_type("String").string_value(plain(set_aside.reason));
            SendMessageBatchRequestEntry::builder()
                .id(place.to_string())
                .message_body(set_aside.body)
                .message_attributes(REASON, reason.build()?)
                .build()
        };
        let entries = group.iter().enumerate().map(entry).collect::<Result<_, _>>().map_err(incomplete)?;
        let call = client.send_message_batch().queue_url(queue.to_string()).set_entries(Some(entries));
        let output = call.send().await.map_err(|error| aws::cause(SERVICE, settings, &error))?;
        Ok(accepted(output.successful().iter().map(SendMessageBatchResultEntry::id), output.failed(), group.len()))
    }

    fn client(&self) -> &(SdkConfig, Client) {
        self.client.get_or_init(|| {
            let settings = aws::settings(Service::Sqs, self.http.clone(), |name| std::env::var(name).ok());
            let client = Client::new(&settings);
            (settings, client)
        })
    }
}

/// What became of a group's entries, by the deadline.
async fn answered_by(
    deadline: Instant,
    call: impl Future<Output = Result<Vec<Accepted>, Cow<'static, str>>>,
    entries: usize,
) -> Vec<Accepted> {
    let answered = timeout_at(deadline, call).await;
    let answered = answered.unwrap_or_else(|_| Err(format!("{SERVICE} did not answer in time").into()));
    answered.unwrap_or_else(|cause| vec![Err(cause); entries])
}

/// Reads an answer by the entries' ids, which are their places. One that it does not mention was not accepted, as far as
/// anybody knows.
fn accepted<'a>(
    successful: impl Iterator<Item = &'a str>,
    failed: &[BatchResultErrorEntry],
    entries: usize,
) -> Vec<Accepted> {
    let mut by_id: HashMap<&str, Accepted> = successful.map(|id| (id, Ok(()))).collect();
    by_id.extend(failed.iter().map(|entry| {
        let cause = match entry.code() {
            code if aws::is_plain(code) => format!("{SERVICE} answered {code}").into(),
            _ => format!("{SERVICE} answered with an error").into(),
        };
        (entry.id(), Err(cause))
    }));
    let result = |place: usize| by_id.get(place.to_string().as_str()).cloned();
    let unmentioned = || Err(format!("{SERVICE} did not mention the message").into());
    (0..entries).map(|place| result(place).unwrap_or_else(unmentioned)).collect()
}

/// Cuts entries, in their order, into groups that one call takes.
fn groups<'e, 'a>(entries: &'e [SetAside<'a>]) -> Vec<&'e [SetAside<'a>]> {
    let mut groups = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |entry: &&SetAside<'_>| {
            bytes += entry.body.len() + plain(entry.reason).len() + REASON.len() + "String".len();
            bytes <= MAX_BYTES
        };
        // One that is too large by itself goes by itself, and SQS says what it makes of it.
        let (group, others) = rest.split_at(rest.iter().take(MAX_ENTRIES).take_while(fits).count().max(1));
        groups.push(group);
        rest = others;
    }
    groups
}

/// A reason without what SQS takes for no text.
fn plain(reason: &str) -> String {
    let is_allowed = |c: &char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    reason.chars().filter(is_allowed).take(MAX_REASON).collect()
}

fn incomplete(_: BuildError) -> Cow<'static, str> {
    format!("{SERVICE} can't be called").into()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use serde_json::{Value, json};

    use super::*;
    use crate::aws::mock::{self, Behaviour};

    const ORDERS: &str = "https://sqs.eu-central-1.amazonaws.com/123456789012/orders";
    const INVALID: &str = "https://sqs.eu-central-1.amazonaws.com/123456789012/invalid";

    /// A queue whose SQS behaves so with each request, and the requests so far.
    fn queue(behave: impl Fn(&Value) -> Behaviour + Send + Sync + 'static) -> (Queue, Arc<Mutex<Vec<Value>>>) {
        let requests = Arc::<Mutex<Vec<Value>>>::default();
        let seen = Arc::clone(&requests);
        let settings = mock::settings(Service::Sqs, move |request| {
            seen.lock().unwrap().push(request.clone());
            behave(request)
        });
        let client = OnceLock::from((settings.clone(), Client::new(&settings)));
        let url = |text| QueueUrl::parse(text).unwrap();
        let http = crate::http_client::new(rustls::RootCertStore::empty()).unwrap();
        let queue = Queue { client, ..Queue::new(url(ORDERS), Some(url(INVALID)), http) };
        (queue, requests)
    }

    /// SQS that accepts everything.
    fn accepting() -> (Queue, Arc<Mutex<Vec<Value>>>) {
        queue(|request| {
            let ids = request["Entries"].as_array().unwrap().iter().map(|entry| json!({"Id": entry["Id"]}));
            Behaviour::Answer(200, json!({"Successful": ids.collect::<Vec<_>>(), "Failed": []}))
        })
    }

    /// SQS that gives one and the same answer.
    fn answering(answer: Value) -> Queue {
        queue(move |_| Behaviour::Answer(200, answer.clone())).0
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(3)
    }

    fn waits(count: usize) -> Vec<Wait<'static>> {
        vec![Wait { receipt_handle: "handle", seconds: 60 }; count]
    }

    /// What was not accepted, and why.
    fn causes(results: Vec<Accepted>) -> Vec<Option<String>> {
        results.into_iter().map(|result| result.err().map(Cow::into_owned)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn records_wait_in_the_queue_of_orders_ten_a_call() {
        let (queue, requests) = accepting();
        let handles: Vec<_> = (0..23).map(|number| number.to_string()).collect();
        let waits: Vec<_> = handles.iter().map(|handle| Wait { receipt_handle: handle, seconds: 60 }).collect();
        let start = Instant::now();
        assert_eq!(queue.wait(&waits, soon()).await, vec![Ok(()); 23]);
        assert!(start.elapsed() < Duration::from_millis(200), "the calls are made at once");
        let requests = requests.lock().unwrap();
        let entries = |request: &Value| request["Entries"].as_array().unwrap().clone();
        assert_eq!(requests.iter().map(|request| entries(request).len()).collect::<Vec<_>>(), [10, 10, 3]);
        assert!(requests.iter().all(|request| request["QueueUrl"] == ORDERS));
        let sent = requests.iter().flat_map(entries).map(|entry| entry["ReceiptHandle"].clone());
        assert_eq!(sent.collect::<Vec<_>>(), handles);
        assert_eq!(entries(&requests[2])[2], json!({"Id": "2", "ReceiptHandle": "22", "VisibilityTimeout": 60}));
    }

    #[tokio::test(start_paused = true)]
    async fn no_record_waits_longer_than_sqs_allows() {
        let (queue, requests) = accepting();
        let waits = [0, 1, 42_999, 43_000, 43_001, u32::MAX].map(|seconds| Wait { receipt_handle: "x", seconds });
        assert_eq!(queue.wait(&waits, soon()).await, vec![Ok(()); 6]);
        let requests = requests.lock().unwrap();
        let sent = requests[0]["Entries"].as_array().unwrap().iter().map(|entry| entry["VisibilityTimeout"].clone());
        assert_eq!(sent.collect::<Vec<_>>(), [0, 1, 42_999, 43_000, 43_000, 43_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_invalid_order_is_sent_as_it_is_with_the_reason() {
        let (queue, requests) = accepting();
        let body = "{\"out_trade_no\": \"订单\"}\n";
        let reason = "out_trade_no must be\u{0} 1 to 32\n characters \u{ffff}";
        let long = "x".repeat(MAX_REASON + 1);
        let entries = [SetAside { body, reason }, SetAside { body: "", reason: &long }];
        assert_eq!(queue.set_aside(&entries, soon()).await, [Ok(()), Ok(())]);
        let requests = requests.lock().unwrap();
        assert_eq!(requests[0]["QueueUrl"], INVALID);
        let attributes = |text: &str| json!({"reason": {"DataType": "String", "StringValue": text}});
        let plain = "out_trade_no must be 1 to 32 characters ";
        assert_eq!(
            requests[0]["Entries"],
            json!([
                {"Id": "0", "MessageBody": body, "MessageAttributes": attributes(plain)},
                {"Id": "1", "MessageBody": "", "MessageAttributes": attributes(&long[1..])},
            ])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_takes_no_more_than_a_quarter_of_a_mib_unless_one_order_alone_is_larger() {
        let (queue, requests) = accepting();
        let (large, half) = ("x".repeat(MAX_BYTES + 1), "x".repeat(MAX_BYTES / 2));
        let fits = "x".repeat(MAX_BYTES / 2 - 2 * "reasonStringwhy".len());
        let bodies = [&*large, "1", "2", &half, &half, &fits, &large];
        let entries = bodies.map(|body| SetAside { body, reason: "why" });
        assert_eq!(queue.set_aside(&entries, soon()).await, vec![Ok(()); 7]);
        let requests = requests.lock().unwrap();
        let counts = requests.iter().map(|request| request["Entries"].as_array().unwrap().len());
        assert_eq!(counts.collect::<Vec<_>>(), [1, 3, 2, 1]);
        let many = vec![SetAside { body: "x", reason: "why" }; 21];
        assert_eq!(groups(&many).iter().map(|group| group.len()).collect::<Vec<_>>(), [10, 10, 1]);
        assert!(groups(&[]).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_sqs_says_it_accepted_was_accepted() {
        let ok = |id: &str| json!({"Id": id, "MessageId": "m", "MD5OfMessageBody": "0"});
        let failed = |id: &str, code: &str| json!({"Id": id, "Code": code, "SenderFault": true});
        let unmentioned = Some("SQS did not mention the message".to_owned());
        let answered = |code: &str| Some(format!("SQS answered {code}"));
        for (answer, expected) in [
            (json!({"Successful": [ok("1"), ok("0")], "Failed": []}), [None, None]),
            (json!({"Successful": [ok("1")]}), [unmentioned.clone(), None]),
            (json!({"Successful": [ok("0"), ok("7"), ok("00")]}), [None, unmentioned.clone()]),
            (json!({}), [unmentioned.clone(), unmentioned.clone()]),
            (
                json!({"Successful": [ok("1")], "Failed": [failed("0", "InvalidParameterValue")]}),
                [answered("InvalidParameterValue"), None],
            ),
            (
                json!({"Successful": [ok("0"), ok("1")], "Failed": [failed("1", "a b")]}),
                [None, Some("SQS answered with an error".to_owned())],
            ),
        ] {
            let queue = answering(answer.clone());
            assert_eq!(causes(queue.wait(&waits(2), soon()).await), expected, "{answer}");
            let entries = [SetAside { body: "x", reason: "why" }; 2];
            assert_eq!(causes(queue.set_aside(&entries, soon()).await), expected, "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_has_every_entry_of_it_fail_and_no_other() {
        for (behaviour, cause) in [
            (
                Behaviour::Answer(403, json!({"__type": "AccessDenied", "message": "a message"})),
                "answered AccessDenied",
            ),
            (Behaviour::Answer(503, Value::Null), "answered with an error"),
            (Behaviour::Lost, "can't be called"),
            (Behaviour::Hang, "did not answer in time"),
        ] {
            let (queue, _) = queue(move |request| match request["Entries"].as_array().unwrap().len() {
                10 => behaviour.clone(),
                _ => Behaviour::Answer(200, json!({"Successful": [{"Id": "0"}], "Failed": []})),
            });
            let start = Instant::now();
            let results = causes(queue.wait(&waits(11), soon()).await);
            assert!(start.elapsed() <= Duration::from_secs(3), "{cause}");
            let expected = Some(format!("SQS {cause}"));
            assert_eq!(results, [vec![expected; 10], vec![None]].concat());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_kept() {
        let (queue, _) = queue(|_| Behaviour::Hang);
        let start = Instant::now();
        let deadline = start + Duration::from_millis(300);
        let (waits, entries) = (waits(1), [SetAside { body: "x", reason: "why" }]);
        let (waited, set_aside) = tokio::join!(queue.wait(&waits, deadline), queue.set_aside(&entries, deadline));
        for results in [waited, set_aside] {
            assert_eq!(causes(results), [Some("SQS did not answer in time".to_owned())]);
        }
        assert!(start.elapsed() <= Duration::from_millis(301), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_queue_of_invalid_orders_nothing_is_sent_to_one() {
        let http = crate::http_client::new(rustls::RootCertStore::empty()).unwrap();
        let queue = Queue::new(QueueUrl::parse(ORDERS).unwrap(), None, http);
        assert!(!queue.takes_invalid_orders());
        let results = queue.set_aside(&[SetAside { body: "x", reason: "why" }], soon()).await;
        assert_eq!(causes(results), [Some("INVALID_ORDERS_QUEUE_URL is not set".to_owned())]);
    }

    #[test]
    fn a_queue_owns_the_records_of_its_account_and_name() {
        let (queue, _) = accepting();
        assert!(queue.takes_invalid_orders() && queue.owns("arn:aws:sqs:eu-central-1:123456789012:orders"));
        assert!(!queue.owns("arn:aws:sqs:eu-central-1:123456789012:invalid"));
    }
}
