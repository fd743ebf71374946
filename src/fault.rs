//! Why there is no reply to answer with, once: each [`Fault`] with its Lambda `errorType`, HTTP status, `errCode`,
//! its message for the caller and its cause for the log.
//!
//! Closing is idempotent, so after a fault it is safe to call again, as long as the number is not offered for payment again.

use std::borrow::Cow;

use crate::{
    http_client::SendError,
    order::Invalid,
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
    /// The order is less than five minutes old: WeChat Pay may return SUCCESS and leave it open.
    /// Calling again helps after the time given.
    #[error("the order is less than five minutes old")]
    TooYoung {
        /// Whole seconds until the order is five minutes old, rounded up.
        retry_after_seconds: u64,
    },
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
    ReplyInvalid(#[source] ReplyError),
    /// The invocation's time ran out with nothing in hand. Calling again helps.
    #[error("the invocation's time ran out")]
    DeadlineExceeded {
        /// Whether something may have been sent before.
        was_sent: bool,
    },
    /// A bug: a panic in a library.
    #[error("the function panicked")]
    InternalError,
    /// An event of a service that is not supported; answered, its source would take the order for done.
    #[error("{0}")]
    UnsupportedEvent(Cow<'static, str>),
    /// A batch with a message that has no id to report as failed; answered, SQS would delete that message.
    #[error("a record of the batch has no messageId")]
    InvalidBatch,
}

/// wx-server-sdk's "invalid parameters".
const INVALID_PARAMETERS: i32 = -501_007;
/// wx-server-sdk's "resource unavailable".
const RESOURCE_UNAVAILABLE: i32 = -501_001;
/// wx-server-sdk's "timeout".
const TIMEOUT: i32 = -501_002;
/// wx-server-sdk's "system error".
const SYSTEM_ERROR: i32 = -601_001;

impl Fault {
    /// The log's `reason`, and the `errorType` of a direct call's function error.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidInput(_) => "invalid_input",
            Self::TooYoung { .. } => "too_young",
            Self::CredentialsUnavailable { .. } | Self::NoSuchMerchant { .. } => "CredentialsUnavailable",
            Self::GatewayUnreachable(_) => "GatewayUnreachable",
            Self::ReplyInvalid(_) => "ReplyInvalid",
            Self::DeadlineExceeded { .. } => "DeadlineExceeded",
            Self::InternalError => "InternalError",
            Self::UnsupportedEvent(_) => "UnsupportedEvent",
            Self::InvalidBatch => "InvalidBatch",
        }
    }

    /// Whether the function itself rejects the order: a direct call is then answered, and a fault raised otherwise.
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        matches!(self, Self::InvalidInput(_) | Self::TooYoung { .. })
    }

    /// What it says of the order by itself, without a query.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let was_sent = match self {
            Self::InvalidInput(_)
            | Self::TooYoung { .. }
            | Self::CredentialsUnavailable { .. }
            | Self::NoSuchMerchant { .. }
            | Self::UnsupportedEvent(_)
            | Self::InvalidBatch => false,
            Self::GatewayUnreachable(cause) => cause.was_sent(),
            Self::DeadlineExceeded { was_sent } => *was_sent,
            Self::ReplyInvalid(_) | Self::InternalError => true,
        };
        if was_sent { Outcome::Unknown } else { Outcome::NotSent }
    }

    /// The status of an HTTP answer.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::InvalidInput(_) | Self::UnsupportedEvent(_) | Self::InvalidBatch => 400,
            Self::TooYoung { .. } => 409,
            Self::InternalError => 500,
            Self::ReplyInvalid(_) => 502,
            Self::CredentialsUnavailable { .. } | Self::NoSuchMerchant { .. } => 503,
            Self::GatewayUnreachable(_) | Self::DeadlineExceeded { .. } => 504,
        }
    }

    /// The `errCode` of an answer: the number with which wx-server-sdk calls this kind of failure.
    #[must_use]
    pub fn err_code(&self) -> i32 {
        match self {
            Self::InvalidInput(_) | Self::TooYoung { .. } | Self::UnsupportedEvent(_) | Self::InvalidBatch => {
                INVALID_PARAMETERS
            }
            Self::CredentialsUnavailable { .. } | Self::NoSuchMerchant { .. } => RESOURCE_UNAVAILABLE,
            Self::GatewayUnreachable(_) | Self::DeadlineExceeded { .. } => TIMEOUT,
            Self::ReplyInvalid(_) | Self::InternalError => SYSTEM_ERROR,
        }
    }

    /// What happened and what to do, in Chinese: an answer's `returnMsg`.
    #[must_use]
    pub fn return_msg(&self, outcome: Outcome) -> String {
        let what = match self {
            Self::InvalidInput(invalid) => return format!("参数格式校验错误: {}", invalid.in_chinese()),
            // The documentation's own sentence.
            Self::TooYoung { .. } => return "订单生成后不能马上调用关单接口,最短调用时间间隔为5分钟".to_owned(),
            Self::CredentialsUnavailable { .. } | Self::NoSuchMerchant { .. } => {
                return "读取APIv2密钥失败,请求未发送,请检查密钥(Secret)后重试".to_owned();
            }
            Self::UnsupportedEvent(_) => return "不支持的事件来源,请求未发送".to_owned(),
            Self::InvalidBatch => return "SQS消息缺少messageId".to_owned(),
            Self::GatewayUnreachable(cause) if !cause.was_sent() => "无法连接微信支付",
            Self::GatewayUnreachable(_) => "微信支付无响应",
            Self::ReplyInvalid(ReplyError {
                error: None | Some(VerifyError::NotAReply(_) | VerifyError::Xml(_)),
                ..
            }) => "微信支付的返回无法识别",
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

    /// What happened and what to do, in English: the text of an `errMsg` and of an `errorMessage`.
    #[must_use]
    pub fn message(&self, outcome: Outcome) -> String {
        let to_do = match outcome {
            Outcome::NotSent => "nothing was sent, call again",
            Outcome::Open => "a query shows that the order is still open, call again",
            _ => "the order may be closed, call again",
        };
        match self {
            Self::InvalidInput(invalid) => format!("invalid parameters: {invalid}"),
            Self::TooYoung { retry_after_seconds } => format!(
                "time_start: an order can be closed five minutes after its creation at the earliest; \
                 nothing was sent, call again in {retry_after_seconds} s"
            ),
            Self::CredentialsUnavailable { cause } | Self::NoSuchMerchant { cause } => {
                format!("the signing key is unavailable ({cause}); {to_do}")
            }
            Self::GatewayUnreachable(cause) => format!("no WeChat Pay endpoint answered ({cause}); {to_do}"),
            Self::ReplyInvalid(cause) => format!("WeChat Pay's reply could not be verified ({cause}); {to_do}"),
            Self::DeadlineExceeded { .. } => format!("the invocation's time ran out; {to_do}"),
            Self::InternalError => format!("the function failed on a bug of its own; {to_do}"),
            Self::UnsupportedEvent(what) => format!("{what}; nothing was sent"),
            Self::InvalidBatch => {
                "a record of the batch has no messageId, so that it can't be reported as failed; nothing was sent, \
                 send the batch again as SQS has it"
                    .to_owned()
            }
        }
    }
}
