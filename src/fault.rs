//! What can go wrong, once: each [`Fault`] with its Lambda `errorType`, HTTP status, `errCode`, its message for the
//! caller and its cause for the log.
//!
//! Two of them are refusals (the function looked at the order and sent nothing), the others faults in the narrower
//! sense: nothing trustworthy came back. Closing is idempotent, so after a fault it is always safe to call again.

use std::{borrow::Cow, fmt};

use lambda_runtime::Diagnostic;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::order::{Invalid, Problem};

/// Why an order was not closed, or why nobody can say whether it was.
///
/// The `cause`s are for the log. They name what happened, never a value that was sent or received, so that neither
/// `Debug` nor `Display` can show a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The event is not an order. Trying again does not help.
    #[error("invalid parameter: {0}")]
    BadInput(#[from] Invalid),
    /// The order is less than five minutes old: WeChat Pay may answer SUCCESS and not keep to it.
    /// Trying again helps after the time given.
    #[error("the order is too young: retry in {retry_after_seconds} s")]
    TooYoung {
        /// Whole seconds until the order is five minutes old, rounded up.
        retry_after_seconds: u64,
    },
    /// The secret can't be read, or is malformed; nothing was sent. Trying again helps once the secret can be read.
    #[error("the signing key is unavailable: {cause}")]
    CredentialsUnavailable {
        /// What Secrets Manager or the secret lacked.
        cause: Cow<'static, str>,
    },
    /// No endpoint took the request or answered in time. Trying again helps when the network does.
    #[error("no WeChat Pay endpoint answered: {cause}")]
    GatewayUnreachable {
        /// What the last try ran into.
        cause: Cow<'static, str>,
    },
    /// Something answered, but not with a reply that can be believed. Trying again helps if it was a passing fault.
    #[error("the reply can't be believed: {cause}")]
    ReplyInvalid {
        /// The first rule that the reply broke.
        cause: Cow<'static, str>,
    },
    /// The invocation's time ran out first. Trying again helps.
    #[error("the invocation's time ran out")]
    DeadlineExceeded,
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
    /// The `errorType` of a direct call's function error; also the outcome that the log and its metrics count.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::BadInput(_) => "bad_input",
            Self::TooYoung { .. } => "too_young",
            Self::CredentialsUnavailable { .. } => "CredentialsUnavailable",
            Self::GatewayUnreachable { .. } => "GatewayUnreachable",
            Self::ReplyInvalid { .. } => "ReplyInvalid",
            Self::DeadlineExceeded => "DeadlineExceeded",
        }
    }

    /// Whether the function itself refused: nothing was sent, and a direct call is answered instead of raised.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::BadInput(_) | Self::TooYoung { .. })
    }

    /// The status of an HTTP answer.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::BadInput(Invalid { problem: Problem::NotPost, .. }) => 405,
            Self::BadInput(_) => 400,
            Self::TooYoung { .. } => 409,
            Self::CredentialsUnavailable { .. } => 503,
            Self::ReplyInvalid { .. } => 502,
            Self::GatewayUnreachable { .. } | Self::DeadlineExceeded => 504,
        }
    }

    /// The `errCode` of an answer: the number with which wx-server-sdk calls this kind of failure.
    #[must_use]
    pub fn err_code(&self) -> i32 {
        match self {
            Self::BadInput(_) | Self::TooYoung { .. } => INVALID_PARAMETERS,
            Self::CredentialsUnavailable { .. } => RESOURCE_UNAVAILABLE,
            Self::GatewayUnreachable { .. } | Self::DeadlineExceeded => TIMEOUT,
            Self::ReplyInvalid { .. } => SYSTEM_ERROR,
        }
    }

    /// What happened and what to do, in Chinese: an answer's `returnMsg`.
    #[must_use]
    pub fn return_msg(&self) -> Cow<'static, str> {
        match self {
            Self::BadInput(invalid) => format!("参数格式校验错误: {}", invalid.in_chinese()).into(),
            // The documentation's own sentence.
            Self::TooYoung { .. } => "订单生成后不能马上调用关单接口,最短调用时间间隔为5分钟".into(),
            Self::CredentialsUnavailable { .. } => "无法读取签名密钥,请求未发送,请稍后重新调用".into(),
            Self::GatewayUnreachable { .. } => "微信支付无响应,订单可能已关闭,请重新调用".into(),
            Self::ReplyInvalid { .. } => "微信支付的应答不可信,订单可能已关闭,请重新调用".into(),
            Self::DeadlineExceeded => "处理超时,订单可能已关闭,请重新调用".into(),
        }
    }

    /// What happened and what to do, in English: the text of an `errMsg` and of an `errorMessage`.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::BadInput(invalid) => format!("invalid parameters: {invalid}"),
            Self::TooYoung { retry_after_seconds } => format!(
                "time_start: an order can be closed five minutes after its creation at the earliest; \
                 nothing was sent, call again in {retry_after_seconds} s"
            ),
            Self::CredentialsUnavailable { cause } => {
                format!("the signing key is unavailable ({cause}); nothing was sent, call again")
            }
            Self::GatewayUnreachable { cause } => {
                format!("no WeChat Pay endpoint answered ({cause}); the order may be closed, call again")
            }
            Self::ReplyInvalid { cause } => {
                format!("WeChat Pay's reply can't be believed ({cause}); the order may be closed, call again")
            }
            Self::DeadlineExceeded => "the invocation's time ran out; the order may be closed, call again".to_owned(),
        }
    }
}

impl From<Fault> for Diagnostic {
    fn from(fault: Fault) -> Self {
        Self { error_type: fault.error_type().to_owned(), error_message: fault.message() }
    }
}

/// As the function's own answer: `returnCode` FAIL, `returnMsg`, `errCode`, `errMsg`, and never a `result_code`.
impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("returnCode", "FAIL")?;
        map.serialize_entry("returnMsg", &self.return_msg())?;
        map.serialize_entry("errCode", &self.err_code())?;
        map.serialize_entry("errMsg", &ErrMsg(self))?;
        map.end()
    }
}

/// The `errMsg` of a failed call, in the form of wx-server-sdk.
struct ErrMsg<'a>(&'a Fault);

impl fmt::Display for ErrMsg<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cloudPay.closeOrder:fail {}", self.0.message())
    }
}

impl Serialize for ErrMsg<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
