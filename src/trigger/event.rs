//! What an event or a body is, found with one look at its outside.
//!
//! There is one rule and no list of services: what is a JSON object with an order number at its top level is an order.
//! Of what is not, the message says what came, and where the number stands if it is further in.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{further_in, http::HttpRequest, sqs::Batch};
use crate::order::{Invalid, KnownIds, Name, Order, OutTradeNo, Problem, field_of};

/// What an error about the whole calls it.
const EVENT: &str = "event";
pub(super) const BODY: &str = "body";

/// The largest object that can be a caller's mistake rather than another service's event, in bytes.
const MAX_MISTAKE: usize = 64 * 1024;

/// What an event is.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// An order, or one with a wrong field.
    Order(Result<Order, Invalid>),
    /// An HTTP request, whose body should be an order.
    Http(HttpRequest<'a>),
    /// A batch of SQS, each of whose bodies should be an order.
    Batch(Batch<'a>),
    /// A caller's mistake: an order without its number.
    Mistake(Invalid),
    /// Anything else. Answered, its source would take the order for done.
    Unsupported(Invalid),
}

impl<'a> Event<'a> {
    /// Looks at an event, which has to be JSON.
    pub(super) fn look(event: &'a str) -> Self {
        let outside = Outside::look(event);
        if let Outside::Object(fields) = &outside {
            if fields.has_number {
                return Self::Order(order_of(event, fields, EVENT));
            }
            if let Some(request) = HttpRequest::of(fields) {
                return Self::Http(request);
            }
            if let Some(batch) = fields.records.and_then(Batch::of) {
                return Self::Batch(batch);
            }
        }
        let invalid = no_order(event, &outside, EVENT);
        if is_mistake(event, &outside) { Self::Mistake(invalid) } else { Self::Unsupported(invalid) }
    }
}

/// Takes the order out of a body. A byte order mark before it is skipped.
///
/// # Errors
/// [`Invalid`] as [`Order::from_json`] has it, or what the body is in place of an order.
pub(super) fn order_in_body(body: &str) -> Result<Order, Invalid> {
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    match Outside::look(body) {
        Outside::Object(fields) if fields.has_number => order_of(body, &fields, BODY),
        outside => Err(no_order(body, &outside, BODY)),
    }
}

/// An order may have other fields of any name; but what an outcome event has, only such an event has.
fn order_of(text: &str, fields: &Fields<'_>, name: &'static str) -> Result<Order, Invalid> {
    const OUTCOME_EVENT: Problem = Problem::new(
        "是本函数发布的关单结果事件,不能再作为订单,请检查EventBridge规则的目标",
        "is an outcome event that was routed back: a rule's target must not be the orders queue",
    );
    let order = Order::from_json(text, name);
    if fields.outcome.is_none() || fields.message_id.is_none() {
        return order;
    }
    Err(match order {
        Ok(order) => order.invalid(name, OUTCOME_EVENT),
        Err(invalid) => Invalid { field: name, problem: OUTCOME_EVENT, ..invalid },
    })
}

/// Whether it is a mistake of somebody who waits for the answer, and not an event of a service: an empty object, or a small
/// one with a field of an order and no number at any depth.
fn is_mistake(text: &str, outside: &Outside<'_>) -> bool {
    let Outside::Object(fields) = outside else { return false };
    fields.is_empty || text.len() <= MAX_MISTAKE && fields.has_order_field && !further_in::is_anywhere(text)
}

/// What a text is at its top level.
#[derive(Debug)]
enum Outside<'a> {
    Object(Box<Fields<'a>>),
    /// A list, with its first element.
    List(Option<&'a RawValue>),
    /// A string with JSON in it, or with what is not Unicode.
    String,
    Number,
    Boolean,
    Null,
    /// Text that is not JSON, in a string or not, and where the parser stopped.
    NotJson {
        line: usize,
        column: usize,
    },
}

impl<'a> Outside<'a> {
    fn look(text: &'a str) -> Self {
        let looked = match text.trim_ascii_start().bytes().next() {
            Some(b'{') => serde_json::from_str(text).map(Self::Object),
            Some(b'[') => serde_json::from_str(text).map(|FirstElement(first)| Self::List(first)),
            first => serde_json::from_str::<&RawValue>(text).and_then(|value| match first {
                Some(b'"') => match serde_json::from_str::<String>(value.get()) {
                    Ok(content) => serde_json::from_str::<IgnoredAny>(&content).map(|_| Self::String),
                    Err(_) => Ok(Self::String),
                },
                Some(b't' | b'f') => Ok(Self::Boolean),
                Some(b'n') => Ok(Self::Null),
                _ => Ok(Self::Number),
            }),
        };
        looked.unwrap_or_else(|error| Self::NotJson { line: error.line(), column: error.column() })
    }
}

/// The top level of an object. Only what is asked for is kept: an event may have hundreds of thousands of fields. A value is
/// absent if it is `null`; of those with the same name, the last counts.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    is_empty: bool,
    /// Whether there is an order number, `null` or not.
    has_number: bool,
    /// Whether there is another field of an order.
    has_order_field: bool,
    pub(super) version: Option<&'a RawValue>,
    pub(super) http_method: Option<&'a RawValue>,
    pub(super) request_context: Option<&'a RawValue>,
    pub(super) headers: Option<&'a RawValue>,
    pub(super) multi_value_headers: Option<&'a RawValue>,
    pub(super) body: Option<&'a RawValue>,
    pub(super) is_base64_encoded: Option<&'a RawValue>,
    records: Option<&'a RawValue>,
    outcome: Option<&'a RawValue>,
    message_id: Option<&'a RawValue>,
    topic_arn: Option<&'a RawValue>,
    detail_type: Option<&'a RawValue>,
    request_payload: Option<&'a RawValue>,
}

/// A value that is there and has this type.
pub(super) fn read<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(value?.get()).ok()
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields { is_empty: true, ..Fields::default() };
        while let Some(Name(name)) = map.next_key()? {
            fields.is_empty = false;
            let kept = match &*name {
                "version" => &mut fields.version,
                "httpMethod" => &mut fields.http_method,
                "requestContext" => &mut fields.request_context,
                "headers" => &mut fields.headers,
                "multiValueHeaders" => &mut fields.multi_value_headers,
                "body" => &mut fields.body,
                "isBase64Encoded" => &mut fields.is_base64_encoded,
                "Records" => &mut fields.records,
                "outcome" => &mut fields.outcome,
                "message_id" => &mut fields.message_id,
                "TopicArn" => &mut fields.topic_arn,
                "detail-type" => &mut fields.detail_type,
                "requestPayload" => &mut fields.request_payload,
                name => {
                    match field_of(name) {
                        Some(OutTradeNo::NAME) => fields.has_number = true,
                        Some(_) => fields.has_order_field = true,
                        None => {}
                    }
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *kept = Some(map.next_value::<&RawValue>()?).filter(|value| value.get() != "null");
        }
        Ok(fields)
    }
}

/// The first element of a list, if it has one.
#[derive(Debug)]
struct FirstElement<'a>(Option<&'a RawValue>);

