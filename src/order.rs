//! The order to close: one newtype per field, parsed from JSON once and valid ever after.
//!
//! Both spellings of a name are accepted (`out_trade_no` as WeChat Pay writes it, `outTradeNo` as wx-server-sdk does),
//! since callers of CloudPay mix them. Numbers are rejected by field name: an `out_trade_no` can have more digits than a
//! JavaScript number holds, and a rounded one would close another order.

mod earliest;
mod event;
mod fields;

use std::{borrow::Cow, fmt, time::SystemTime};

pub use earliest::{CloseAt, TimeStart, Wait, WaitFor};
pub(crate) use event::{Name, field_of};
pub use fields::{MchId, NonceStr, OutTradeNo, SubAppid, SubMchId};

/// An order to close, every field within WeChat Pay's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The merchant whose order it is; a deployment for several merchants needs it.
    pub mch_id: Option<MchId>,
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
    /// When to close it, at the earliest; without it, now.
    pub close_at: Option<CloseAt>,
    /// Whether the outcome is to be proved by a query, if the caller says so.
    pub confirm: Option<bool>,
}

/// What identifies an order, as far as it is known and valid: for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownIds {
    /// The merchant.
    pub mch_id: Option<MchId>,
    /// The sub-merchant.
    pub sub_mch_id: Option<SubMchId>,
    /// The order number.
    pub out_trade_no: Option<OutTradeNo>,
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

    /// How long nothing may be sent yet: until the later of `close_at` and five minutes after `time_start`.
    ///
    /// # Errors
    /// [`Invalid`] when a time is further ahead than its rule allows: waiting would not help.
    pub fn wait(&self, now: SystemTime) -> Result<Option<Wait>, Invalid> {
        let too_far = |(field, problem)| self.invalid(field, problem);
        earliest::wait(self.time_start, self.close_at, now).map_err(too_far)
    }

    /// Its earliest time, whether or not it has come; `None` if it may be closed at any time.
    #[must_use]
    pub(crate) fn earliest(&self) -> Option<SystemTime> {
        earliest::earliest(self.time_start, self.close_at).map(|(time, _)| time)
    }

    /// What identifies it.
    #[must_use]
    pub fn ids(&self) -> KnownIds {
        KnownIds {
            mch_id: self.mch_id.clone(),
            sub_mch_id: self.sub_mch_id.clone(),
            out_trade_no: Some(self.out_trade_no.clone()),
        }
    }

    /// A problem with a field of this order, whatever the secret says.
    #[must_use]
    pub fn invalid(&self, field: &'static str, problem: Problem) -> Invalid {
        Invalid { field, problem, kind: InvalidKind::BrokenRule, ids: Box::new(self.ids()) }
    }

    /// A problem with a field of this order that another secret or setting would not have.
    #[must_use]
    pub(crate) fn contradicted(&self, field: &'static str, problem: Problem) -> Invalid {
        Invalid { kind: InvalidKind::Contradicted, ..self.invalid(field, problem) }
    }
}

/// Why an event or a body is not an order that can be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The field, in WeChat Pay's spelling; `event` or `body` for the whole.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
    /// Whether there is an order, and whether it would be invalid with any secret.
    pub(crate) kind: InvalidKind,
    /// Which order it is, for the log.
    pub ids: Box<KnownIds>,
}

/// What kind of invalid input it is. It decides which log line there is, and what a queue does with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidKind {
    /// There is no order number at the top level.
    NoOrder,
    /// A field breaks its own rule: no secret would make it valid.
    BrokenRule,
    /// The secret or the deployment's settings contradict a field: it may be these that are wrong.
    Contradicted,
}

/// The rule that a field breaks, in both languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// For `returnMsg`.
    pub zh: Cow<'static, str>,
    /// For `errMsg`.
    pub en: Cow<'static, str>,
}

impl Problem {
    /// A required field is absent.
    pub(crate) const MISSING: Self = Self::new("必填", "is required");
    /// The whole is not a JSON object.
    pub const NOT_AN_OBJECT: Self =
        Self::new("须为含有 out_trade_no 的JSON对象", "must be a JSON object with out_trade_no");
    /// The value is not a JSON string.
    pub(crate) const NOT_A_STRING: Self =
        Self::new("须为字符串,数字会丢失精度", "must be a JSON string (a number would lose digits)");
    /// The value is neither `true` nor `false`.
    pub(crate) const NOT_A_BOOLEAN: Self = Self::new("须为 true 或 false", "must be true or false");
    /// The field is there in both spellings, with different values.
    pub(crate) const CONTRADICTION: Self =
        Self::new("下划线与驼峰写法的值不一致", "is given in two spellings that differ");
    /// The field is there twice under the same name, with different values.
    pub(crate) const REPEATED: Self = Self::new("字段重复,且值不一致", "is given twice, with different values");

    /// A rule in both languages.
    #[must_use]
    pub const fn new(zh: &'static str, en: &'static str) -> Self {
        Self { zh: Cow::Borrowed(zh), en: Cow::Borrowed(en) }
    }
}

impl Invalid {
    /// A problem of what has no order in it.
    #[must_use]
    pub fn no_order(field: &'static str, problem: Problem) -> Self {
        Self { field, problem, kind: InvalidKind::NoOrder, ids: Box::default() }
    }

    /// The field and its rule in Chinese.
    #[must_use]
    pub(crate) fn in_chinese(&self) -> String {
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
