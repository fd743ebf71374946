//! SQS as the function calls it: a record whose time has not come waits in its queue, by its visibility timeout, and what
//! is no valid order is sent to a queue of its own.

mod url;

use std::{borrow::Cow, collections::HashMap, sync::OnceLock};

use aws_sdk_sqs::{
    Client,
    error::BuildError,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue,
        SendMessageBatchRequestEntry,
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
pub struct Wait<'a> {
    /// The record's `receiptHandle`.
    pub receipt_handle: &'a str,
    /// How long, from now; 43,000 s at most.
    pub seconds: u32,
}

/// A record that is to go to the queue of invalid orders.
#[derive(Clone, Copy, Debug)]
pub struct SetAside<'a> {
    /// The record's body, sent as it is.
    pub body: &'a str,
    /// Why it is invalid: not empty.
    pub reason: &'a str,
}

/// Whether SQS accepted an entry, and if not, why.
pub type Accepted = Result<(), Cow<'static, str>>;

impl Queue {
    /// Nothing is sent before the first call.
    #[must_use]
    pub fn new(orders: QueueUrl, invalid_orders: Option<QueueUrl>, http: HttpClients) -> Self {
        Self { orders, invalid_orders, http, client: OnceLock::new() }
    }

    /// Whether a record with this `eventSourceARN` is one of the queue of orders.
    #[must_use]
    pub fn owns(&self, event_source_arn: &str) -> bool {
        self.orders.is_named_by(event_source_arn)
    }

    /// Whether there is a queue of invalid orders.
    #[must_use]
    pub fn takes_invalid_orders(&self) -> bool {
        self.invalid_orders.is_some()
    }

    /// Has records wait in the queue of orders, by the `deadline`, and says for each, in their order, why it was not
    /// accepted: then it is redelivered after the queue's own visibility timeout.
    pub async fn wait(&self, entries: &[Wait<'_>], deadline: Instant) -> Vec<Accepted> {
        let calls = entries
            .chunks(MAX_ENTRIES)
            .map(|group| async move { answered_by(deadline, self.change_visibility(group), group.len()).await });
        concurrent::all(calls, MAX_CALLS).await.concat()
    }

    /// Sends records to the queue of invalid orders, by the `deadline`, and says for each, in their order, why it was not
    /// accepted.
    pub async fn set_aside(&self, entries: &[SetAside<'_>], deadline: Instant) -> Vec<Accepted> {
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
        Ok(accepted(output.successful().iter().map(|entry| entry.id()), output.failed(), group.len()))
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
        Ok(accepted(output.successful().iter().map(|entry| entry.id()), output.failed(), group.len()))
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

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn incomplete(_: BuildError) -> Cow<'static, str> {
    format!("{SERVICE} can't be called").into()
}
