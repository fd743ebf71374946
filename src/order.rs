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

use crate::wechat_pay::{MchType, Merchant};

/// An order to close, every field within WeChat Pay's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The sub-merchant (特约商户) whose order it is; a partner's orders need one, see [`Order::check_for`].
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
    /// Parses an event of any JSON shape; a byte order mark before it and fields that are not an order's are ignored,
    /// since a mini-program's cloud invoke adds `userInfo` and others. `name` is what an error calls the whole: `event`
    /// or `body`.
    ///
    /// # Errors
    /// [`Invalid`] names the first field that breaks its rule, or the whole.
    pub fn from_json(event: &str, name: &'static str) -> Result<Self, Invalid> {
        event::parse(event, name)
    }

    /// Checks what depends on the kind of merchant, and so on the secret.
    ///
    /// # Errors
    /// [`Invalid`] when a partner's order has no `sub_mch_id`, or an ordinary merchant's names another merchant.
    pub fn check_for(&self, merchant: &Merchant) -> Result<(), Invalid> {
        let sub_mch_id = self.sub_mch_id.as_ref().map(SubMchId::as_str);
        let sub_appid = self.sub_appid.as_ref().map(SubAppid::as_str);
        let broken = match merchant.mch_type() {
            MchType::Partner if sub_mch_id.is_none() => Some((SubMchId::NAME, Problem::MISSING)),
            MchType::Merchant if sub_mch_id.is_some_and(|sub_mch_id| sub_mch_id != merchant.mch_id()) => {
                let zh = "普通商户请不填,或填本商户的mch_id";
                let en = "must be left out, or be the merchant's own mch_id: the secret is an ordinary merchant's";
                Some((SubMchId::NAME, Problem { zh, en }))
            }
            MchType::Merchant if sub_appid.is_some_and(|sub_appid| sub_appid != merchant.appid()) => {
                let zh = "普通商户请不填,或填本商户的appid";
                let en = "must be left out, or be the merchant's own appid: the secret is an ordinary merchant's";
                Some((SubAppid::NAME, Problem { zh, en }))
            }
            MchType::Partner | MchType::Merchant => None,
        };
        broken.map_or(Ok(()), |(field, problem)| Err(self.invalid(field, problem)))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merchant(mch_type: &str) -> Merchant {
        let secret = json!({
            "mch_type": mch_type, "appid": "wx8888888888888888", "mch_id": "1900000109", "api_key": "k".repeat(32),
        });
        Merchant::from_secret(secret.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_a_kind_of_merchant_may_send_is_checked_against_the_secret() {
        let own = ("1900000109", "wx8888888888888888");
        for (mch_type, sub_mch_id, sub_appid, expected) in [
            ("partner", None, None, Some("sub_mch_id 必填")),
            ("partner", None, Some(own.1), Some("sub_mch_id 必填")),
            ("partner", Some("1900000110"), None, None),
            ("partner", Some("1900000110"), Some("wx1"), None),
            ("merchant", None, None, None),
            ("merchant", Some(own.0), Some(own.1), None),
            ("merchant", Some("1900000110"), None, Some("sub_mch_id 普通商户请不填,或填本商户的mch_id")),
            ("merchant", None, Some("wx1"), Some("sub_appid 普通商户请不填,或填本商户的appid")),
        ] {
            let event = json!({"out_trade_no": "1", "sub_mch_id": sub_mch_id, "sub_appid": sub_appid});
            let order = Order::from_json(&event.to_string(), "event").unwrap();
            let checked = order.check_for(&merchant(mch_type)).map_err(|invalid| invalid.in_chinese());
            assert_eq!(checked.err().as_deref(), expected, "{mch_type} {event}");
        }
    }
}
