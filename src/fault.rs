//! Why there is no reply to answer with, once: each [`Fault`] with its Lambda `errorType`, HTTP status, `errCode`,
//! its message for the caller and its cause for the log.
//!
//! Closing is idempotent, so after a fault it is safe to call again, as long as the number is not offered for payment again.

use std::borrow::Cow;

use crate::{
    http_client::SendError,
    order::{Invalid, InvalidKind, Wait, WaitFor},
    outcome::Outcome,
    wechat_pay::{ReplyError, VerifyError},
};

/// Why there is no reply of WeChat Pay to answer with.
///
/// Its causes name what happened, never a value that was sent or received, so that neither `Debug` nor `Display` can
/// show a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The event is not an order. Calling again does not help.
    #[error("{0}")]
    InvalidInput(#[from] Invalid),
    /// The order's earliest time has not come: it is less than five minutes old, when WeChat Pay may return SUCCESS and
    /// leave it open, or its `close_at` is ahead. Calling again helps then.
    #[error("{}", match .0.wait_for {
        WaitFor::Age => "the order is less than five minutes old",
        WaitFor::CloseAt => "the order's close_at has not come",
    })]
    TooEarly(Wait),
    /// The secret can't be read, or is malformed; nothing was sent. Calling again helps once the secret can be read.
    #[error("{cause}")]
    CredentialsUnavailable {
        /// What Secrets Manager or the secret lacked.
        cause: Cow<'static, str>,
    },
    /// The secret of the merchant that the order names does not exist; nothing was sent. To a caller it is
    /// `CredentialsUnavailable`; to an operator it may be one mistyped number.
    #[error("{cause}")]
    NoSuchMerchant {
        /// What Secrets Manager answered.
        cause: Cow<'static, str>,
    },
    /// No endpoint took the request or answered in time. Calling again helps when the network does.
    #[error("{0}")]
    GatewayUnreachable(#[source] SendError),
    /// Something answered, but not with a reply that can be verified. Calling again helps if it was a passing fault.
    #[error("{0}")]
    ReplyInvalid(#[source] InvalidReply),
    /// The invocation's time ran out with nothing in hand. Calling again helps.
    #[error("the invocation's time ran out")]
    DeadlineExceeded {
        /// Whether something may have been sent before.
        was_sent: bool,
    },
    /// A bug: a panic in a library.
    #[error("the function panicked")]
    InternalError,
    /// An event that carries no order; answered, its source would take the order for done.
    #[error("{0}")]
    UnsupportedEvent(Invalid),
    /// A record of another queue than the one that the function is set up for: whoever may invoke the function can hand it a
    /// batch, and outcome events would be published for it.
    #[error("{0}")]
    OtherQueue(Invalid),
    /// A batch with a message that has no id to report as failed; answered, SQS would delete that message.
    #[error("a record of the batch has no messageId")]
    InvalidBatch,
}

/// What answered in place of a reply that can be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReply {
    /// An HTTP response that breaks a rule.
    #[error(transparent)]
    Unverified(#[from] ReplyError),
    /// Something that does not speak HTTP: a proxy, or another service's port.
    #[error("the answer is not HTTP")]
    NotHttp,
}

/// wx-server-sdk's "invalid parameters".
const INVALID_PARAMETERS: i32 = -501_007;
/// wx-server-sdk's "resource unavailable".
const RESOURCE_UNAVAILABLE: i32 = -501_001;
/// wx-server-sdk's "timeout".
const TIMEOUT: i32 = -501_002;
/// wx-server-sdk's "system error".
const SYSTEM_ERROR: i32 = -601_001;

/// What a fault is called, and the numbers that callers know it by.
struct Row {
    /// The `errorType` of a direct call's function error.
    error_type: &'static str,
    /// The log's `reason`.
    reason: &'static str,
    http_status: u16,
    /// The number with which wx-server-sdk calls this kind of failure.
    err_code: i32,
}

/// A fault whose `errorType` is also its reason.
const fn row(name: &'static str, http_status: u16, err_code: i32) -> Row {
    Row { error_type: name, reason: name, http_status, err_code }
}

impl Fault {
    fn row(&self) -> Row {
        match self {
            Self::InvalidInput(_) => row("invalid_input", 400, INVALID_PARAMETERS),
            Self::TooEarly(Wait { wait_for: WaitFor::Age, .. }) => row("too_young", 409, INVALID_PARAMETERS),
            Self::TooEarly(Wait { wait_for: WaitFor::CloseAt, .. }) => {
                Row { reason: "not_due", ..row("NotDue", 409, INVALID_PARAMETERS) }
            }
            Self::CredentialsUnavailable { .. } => row("CredentialsUnavailable", 503, RESOURCE_UNAVAILABLE),
            Self::NoSuchMerchant { .. } => {
                Row { reason: "no_such_merchant", ..row("CredentialsUnavailable", 503, RESOURCE_UNAVAILABLE) }
            }
            Self::GatewayUnreachable(_) => row("GatewayUnreachable", 504, TIMEOUT),
            Self::ReplyInvalid(_) => row("ReplyInvalid", 502, SYSTEM_ERROR),
            Self::DeadlineExceeded { .. } => row("DeadlineExceeded", 504, TIMEOUT),
            Self::InternalError => row("InternalError", 500, SYSTEM_ERROR),
            Self::UnsupportedEvent(_) => row("UnsupportedEvent", 400, INVALID_PARAMETERS),
            Self::OtherQueue(_) => row("other_queue", 400, INVALID_PARAMETERS),
            Self::InvalidBatch => row("InvalidBatch", 400, INVALID_PARAMETERS),
        }
    }

    /// The log's `reason`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.row().reason
    }

    /// The `errorType` of a direct call's function error.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        self.row().error_type
    }

    /// The status of an HTTP answer.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        self.row().http_status
    }

    /// The `errCode` of an answer.
    #[must_use]
    pub fn err_code(&self) -> i32 {
        self.row().err_code
    }

    /// Whether the function itself rejects the order. A direct call is then answered, and a fault raised otherwise: Lambda
    /// hands an asynchronous order that is not due to the queue, which waits.
    #[must_use]
    pub(crate) fn is_rejection(&self) -> bool {
        matches!(self, Self::InvalidInput(_) | Self::TooEarly(Wait { wait_for: WaitFor::Age, .. }))
    }

    /// Whether its log line is an ERROR.
    #[must_use]
    pub(crate) fn is_error(&self) -> bool {
        !matches!(self, Self::InvalidInput(_) | Self::TooEarly(_) | Self::NoSuchMerchant { .. })
    }

    /// Whether what came carries no order.
    #[must_use]
    pub(crate) fn is_no_order(&self) -> bool {
        self.invalid().is_some_and(|invalid| invalid.kind == InvalidKind::NoOrder)
    }

    /// What was found wrong with the input, if that is the fault.
    #[must_use]
    pub fn invalid(&self) -> Option<&Invalid> {
        match self {
            Self::InvalidInput(invalid) | Self::UnsupportedEvent(invalid) | Self::OtherQueue(invalid) => Some(invalid),
            _ => None,
        }
    }

    /// What it says of the order by itself, without a query.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let was_sent = match self {
            Self::InvalidInput(_)
            | Self::TooEarly(_)
            | Self::CredentialsUnavailable { .. }
            | Self::NoSuchMerchant { .. }
            | Self::UnsupportedEvent(_)
            | Self::OtherQueue(_)
            | Self::InvalidBatch => false,
            Self::GatewayUnreachable(cause) => cause.was_sent(),
            Self::DeadlineExceeded { was_sent } => *was_sent,
            Self::ReplyInvalid(_) | Self::InternalError => true,
        };
        if was_sent { Outcome::Unknown } else { Outcome::NotSent }
    }

    /// What happened and what to do, in Chinese: an answer's `returnMsg`.
    #[must_use]
    pub fn return_msg(&self, outcome: Outcome) -> String {
        let what = match self {
            Self::InvalidInput(invalid) => return format!("参数格式校验错误: {}", invalid.in_chinese()),
            Self::TooEarly(wait) => {
                return match wait.wait_for {
                    // The documentation's own sentence.
                    WaitFor::Age => "订单生成后不能马上调用关单接口,最短调用时间间隔为5分钟".to_owned(),
                    WaitFor::CloseAt => {
                        format!(
                            "未到关单时间(close_at {}),请求未发送,请到时重新调用,或发送到订单队列等待",
                            wait.until()
                        )
                    }
                };
            }
            Self::CredentialsUnavailable { .. } => {
                return "读取密钥失败,请求未发送,请检查密钥(Secret)后重试".to_owned();
            }
            Self::NoSuchMerchant { .. } => {
                return "该 mch_id 没有对应的密钥(Secret),请求未发送,请检查 mch_id".to_owned();
            }
            Self::UnsupportedEvent(invalid) | Self::OtherQueue(invalid) => {
                return format!("{},请求未发送", invalid.in_chinese());
            }
            Self::InvalidBatch => return "SQS消息缺少messageId,请求未发送".to_owned(),
            Self::GatewayUnreachable(cause) if !cause.was_sent() => "无法连接微信支付",
            Self::GatewayUnreachable(_) => "微信支付无响应",
            Self::ReplyInvalid(
                InvalidReply::NotHttp
                | InvalidReply::Unverified(ReplyError { error: None | Some(VerifyError::NotAReply(_)), .. }),
            ) => "微信支付的返回无法识别",
            Self::ReplyInvalid(_) => "微信支付的返回验签失败或商户号不符",
            Self::DeadlineExceeded { .. } => "处理超时",
            Self::InternalError => "函数内部错误",
        };
        let to_do = match outcome {
            Outcome::NotSent => "请求未发送,请重新调用",
            Outcome::Open => "查单结果为订单未关闭,仍可支付,请重新调用",
            _ => "关单结果未知,请查单或重新调用",
        };
        format!("{what},{to_do}")
    }

    /// What happened and what to do, in English: an `errMsg`'s text.
    #[must_use]
    pub fn message(&self, outcome: Outcome) -> String {
        let to_do = match outcome {
            Outcome::NotSent => "nothing was sent, call again",
            Outcome::Open => "a query shows that the order is still open, call again",
            _ => "the order may be closed, call again",
        };
        match self {
            Self::InvalidInput(invalid) => format!("invalid parameters: {invalid}"),
            Self::TooEarly(wait) => match wait.wait_for {
                WaitFor::Age => format!(
                    "time_start: an order can be closed five minutes after its creation at the earliest; \
                     nothing was sent, call again in {} s",
                    wait.seconds()
                ),
                WaitFor::CloseAt => format!(
                    "close_at: the order is not to be closed before {}; nothing was sent, call again in {} s, or send \
                     the order to the queue, which waits until then",
                    wait.until(),
                    wait.seconds()
                ),
            },
            Self::CredentialsUnavailable { cause } => format!("the signing key is unavailable ({cause}); {to_do}"),
            Self::NoSuchMerchant { cause } => {
                format!("there is no secret for this mch_id ({cause}); nothing was sent, check the number")
            }
            Self::GatewayUnreachable(cause) => format!("no WeChat Pay endpoint answered ({cause}); {to_do}"),
            Self::ReplyInvalid(cause) => format!("WeChat Pay's reply could not be verified ({cause}); {to_do}"),
            Self::DeadlineExceeded { .. } => format!("the invocation's time ran out; {to_do}"),
            Self::InternalError => format!("the function failed on a bug of its own; {to_do}"),
            Self::UnsupportedEvent(invalid) | Self::OtherQueue(invalid) => format!("{invalid}; nothing was sent"),
            Self::InvalidBatch => {
                "a record of the batch has no messageId, so that it can't be reported as failed; nothing was sent, \
                 send the batch again as SQS has it"
                    .to_owned()
            }
        }
    }

    /// The `errorMessage` of a direct call's function error: the outcome in brackets, so that a program needs no prose,
    /// then what happened and what to do, in both languages.
    #[must_use]
    pub(crate) fn error_message(&self, outcome: Outcome) -> String {
        let text = format!("{}. {}", self.message(outcome), self.return_msg(outcome));
        match self {
            // It has the outcomes of many orders.
            Self::InvalidBatch => text,
            _ => format!("[{}] {text}", outcome.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::order::{Order, Problem};

    /// The order's wait at `now`, 2026-11-23T00:00:00Z.
    fn too_early(field: &str) -> Fault {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(498_720);
        let order = Order::from_json(&format!(r#"{{"out_trade_no": "1", {field}}}"#), "event").unwrap();
        Fault::TooEarly(order.wait(now).unwrap().unwrap())
    }

    fn faults() -> Vec<Fault> {
        vec![
            Fault::InvalidInput(Invalid::no_order("event", Problem::NOT_AN_OBJECT)),
            too_early(r#""time_start": "20261123080000""#),
            too_early(r#""close_at": "2026-11-23T08:10:00+08:00""#),
            Fault::CredentialsUnavailable { cause: "denied".into() },
            Fault::NoSuchMerchant { cause: "none".into() },
            Fault::GatewayUnreachable(SendError::TimedOut),
            Fault::GatewayUnreachable(SendError::Refused),
            Fault::ReplyInvalid(InvalidReply::NotHttp),
            Fault::ReplyInvalid(ReplyError { status: 200, error: Some(VerifyError::Signature) }.into()),
            Fault::DeadlineExceeded { was_sent: true },
            Fault::DeadlineExceeded { was_sent: false },
            Fault::InternalError,
            Fault::UnsupportedEvent(Invalid::no_order("event", Problem::NOT_AN_OBJECT)),
        ]
    }

    #[test]
    fn a_function_error_begins_with_the_outcome_and_says_what_to_do_in_both_languages() {
        for fault in faults() {
            for outcome in [fault.outcome(), Outcome::Open] {
                let text = fault.error_message(outcome);
                assert!(text.starts_with(&format!("[{}] ", outcome.as_str())), "{text}");
                let (english, chinese) = text.split_once(". ").unwrap();
                assert!(english.is_ascii() && !chinese.is_ascii(), "{text}");
                let is_not_sent = outcome == Outcome::NotSent && !matches!(fault, Fault::InvalidInput(_));
                assert_eq!(english.contains("nothing was sent"), is_not_sent || fault_never_sends(&fault), "{text}");
            }
        }
        let batch = Fault::InvalidBatch.error_message(Outcome::NotSent);
        assert!(batch.starts_with("a record of the batch"), "it has the outcomes of many orders: {batch}");
    }

    fn fault_never_sends(fault: &Fault) -> bool {
        matches!(fault, Fault::TooEarly(_) | Fault::NoSuchMerchant { .. } | Fault::UnsupportedEvent(_))
    }

    #[test]
    fn a_fault_that_one_caller_can_cause_is_no_error() {
        let errors: Vec<_> = faults().iter().filter(|fault| !fault.is_error()).map(Fault::reason).collect();
        assert_eq!(errors, ["invalid_input", "too_young", "not_due", "no_such_merchant"]);
    }

    #[test]
    fn a_direct_call_is_answered_only_what_the_caller_did_wrong() {
        let answered: Vec<_> = faults().iter().filter(|fault| fault.is_rejection()).map(Fault::reason).collect();
        assert_eq!(answered, ["invalid_input", "too_young"]);
        let not_due = too_early(r#""close_at": "2026-11-23T08:10:00+08:00""#);
        assert_eq!((not_due.error_type(), not_due.http_status()), ("NotDue", 409));
        let no_secret = Fault::NoSuchMerchant { cause: "none".into() };
        assert_eq!((no_secret.error_type(), no_secret.http_status()), ("CredentialsUnavailable", 503));
    }

    #[test]
    fn an_answer_that_is_not_http_says_so() {
        let text = Fault::ReplyInvalid(InvalidReply::NotHttp).error_message(Outcome::Unknown);
        assert_eq!(
            text,
            "[unknown] WeChat Pay's reply could not be verified (the answer is not HTTP); the order may be closed, call \
             again. 微信支付的返回无法识别,关单结果未知,请查单或重新调用"
        );
    }
}
