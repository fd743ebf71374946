//! The order to close: one newtype per field, parsed from JSON once and valid ever after.
//!
//! Both spellings of a name are accepted (`out_trade_no` as WeChat Pay writes it, `outTradeNo` as wx-server-sdk does),
//! since callers of CloudPay mix them. Numbers are rejected by field name: an `out_trade_no` can have more digits than a
//! JavaScript number holds, and a rounded one would close another order.

mod age;
mod event;
mod fields;

use std::fmt;

pub use age::{Age, TimeStart};
pub use fields::{NonceStr, OutTradeNo, SubAppid, SubMchId};

/// An order to close, every field within WeChat Pay's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The sub-merchant (特约商户) whose order it is; a partner's orders need one.
    pub sub_mch_id: Option<SubMchId>,
    /// The merchant's own order number.
    pub out_trade_no: OutTradeNo,
    /// The request's random string: the caller's, or 32 characters from the operating system's randomness.
    pub nonce_str: NonceStr,
    /// The mini-program's appid, if the caller names one; otherwise the secret's is sent.
    pub sub_appid: Option<SubAppid>,
    /// When the order was created; without it, the age is not checked.
    pub time_start: Option<TimeStart>,
    /// Whether the outcome is to be proved by a query, if the caller says so.
    pub confirm: Option<bool>,
}

impl Order {
    /// Parses an event of any JSON shape; fields that are not an order's are ignored, since a mini-program's cloud invoke
    /// adds `userInfo` and others. `name` is what an error calls the whole: `event`
    /// or `body`.
    ///
    /// # Errors
    /// [`Invalid`] names the first field that breaks its rule, or the whole.
    pub fn from_json(event: &str, name: &'static str) -> Result<Self, Invalid> {
        event::parse(event, name)
    }

    /// A problem with a field of this order.
    #[must_use]
    pub fn invalid(&self, field: &'static str, problem: Problem) -> Invalid {
        let (sub_mch_id, out_trade_no) = (self.sub_mch_id.clone(), Some(self.out_trade_no.clone()));
        Invalid { field, problem, sub_mch_id, out_trade_no }
    }
}

/// A field of the event that is missing or breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The field, in WeChat Pay's spelling; `event` or `body` for the whole.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
    /// The sub-merchant, for the log, if the event has a valid one.
    pub sub_mch_id: Option<SubMchId>,
    /// The order number, for the log, if the event has a valid one.
    pub out_trade_no: Option<OutTradeNo>,
}

/// The rule that a field breaks, in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// For `returnMsg`.
    pub zh: &'static str,
    /// For `errMsg`.
    pub en: &'static str,
}

impl Problem {
    /// A required field is absent.
    pub const MISSING: Self = Self { zh: "必填", en: "is required" };
    /// The whole is not a JSON object.
    pub const NOT_AN_OBJECT: Self = Self {
        zh: "须为含有 out_trade_no 的JSON对象",
        en: "must be a JSON object with out_trade_no (and sub_mch_id, for a service provider)",
    };
    /// The value is not a JSON string.
    pub const NOT_A_STRING: Self =
        Self { zh: "须为字符串,数字会丢失精度", en: "must be a JSON string (a number would lose digits)" };
    /// The value is neither `true` nor `false`.
    pub const NOT_A_BOOLEAN: Self = Self { zh: "须为 true 或 false", en: "must be true or false" };
    /// The field is there twice, with different values.
    pub const CONTRADICTION: Self =
        Self { zh: "下划线与驼峰写法的值不一致", en: "is given in two spellings that differ" };
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
        format!("{} {}", self.field, self.problem.zh)
    }
}

/// The field and its rule in English.
impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.problem.en)
    }
}

impl std::error::Error for Invalid {}
