//! The order to close: one newtype a field, parsed from JSON once and valid ever after.
//!
//! Both spellings of a name are taken (`out_trade_no` as WeChat Pay writes it, `outTradeNo` as wx-server-sdk does),
//! since callers of CloudPay mix them. Numbers are refused by name: an `out_trade_no` can have more digits than a
//! JavaScript number holds, and a rounded one would close another order.

mod age;
mod event;
mod fields;

use std::fmt;

pub use age::TimeStart;
pub use fields::{NonceStr, OutTradeNo, SubAppid, SubMchId};

/// An order to close, every field within WeChat Pay's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The sub-merchant (特约商户) whose order it is.
    pub sub_mch_id: SubMchId,
    /// The merchant's own order number.
    pub out_trade_no: OutTradeNo,
    /// The request's random string: the caller's, or 32 characters from the operating system's randomness.
    pub nonce_str: NonceStr,
    /// The mini-program's appid, if the caller names one; otherwise the secret's serves.
    pub sub_appid: Option<SubAppid>,
    /// When the order was made, if the caller wants its age looked at.
    pub time_start: Option<TimeStart>,
}

impl Order {
    /// Parses an event of any JSON shape; fields that are not an order's are ignored, since a mini-program's cloud
    /// invoke adds `userInfo` and others.
    ///
    /// # Errors
    /// [`Invalid`] names the first field that breaks its rule, or the whole by its name: `event` or `body`.
    pub fn from_json(event: &str, name: &'static str) -> Result<Self, Invalid> {
        event::parse(event, name)
    }
}

/// A field of the event that is missing or breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The field, in WeChat Pay's spelling; `event` or `body` when that is no order at all.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
    /// The sub-merchant, for the log, if the event has a valid one.
    pub sub_mch_id: Option<SubMchId>,
    /// The order number, for the log, if the event has a valid one.
    pub out_trade_no: Option<OutTradeNo>,
}

/// What can be wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The event is no JSON object.
    NotAnObject,
    /// The HTTP request is no POST.
    NotPost,
    /// The HTTP body is not what its `isBase64Encoded` says it is.
    NotBase64,
    /// A required field is absent.
    Missing,
    /// The value is no JSON string.
    NotAString,
    /// The field is there twice, with different values.
    Contradiction,
    /// The value breaks the field's rule.
    Rule(Rule),
}

/// A field's rule in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For `returnMsg`.
    pub zh: &'static str,
    /// For `errMsg`.
    pub en: &'static str,
}

impl Invalid {
    /// A problem of a field, with nothing known of the order it belongs to.
    #[must_use]
    pub fn new(field: &'static str, problem: Problem) -> Self {
        Self { field, problem, sub_mch_id: None, out_trade_no: None }
    }

    /// The field and its rule in Chinese.
    #[must_use]
    pub fn in_chinese(&self) -> String {
        let problem = match self.problem {
            Problem::NotAnObject => "须为含有 sub_mch_id 和 out_trade_no 的JSON对象",
            Problem::NotPost => "请使用post方法",
            Problem::NotBase64 => "不是有效的Base64编码UTF-8文本",
            Problem::Missing => "必填",
            Problem::NotAString => "须为字符串,数字会丢失精度",
            Problem::Contradiction => "两种写法的值不一致",
            Problem::Rule(rule) => rule.zh,
        };
        format!("{} {problem}", self.field)
    }
}

/// The field and its rule in English.
impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::NotAnObject => "must be a JSON object with sub_mch_id and out_trade_no",
            Problem::NotPost => "must be POST",
            Problem::NotBase64 => "must be UTF-8 text in Base64, as isBase64Encoded says",
            Problem::Missing => "is required",
            Problem::NotAString => "must be a JSON string (a number would lose digits)",
            Problem::Contradiction => "is given in two spellings that differ",
            Problem::Rule(rule) => rule.en,
        };
        write!(f, "{} {problem}", self.field)
    }
}

impl std::error::Error for Invalid {}