impl<'de> Deserialize<'de> for FirstElement<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;

        impl<'de> Visitor<'de> for ListVisitor {
            type Value = FirstElement<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<FirstElement<'de>, A::Error> {
                let first = list.next_element()?;
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(FirstElement(first))
            }
        }

        deserializer.deserialize_seq(ListVisitor)
    }
}

/// What came in place of an order: what it is, what to do, and where the number stands if it is further in.
fn no_order(text: &str, outside: &Outside<'_>, name: &'static str) -> Invalid {
    let what = what_came(outside, name);
    let found = match outside {
        Outside::NotJson { .. } => None,
        _ => further_in::find(text),
    };
    let (field, problem) = match (what, found) {
        (Some(Problem { zh, en }), Some(path)) => {
            let zh = format!("{zh};out_trade_no 须在最外层,实际位于 {path}");
            let en = format!("{en}; out_trade_no is required at the top level; it was found at {path}");
            (name, Problem { zh: zh.into(), en: en.into() })
        }
        (Some(what), None) => (name, what),
        (None, Some(path)) => {
            let zh = format!("须在最外层,实际位于 {path}");
            let en = format!("is required at the top level; it was found at {path}");
            (OutTradeNo::NAME, Problem { zh: zh.into(), en: en.into() })
        }
        (None, None) => {
            let zh = format!("必填:{name} 是最外层没有该字段的JSON对象");
            let en = format!("is required: the {name} is a JSON object without it at the top level");
            (OutTradeNo::NAME, Problem { zh: zh.into(), en: en.into() })
        }
    };
    Invalid { ids: Box::new(KnownIds::default()), ..Invalid::no_order(field, problem) }
}

