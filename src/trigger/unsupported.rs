//! Events of services that are not supported. They are raised as errors: answered, their source would take the order for
//! done.

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::top_level::TopLevel;

/// A value that may be a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Other(IgnoredAny),
}

/// A record of a list.
#[derive(Default, Deserialize)]
struct ListElement {
    #[serde(rename = "eventSource", alias = "EventSource")]
    event_source: Option<Text>,
    #[serde(rename = "messageId")]
    message_id: Option<IgnoredAny>,
    body: Option<IgnoredAny>,
}

/// What is looked at of a `requestContext`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    function_arn: Option<IgnoredAny>,
    service_network_arn: Option<IgnoredAny>,
    connection_id: Option<IgnoredAny>,
}

/// The message for an object that is neither an HTTP request nor a batch, if it is an event of another service.
pub(super) fn object(fields: &TopLevel<'_>) -> Option<Cow<'static, str>> {
    if fields.is_order() {
        None
    } else if fields.has("requestPayload") {
        Some("Lambda destinations are not supported as a trigger: send the order itself to the function".into())
    } else if fields.has("detail-type") && fields.has("source") {
        Some(
            "EventBridge events are not supported: let the rule send only the order, with InputPath $.detail or an \
             input transformer"
                .into(),
        )
    } else if fields.has("raw_path") {
        Some(LATTICE.into())
    } else if fields.has("deliveryStreamArn") {
        Some(unsupported("Firehose").into())
    } else if fields.has("awslogs") {
        Some(unsupported("CloudWatch Logs").into())
    } else {
        serde_json::from_str(fields.get("eventSource")?.get()).ok().and_then(|source| named(&source))
    }
}

const LATTICE: &str = "VPC Lattice is not supported: call the function through API Gateway, a Function URL or an ALB";

/// The message for a `requestContext` without an HTTP method.
pub(super) fn without_method(request_context: &RawValue) -> Cow<'static, str> {
    let context: RequestContext = serde_json::from_str(request_context.get()).unwrap_or_default();
    if context.function_arn.is_some() {
        "Lambda destinations are not supported as a trigger: send the order itself to the function".into()
    } else if context.service_network_arn.is_some() {
        LATTICE.into()
    } else if context.connection_id.is_some() {
        "API Gateway's WebSocket APIs are not supported: use a REST or HTTP API".into()
    } else {
        "this event has a requestContext and no HTTP method: send what API Gateway, a Function URL or an ALB sends, or \
         the order itself"
            .into()
    }
}

/// The message for `Records` that are not SQS's.
pub(super) fn records(records: &[&RawValue]) -> Cow<'static, str> {
    let source = records.iter().find_map(|record| parse(record)?.event_source.as_ref().and_then(named));
    source.unwrap_or_else(|| unsupported("this service's Records").into())
}

/// The message for a list of records at the top level, which EventBridge Pipes sends.
pub(super) fn list(event: &str) -> Option<Cow<'static, str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(event).ok()?;
    let is_record =
        |record: ListElement| record.event_source.is_some() || record.message_id.is_some() || record.body.is_some();
    elements.iter().any(|element| parse(element).is_some_and(is_record)).then(|| {
        "EventBridge Pipes' list of records is not supported: connect the SQS queue to the function itself, with \
         ReportBatchItemFailures"
            .into()
    })
}

fn parse(record: &RawValue) -> Option<ListElement> {
    // A derived struct can be read from a list, too.
    record.get().starts_with('{').then(|| serde_json::from_str(record.get()).ok())?
}

fn named(source: &Text) -> Option<Cow<'static, str>> {
    let Text::Text(source) = source else { return None };
    let is_plain = source.len() <= 64 && source.bytes().all(|b| b.is_ascii_alphanumeric() || b":-.".contains(&b));
    let name = source.strip_prefix("aws:").filter(|_| is_plain)?;
    Some(match name {
        "sns" => "SNS events are not supported: subscribe the SQS queue to the topic, with raw message delivery".into(),
        name => unsupported(name).into(),
    })
}

fn unsupported(service: &str) -> String {
    format!("events of {service} are not supported: send the order itself, or send it to the SQS queue")
}
