//! What carries an order, or what became of one, and is not an order itself: sent in an order's place, it comes from a rule
//! or subscription that is set up wrongly, and the log names it.

use serde::{Deserialize, de::IgnoredAny};

use crate::order::{Invalid, Order, Problem};

#[derive(Deserialize)]
struct Markers {
    #[serde(alias = "outTradeNo")]
    out_trade_no: Option<IgnoredAny>,
    outcome: Option<IgnoredAny>,
    message_id: Option<IgnoredAny>,
    #[serde(rename = "TopicArn")]
    topic_arn: Option<IgnoredAny>,
    #[serde(rename = "detail-type")]
    detail_type: Option<IgnoredAny>,
}

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
    // A derived struct can be read from a list, too.
    let markers = text.trim_start().starts_with('{').then(|| serde_json::from_str::<Markers>(text).ok()).flatten();
    match markers.and_then(|markers| markers.problem()) {
        Some(problem) => Err(Invalid::new(name, problem)),
        None => Order::from_json(text, name),
    }
}

impl Markers {
    /// An order may have other fields of any name; but what an outcome event has, only such an event has.
    fn problem(&self) -> Option<Problem> {
        let is_order = self.out_trade_no.is_some();
        if self.outcome.is_some() && self.message_id.is_some() {
            Some(OUTCOME_EVENT)
        } else if self.topic_arn.is_some() && !is_order {
            Some(SNS)
        } else if self.detail_type.is_some() && !is_order {
            Some(EVENT_BRIDGE)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
