//! The calls of SQS.

use std::{slice, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{INVALID_ORDERS, MAX_DELAY, MAX_ENTRIES, ORDERS, SetAside, Sqs, Step};
use crate::mock::aws_json::{Rejection, Service, UNKNOWN, entries};

/// The longest visibility timeout that SQS knows, in seconds.
const MAX_VISIBILITY: u64 = 43_200;

impl Service for Sqs {
    const SIGNING_NAME: &'static str = "sqs";
    const TARGET: &'static str = "AmazonSQS.";
    const INTERNAL_ERROR: &'static str = "InternalFailure";

    fn receive(
        &mut self,
        operation: &str,
        request: &Value,
        fails: &mut dyn FnMut() -> bool,
    ) -> Result<Value, Rejection> {
        let entries = match operation {
            "SendMessage" => slice::from_ref(request),
            "SendMessageBatch" | "ChangeMessageVisibilityBatch" => entries(request),
            _ => return Err(UNKNOWN),
        };
        let queue = request.get("QueueUrl").and_then(Value::as_str).and_then(|url| url.rsplit('/').next());
        let queue = queue.filter(|&name| [ORDERS, INVALID_ORDERS].contains(&name));
        let queue = queue.ok_or(("com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist."))?;
        if !(1..=MAX_ENTRIES).contains(&entries.len()) {
            return Err(("com.amazonaws.sqs#TooManyEntriesInBatchRequest", "A batch request has 1 to 10 entries."));
        }
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let done = match operation {
                _ if fails() => Err("InternalError"),
                "ChangeMessageVisibilityBatch" => self.change_visibility(entry),
                _ => self.send_entry(queue, entry),
            };
            let id = entry.get("Id");
            match done {
                Ok(answer) if operation == "SendMessage" => return Ok(json!({"MessageId": answer})),
                Err(code) if operation == "SendMessage" => return Err((code, "the message could not be sent")),
                Ok(None) => successful.push(json!({"Id": id})),
                Ok(Some(answer)) => successful.push(json!({"Id": id, "MessageId": answer})),
                Err(code) => {
                    let is_senders = code != "InternalError";
                    failed.push(json!({"Id": id, "Code": code, "SenderFault": is_senders, "Message": "it failed"}));
                }
            }
        }
        Ok(json!({"Successful": successful, "Failed": failed}))
    }
}

impl Sqs {
    fn change_visibility(&mut self, entry: &Value) -> Result<Option<String>, &'static str> {
        let receipt = entry.get("ReceiptHandle").and_then(Value::as_str).unwrap_or_default();
        let seconds = entry.get("VisibilityTimeout").and_then(Value::as_u64).ok_or("MissingParameter")?;
        if seconds > MAX_VISIBILITY {
            return Err("InvalidParameterValue");
        }
        let wait = Duration::from_secs(seconds);
        let message = self.messages.iter_mut().find(|it| it.receipt == receipt && it.receives > 0);
        let message = message.ok_or("ReceiptHandleIsInvalid")?;
        message.visible = Instant::now() + wait;
        let id = message.id.clone();
        self.report(&id, Step::Waits(wait));
        Ok(None)
    }

    /// The `MessageId` of what is sent.
    fn send_entry(&mut self, queue: &str, entry: &Value) -> Result<Option<String>, &'static str> {
        let body = entry.get("MessageBody").and_then(Value::as_str).filter(|body| !body.is_empty());
        let body = body.ok_or("InvalidParameterValue")?;
        let delay = entry.get("DelaySeconds").and_then(Value::as_u64).unwrap_or_default();
        if delay > MAX_DELAY.into() {
            return Err("InvalidParameterValue");
        }
        if queue == ORDERS {
            return Ok(Some(self.send(body, Duration::from_secs(delay))));
        }
        let reason = entry.pointer("/MessageAttributes/reason/StringValue").and_then(Value::as_str).unwrap_or_default();
        self.invalid_orders.push(SetAside { body: body.to_owned(), reason: reason.to_owned() });
        let id = self.next_id();
        self.report(&id, Step::SetAside(reason.to_owned()));
        Ok(Some(id))
    }
}
