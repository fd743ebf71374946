//! The records of a batch, as far as they can be read.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

/// The most messages of a batch
/// (<https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html>).
const MAX_RECORDS: usize = 10_000;

/// The messages of a batch, not read yet.
#[derive(Debug)]
pub(in crate::trigger) struct Batch<'a>(Vec<&'a RawValue>);

/// One message, as far as it can be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) message_id: Option<String>,
    pub(super) body: Option<String>,
    pub(super) receipt_handle: Option<String>,
    /// Which queue it is from.
    pub(super) event_source_arn: Option<String>,
    /// How often it was received, this time included, as SQS counts (roughly).
    pub(super) receives: Option<u64>,
    /// When it was received for the first time.
    pub(super) first_receive: Option<SystemTime>,
    /// Whether it is one of SQS's, and not another service's.
    pub(super) is_of_sqs: bool,
}

impl<'a> Batch<'a> {
    /// Takes `Records` for a batch of messages, unless they are those of another service. A record that can't be read is
    /// in the batch, too: were the batch no batch, SQS would take its messages for done.
    pub(in crate::trigger) fn of(records: &'a RawValue) -> Option<Self> {
        let records: Vec<&RawValue> = serde_json::from_str(records.get()).ok()?;
        let is_batch = records.len() <= MAX_RECORDS
            && (records.is_empty() || records.iter().any(|record| Record::read(record).is_of_sqs));
        is_batch.then_some(Self(records))
    }

    /// Reads the records.
    pub(super) fn records(&self) -> Vec<Record> {
        self.0.iter().map(|record| Record::read(record)).collect()
    }
}

impl Record {
    fn read(record: &RawValue) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct RawRecord<'a> {
            #[serde(borrow)]
            message_id: Option<&'a RawValue>,
            #[serde(borrow)]
            body: Option<&'a RawValue>,
            #[serde(borrow)]
            receipt_handle: Option<&'a RawValue>,
            #[serde(borrow)]
            attributes: Option<&'a RawValue>,
            #[serde(borrow)]
            event_source: Option<&'a RawValue>,
            #[serde(borrow, rename = "eventSourceARN")]
            event_source_arn: Option<&'a RawValue>,
            /// As SNS spells it.
            #[serde(rename = "EventSource")]
            other_source: Option<IgnoredAny>,
        }

        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Attributes<'a> {
            #[serde(borrow)]
            approximate_receive_count: Option<&'a RawValue>,
            #[serde(borrow)]
            approximate_first_receive_timestamp: Option<&'a RawValue>,
        }

        // A derived struct can be read from a list, too.
        if !record.get().starts_with('{') {
            return Self::default();
        }
        let raw: RawRecord<'_> = serde_json::from_str(record.get()).unwrap_or_default();
        let attributes = raw.attributes.filter(|attributes| attributes.get().starts_with('{'));
        let attributes: Attributes<'_> =
            attributes.and_then(|attributes| serde_json::from_str(attributes.get()).ok()).unwrap_or_default();
        let is_of_sqs = match text(raw.event_source) {
            Some(source) => source == "aws:sqs",
            None => raw.other_source.is_none() && (raw.message_id.is_some() || raw.body.is_some()),
        };
        let first_receive = number(attributes.approximate_first_receive_timestamp).map(Duration::from_millis);
        Self {
            message_id: text(raw.message_id),
            body: text(raw.body),
            receipt_handle: text(raw.receipt_handle),
            event_source_arn: text(raw.event_source_arn),
            receives: number(attributes.approximate_receive_count),
            first_receive: first_receive.and_then(|since_epoch| SystemTime::UNIX_EPOCH.checked_add(since_epoch)),
            is_of_sqs,
        }
    }
}

fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

/// A number, which SQS writes as text.
fn number(raw: Option<&RawValue>) -> Option<u64> {
    text(raw)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn batch(records: &Value) -> Option<Vec<Record>> {
        let raw = RawValue::from_string(records.to_string()).unwrap();
        Batch::of(&raw).map(|batch| batch.records())
    }

    #[test]
    fn a_record_is_read_as_sqs_writes_it() {
        let event: Value = serde_json::from_str(include_str!("../../../events/sqs.json")).unwrap();
        let record = batch(&event["Records"]).unwrap().swap_remove(0);
        assert_eq!(record.message_id.as_deref(), event["Records"][0]["messageId"].as_str());
        assert_eq!(record.body.as_deref(), event["Records"][0]["body"].as_str());
        assert_eq!(record.receipt_handle.as_deref(), Some("MessageReceiptHandle"));
        assert_eq!(record.event_source_arn.as_deref(), Some("arn:aws:sqs:us-east-1:123456789012:MyQueue"));
        assert_eq!(record.receives, Some(1));
        let since_epoch = record.first_receive.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since_epoch.as_millis(), 1_523_232_000_001);
    }

    #[test]
    fn what_cant_be_read_of_a_record_is_absent_and_the_record_stays_in_the_batch() {
        for odd in [
            json!({"messageId": 1, "body": 1, "receiptHandle": 1, "attributes": 1, "eventSourceARN": 1}),
            json!({"messageId": null, "attributes": ["1", "2"]}),
            json!({"attributes": {"ApproximateReceiveCount": 1, "ApproximateFirstReceiveTimestamp": "x"}}),
            json!(1),
            json!(null),
            json!(["m", "body"]),
        ] {
            let records = batch(&json!([{"messageId": "m", "eventSource": "aws:sqs"}, odd])).unwrap();
            let unread = Record { is_of_sqs: records[1].is_of_sqs, ..Record::default() };
            assert_eq!((records.len(), &records[1]), (2, &unread), "{odd}");
        }
    }

    #[test]
    fn records_of_others_are_not_a_batch() {
        for records in [
            json!([{"eventSource": "aws:kinesis", "messageId": "m", "body": "{}"}]),
            json!([{"EventSource": "aws:sns", "body": "{}"}]),
            json!([{"out_trade_no": "1"}]),
            json!([1]),
            json!({}),
            json!(vec![json!({"messageId": "m"}); MAX_RECORDS + 1]),
        ] {
            assert!(batch(&records).is_none(), "{:.100}", records.to_string());
        }
        assert_eq!(batch(&json!([])), Some(vec![]));
        assert_eq!(batch(&json!([1, {"body": "{}"}])).unwrap().len(), 2);
    }
}