/// What it is, unless it is an object that nothing is known of.
fn what_came(outside: &Outside<'_>, name: &'static str) -> Option<Problem> {
    Some(match outside {
        Outside::Object(fields) => return sender(fields),
        Outside::List(Some(first)) if is_s3_pointer(first) => Problem::new(
            "是SQS扩展客户端(extended client)指向S3对象的指针,请直接发送订单本身",
            "is the SQS extended client's pointer to an S3 object: send the order itself, without that client",
        ),
        Outside::List(_) if name == EVENT => Problem::new(
            "是列表(EventBridge Pipes以列表发送),请把SQS队列直接作为函数的触发器,并启用ReportBatchItemFailures",
            "is a list, as EventBridge Pipes sends it: connect the SQS queue to the function itself, with \
             ReportBatchItemFailures",
        ),
        Outside::List(_) => {
            Problem::new("是列表,须为一个订单的JSON对象", "is a list: expected the JSON object of one order")
        }
        Outside::String => {
            Problem::new("是字符串,须为JSON对象(不要再次编码)", "is a string: expected a JSON object, encoded once")
        }
        Outside::Number => Problem::new("是数字,须为JSON对象", "is a number: expected a JSON object"),
        Outside::Boolean => Problem::new("是布尔值,须为JSON对象", "is a boolean: expected a JSON object"),
        Outside::Null => Problem::new("是null,须为JSON对象", "is null: expected a JSON object"),
        Outside::NotJson { line, column } => Problem {
            zh: format!("不是JSON(第{line}行第{column}列)").into(),
            en: format!("is text that is not JSON (line {line} column {column})").into(),
        },
    })
}

/// Who sent an object that carries no order, if its form tells, and what to do.
fn sender(fields: &Fields<'_>) -> Option<Problem> {
    let source = || read(fields.records).and_then(|FirstElement(first)| source_of(first?));
    Some(if fields.topic_arn.is_some() {
        SNS
    } else if fields.detail_type.is_some() {
        Problem::new(
            "是EventBridge事件,请用InputPath $.detail 只发送订单",
            "is an EventBridge event: send only the order, with InputPath $.detail",
        )
    } else if fields.request_payload.is_some() {
        Problem::new(
            "是Lambda destination的记录,请发送订单本身",
            "is a Lambda destination's record: send the order itself",
        )
    } else if fields.records.is_some() {
        match source() {
            Some(source) if source == "aws:sns" => SNS,
            Some(source) => Problem {
                zh: format!("是{source}的Records,请发送订单本身,或发送到SQS队列").into(),
                en: format!("has Records of {source}: send the order itself, or send it to the SQS queue").into(),
            },
            None => Problem::new(
                "含有Records,但不是SQS的消息,请发送订单本身",
                "has Records that are not SQS's: send the order itself",
            ),
        }
    } else {
        return None;
    })
}

const SNS: Problem = Problem::new(
    "是SNS消息的外层,请让SQS队列订阅主题,并启用原始消息传送(raw message delivery)",
    "is an SNS envelope: subscribe the SQS queue to the topic, with raw message delivery",
);

