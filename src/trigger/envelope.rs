//! What carries an order, or what became of one, and is not an order itself: sent in an order's place, it comes from a rule
//! or subscription that is set up wrongly, and the log names it.

use super::top_level::TopLevel;
use crate::order::{Invalid, Order, Problem};

const OUTCOME_EVENT: Problem = Problem {
    zh: "是本函数发布的关单结果事件,不能再作为订单,请检查EventBridge规则的目标",
    en: "is an outcome event that was routed back: a rule's target must not be the orders queue",
};

const SNS: Problem = Problem {
    zh: "是SNS消息的外层,请在订阅上启用原始消息传送(raw message delivery)",
    en: "is an SNS envelope: enable raw message delivery on the subscription",
};

const EVENT_BRIDGE: Problem = Problem {
    zh: "是EventBridge事件的外层,请用InputPath $.detail 只发送订单",
    en: "is an EventBridge envelope: send only the order, with InputPath $.detail",
};

/// Parses an order, which an error calls by `name`.
///
/// # Errors
/// [`Invalid`] as [`Order::from_json`] has it, or the name of the envelope.
pub(super) fn order(text: &str, name: &'static str) -> Result<Order, Invalid> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let order = Order::from_json(text, name);
    match problem(&TopLevel::parse(text)) {
        None => order,
        // For the log: which order it was.
        Some(problem) => Err(match order {
            Ok(order) => order.invalid(name, problem),
            Err(invalid) => Invalid { field: name, problem, ..invalid },
        }),
    }
}

/// An order may have other fields of any name; but what an outcome event has, only such an event has.
fn problem(fields: &TopLevel<'_>) -> Option<Problem> {
    if fields.has("outcome") && fields.has("message_id") {
        Some(OUTCOME_EVENT)
    } else if fields.has("TopicArn") && !fields.is_order() {
        Some(SNS)
    } else if fields.has("detail-type") && !fields.is_order() {
        Some(EVENT_BRIDGE)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::order::{OutTradeNo, SubMchId};

    #[test]
    fn an_event_whose_fields_cant_be_read_is_not_an_order() {
        let event = r#"{"\ud800": 1, "outcome": "closed", "message_id": "m", "sub_mch_id": "2", "out_trade_no": "1"}"#;
        assert!(order(event, "body").is_err());
    }

    #[test]
    fn an_envelope_is_rejected_by_its_name() {
        for (event, named) in [
            (json!({"outcome": "closed", "message_id": "m", "out_trade_no": "1"}), "outcome event"),
            (json!({"Type": "Notification", "TopicArn": "arn", "Message": "{}"}), "SNS envelope"),
            (json!({"detail-type": "Order Outcome", "source": "s", "detail": {}}), "EventBridge envelope"),
        ] {
            let invalid = order(&event.to_string(), "body").unwrap_err();
            assert!(invalid.to_string().starts_with(&format!("body is an {named}")), "{invalid}");
        }
    }

    #[test]
    fn an_outcome_event_is_rejected_however_it_names_the_order_and_the_log_names_it() {
        for event in [
            r#"{"outcome": "closed", "message_id": "m", "sub_mch_id": "2", "out_trade_no": "1"}"#,
            r#"{"outcome": "closed", "message_id": "m", "sub_mch_id": "2", "out_trade_no": "1", "outTradeNo": "1"}"#,
            r#"{"outcome": "closed", "outcome": "paid", "message_id": "m", "sub_mch_id": "2", "out_trade_no": "1"}"#,
            r#"{"outcome": "closed", "message_id": "m", "sub_mch_id": "2", "out_trade_no": "1", "confirm": "yes"}"#,
        ] {
            let invalid = order(event, "body").unwrap_err();
            assert_eq!((invalid.field, invalid.problem), ("body", OUTCOME_EVENT), "{event}");
            assert_eq!(invalid.out_trade_no.as_ref().map(OutTradeNo::as_str), Some("1"), "{event}");
            assert_eq!(invalid.sub_mch_id.as_ref().map(SubMchId::as_str), Some("2"), "{event}");
        }
    }

    #[test]
    fn an_order_may_have_other_fields_of_any_name() {
        for other in ["outcome", "message_id", "TopicArn", "detail-type"] {
            for number in ["out_trade_no", "outTradeNo"] {
                assert!(order(&json!({number: "1", other: "x"}).to_string(), "body").is_ok(), "{number} {other}");
            }
        }
        assert_eq!(order("[]", "body").unwrap_err().problem, Problem::NOT_AN_OBJECT);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_once() {
        assert!(order("\u{feff}{\"out_trade_no\": \"1\"}", "body").is_ok());
        assert!(order("\u{feff}\u{feff}{\"out_trade_no\": \"1\"}", "body").is_err());
    }
}