/// The service that a record names, if its name can be shown.
fn source_of(record: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Record {
        #[serde(rename = "eventSource", alias = "EventSource")]
        source: String,
    }
    // A derived struct can be read from a list, too.
    let record = record.get().starts_with('{').then(|| serde_json::from_str::<Record>(record.get()).ok())??;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b":-.".contains(&b);
    Some(record.source).filter(|source| source.len() <= 64 && source.bytes().all(is_plain))
}

/// `["software.amazon.payloadoffloading.PayloadS3Pointer", {…}]`, or the older `com.amazon.sqs.javamessaging.MessageS3Pointer`
/// (<https://github.com/awslabs/amazon-sqs-java-extended-client-lib>).
fn is_s3_pointer(first: &RawValue) -> bool {
    serde_json::from_str::<&str>(first.get()).is_ok_and(|class| class.ends_with("S3Pointer"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::order::{InvalidKind, SubMchId};

    fn order() -> Value {
        json!({"sub_mch_id": "1900000109", "out_trade_no": "1217752501201407033233368018"})
    }

    fn unsupported(event: &str) -> Invalid {
        match Event::look(event) {
            Event::Unsupported(invalid) => invalid,
            other => panic!("{event}: {other:?}"),
        }
    }

    /// What services and their settings make of an order, what the message has to name, and the path to the order.
    fn envelopes() -> [(&'static str, Value, &'static str, Option<&'static str>); 22] {
        let text = order().to_string();
        let record = json!({"messageId": "m", "body": text, "eventSource": "aws:sqs"});
        let sns = json!({"Type": "Notification", "TopicArn": "arn:aws:sns:::t", "Message": text});
        let event =
            |detail: Value| json!({"version": "0", "source": "shop", "detail-type": "Timed Out", "detail": detail});
        [
            (
                "SNS's Records",
                json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": text}}]}),
                "raw message delivery",
                Some("$.Records[0].Sns.Message"),
            ),
            ("SNS without raw delivery", sns.clone(), "raw message delivery", Some("$.Message")),
            ("SNS in a string", json!(sns.to_string()), "string", Some("$.Message")),
            ("EventBridge", event(order()), "EventBridge", Some("$.detail")),
            ("EventBridge, the order a text", event(json!(text)), "EventBridge", Some("$.detail")),
            ("EventBridge, the order below", event(json!({"order": order()})), "EventBridge", Some("$.detail.order")),
            ("Pipes", json!([record]), "Pipes", Some("$[0].body")),
            ("Pipes with an input template", json!([order()]), "Pipes", Some("$[0]")),
            ("Pipes with a template of texts", json!([text]), "Pipes", Some("$[0]")),
            (
                "a Lambda destination",
                json!({
                    "version": "1.0", "requestContext": {"functionArn": "arn", "condition": "Success"},
                    "requestPayload": order(), "responsePayload": {},
                }),
                "Lambda destination",
                Some("$.requestPayload"),
            ),
            (
                "a destination of a batch",
                json!({"requestPayload": {"Records": [record]}, "responsePayload": null}),
                "Lambda destination",
                Some("$.requestPayload.Records[0].body"),
            ),
            (
                "the extended client",
                json!([
                    "software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "b", "s3Key": "k"},
                ]),
                "extended client",
                None,
            ),
            (
                "DynamoDB",
                json!({"Records": [{"eventSource": "aws:dynamodb", "dynamodb": {"NewImage": {
                    "out_trade_no": {"S": "1"},
                }}}]}),
                "aws:dynamodb",
                Some("$.Records[0].dynamodb.NewImage"),
            ),
            (
                "Kinesis",
                json!({"Records": [{"eventSource": "aws:kinesis", "kinesis": {"data": "e30="}}]}),
                "aws:kinesis",
                None,
            ),
            ("Records of nobody", json!({"Records": [order()]}), "Records", Some("$.Records[0]")),
            (
                "a WebSocket",
                json!({"requestContext": {"connectionId": "c"}, "body": text}),
                "top level",
                Some("$.body"),
            ),
            ("VPC Lattice", json!({"raw_path": "/", "method": "POST", "body": text}), "top level", Some("$.body")),
            ("Step Functions' input", json!({"Payload": order()}), "top level", Some("$.Payload")),
            (
                "an AppSync resolver",
                json!({"arguments": {"input": order()}, "info": {}}),
                "top level",
                Some("$.arguments.input"),
            ),
            ("a text of JSON", json!(text), "string", Some("$")),
            ("a text of a text", json!(json!(text).to_string()), "string", Some("$")),
            ("a name that is not shown", json!({"订单": {"a b": order()}}), "top level", Some("$.*.*")),
        ]
    }

    #[test]
    fn an_order_further_in_is_raised_with_what_came_and_where_it_stands() {
        for (name, event, named, path) in envelopes() {
            let invalid = unsupported(&event.to_string());
            let [en, zh] = [invalid.to_string(), invalid.in_chinese()];
            assert!(en.contains(named) && en.is_ascii(), "{name}: {en}");
            for text in [&en, &zh] {
                let shown = text.rsplit(' ').next().unwrap();
                assert_eq!(shown.starts_with('$').then_some(shown), path, "{name}: {text}");
                assert!(!text.contains("1217752501201407033233368018"), "{name}: {text}");
            }
            assert_eq!(
                en.contains("out_trade_no is required at the top level; it was found at"),
                path.is_some(),
                "{en}"
            );
            assert_eq!(invalid.kind, InvalidKind::NoOrder);
        }
    }

    #[test]
    fn a_body_is_told_the_same() {
        for (name, body, named, path) in envelopes() {
            let invalid = order_in_body(&body.to_string()).unwrap_err();
            assert!(invalid.to_string().contains(named) || named == "Pipes", "{name}: {invalid}");
            assert_eq!(
                invalid.to_string().rsplit(' ').next().filter(|word| word.starts_with('$')),
                path,
                "{name}: {invalid}"
            );
            assert_eq!(invalid.kind, InvalidKind::NoOrder, "{name}");
        }
    }

    #[test]
    fn only_what_can_be_a_callers_mistake_is_one() {
        let filler = "x".repeat(MAX_MISTAKE);
        for (event, is_mistake) in [
            (json!({}), true),
            (json!({"sub_mch_id": "1"}), true),
            (json!({"subMchId": null, "userInfo": {"openId": "o"}}), true),
            (json!({"confirm": true}), true),
            (json!({"close_at": "x"}), true),
            (json!({"nonceStr": "n", "text": order().to_string()}), true),
            (json!({"sub_mch_id": "1", "order": {"a": [{"b": {"c": {"outTradeNo": 1}}}]}}), false),
            (json!({"sub_mch_id": "1", "filler": filler}), false),
            (json!({"source": "shop"}), false),
            (json!({"Records": 5}), false),
            (json!({"Records": {}}), false),
            (json!({"Records": [1]}), false),
            (json!(null), false),
            (json!(5), false),
            (json!(true), false),
            (json!("text"), false),
            (json!([]), false),
            (json!([{}]), false),
        ] {
            match Event::look(&event.to_string()) {
                Event::Mistake(invalid) if is_mistake => {
                    assert!(invalid.to_string().starts_with("out_trade_no is required"), "{invalid}");
                    assert!(invalid.in_chinese().starts_with("out_trade_no "), "{}", invalid.in_chinese());
                }
                Event::Unsupported(_) if !is_mistake => {}
                other => panic!("{event}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_order_number_at_the_top_level_goes_before_all_else() {
        for other in ["Records", "requestContext", "TopicArn", "detail-type", "requestPayload", "outcome", "message_id"]
        {
            for number in ["out_trade_no", "outTradeNo"] {
                let event = json!({number: "1", other: [{"eventSource": "aws:sqs"}], "httpMethod": "POST"}).to_string();
                assert!(matches!(Event::look(&event), Event::Order(Ok(_))), "{event}");
                assert!(order_in_body(&event).is_ok(), "{event}");
            }
        }
        for wrong in ["null", "1", "\"\"", "[]"] {
            let event = format!(r#"{{"Records": [], "out_trade_no": {wrong}}}"#);
            assert!(
                matches!(Event::look(&event), Event::Order(Err(invalid)) if invalid.kind == InvalidKind::BrokenRule)
            );
        }
    }

    #[test]
    fn text_that_is_not_json_is_told_where_the_parser_stopped() {
        for (text, position) in [
            ("", "line 1 column 0"),
            ("poison", "line 1 column 1"),
            ("sub_mch_id=1&out_trade_no=1", "line 1 column 1"),
            ("{\"out_trade_no\": \"1\",}", "line 1 column 22"),
            ("{\n\"out_trade_no\": 1", "line 2 column 17"),
            ("{\"a\": 1} {\"out_trade_no\": \"1\"}", "line 1 column 10"),
            ("\u{feff}\u{feff}{\"out_trade_no\": \"1\"}", "line 1 column 1"),
            ("{\"\\ud800\": 1, \"out_trade_no\": \"1\"}", "line 1 column 9"),
        ] {
            let invalid = order_in_body(text).unwrap_err();
            assert_eq!(invalid.to_string(), format!("body is text that is not JSON ({position})"), "{text}");
            // What is not JSON comes as a string, as `json_only` has it.
            if !text.contains("ud800") {
                let event = unsupported(&json!(text).to_string());
                assert_eq!(event.to_string(), format!("event is text that is not JSON ({position})"), "{text}");
            }
        }
        assert_eq!(order_in_body("poison").unwrap_err().in_chinese(), "body 不是JSON(第1行第1列)");
        assert!(order_in_body("\u{feff}{\"out_trade_no\": \"1\"}").is_ok(), "one byte order mark is skipped");
    }

    #[test]
    fn an_outcome_event_is_rejected_however_it_names_the_order_and_the_log_names_it() {
        for event in [
            r#"{"outcome": "closed", "message_id": "m", "sub_mch_id": "2", "out_trade_no": "1"}"#,
            r#"{"outcome": "closed", "message_id": "m", "sub_mch_id": "2", "out_trade_no": "1", "outTradeNo": "1"}"#,
            r#"{"outcome": "closed", "outcome": "paid", "message_id": "m", "sub_mch_id": "2", "out_trade_no": "1"}"#,
            r#"{"outcome": "closed", "message_id": "m", "sub_mch_id": "2", "out_trade_no": "1", "confirm": "yes"}"#,
        ] {
            let invalid = order_in_body(event).unwrap_err();
            assert!(invalid.to_string().starts_with("body is an outcome event"), "{invalid}");
            assert_eq!(invalid.ids.out_trade_no.as_ref().map(OutTradeNo::as_str), Some("1"), "{event}");
            assert_eq!(invalid.ids.sub_mch_id.as_ref().map(SubMchId::as_str), Some("2"), "{event}");
            assert!(matches!(Event::look(event), Event::Order(Err(invalid)) if invalid.field == "event"), "{event}");
        }
    }

    #[test]
    fn of_names_that_are_there_twice_the_last_counts_and_null_counts_as_absent() {
        let fields: Fields<'_> =
            serde_json::from_str(r#"{"body": 1, "body": [2], "version": 3, "version": null}"#).unwrap();
        assert_eq!(fields.body.map(RawValue::get), Some("[2]"));
        assert!(fields.version.is_none());
    }

    #[test]
    fn a_source_is_named_only_if_it_is_plain() {
        for (source, expected) in [
            (json!("aws:s3"), "event has Records of aws:s3"),
            (json!("a\nb"), "event has Records that are not SQS's"),
            (json!("a".repeat(65)), "event has Records that are not SQS's"),
            (json!(1), "event has Records that are not SQS's"),
        ] {
            let invalid = unsupported(&json!({"Records": [{"eventSource": source}]}).to_string());
            assert!(invalid.to_string().starts_with(expected), "{invalid}");
        }
    }
}
