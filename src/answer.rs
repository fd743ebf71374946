//! What the caller gets: WeChat Pay's reply as JSON in the form of `cloud.cloudPay.closeOrder()`, or a fault, with the
//! `outcome` in either.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    fault::Fault,
    outcome::Outcome,
    wechat_pay::{Fields, OrderIds, Payment, Reply, ReplyCode},
};

/// Names that have a meaning of their own in every answer: no field of the wire may set them.
const RESERVED: [&str; 8] =
    ["errCode", "errMsg", "returnCode", "returnMsg", "outcome", "confirmed", "out_trade_no", "outTradeNo"];

/// Names that only a query's reply may set ([`Payment::NAMES`]), as wx-server-sdk gives them to its callers.
const PAYMENT_NAMES: [&str; 8] =
    ["tradeState", "tradeStateDesc", "tradeType", "transactionId", "totalFee", "feeType", "timeEnd", "attach"];

/// The answer to one order.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What became of the order.
    pub outcome: Outcome,
    /// Whether a verified query of this invocation said so.
    pub confirmed: bool,
    /// Whether the last request met WeChat Pay's rate limit.
    pub is_rate_limited: bool,
    /// What WeChat Pay said, or why there is nothing that it said.
    pub result: Result<Replied, Fault>,
}

/// An answer that WeChat Pay's replies gave.
#[derive(Clone)]
pub struct Replied {
    /// Closeorder's.
    fields: Fields,
    payment: Payment,
    /// Why the order is not simply closed: WeChat Pay's `err_code`, or what an unsigned reply was about.
    reason: Option<String>,
    /// The numbers that were sent.
    pub ids: OrderIds,
}

/// What a query has shown, as closeorder itself would have said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShownByQuery {
    /// ORDERCLOSED.
    Closed,
    /// ORDERPAID.
    Paid,
    /// ORDERNOTEXIST.
    NotFound,
    /// ORDERNOTCLOSED: ours, WeChat Pay does not have it.
    Open,
}

/// A failure in closeorder's form that closeorder itself did not reply with, so that callers who only know CloudPay act
/// rightly.
#[derive(Clone, Debug)]
pub(crate) struct BuiltReply {
    err_code: &'static str,
    err_code_des: Cow<'static, str>,
}

impl BuiltReply {
    /// What a query has shown.
    #[must_use]
    pub(crate) fn shown(shown: ShownByQuery) -> Self {
        let (err_code, err_code_des) = match shown {
            ShownByQuery::Closed => ("ORDERCLOSED", "查单结果:订单已关闭"),
            ShownByQuery::Paid => ("ORDERPAID", "查单结果:订单已支付"),
            ShownByQuery::NotFound => ("ORDERNOTEXIST", "查单结果:订单不存在"),
            ShownByQuery::Open => ("ORDERNOTCLOSED", "查单结果:订单未关闭,仍可支付"),
        };
        Self { err_code, err_code_des: err_code_des.into() }
    }

    /// NOTCONFIRMED, ours: what closeorder `said`, and that the query did not prove it, be it that it contradicts, shows no
    /// such order, or brought nothing.
    #[must_use]
    pub(crate) fn not_confirmed(said: &str, is_not_found: bool, query: &Payment) -> Self {
        let queried = match &query.trade_state {
            Some(trade_state) => format!("查单结果为{trade_state},两者不一致"),
            None if is_not_found => "查单返回ORDERNOTEXIST,两者不一致".to_owned(),
            None => "查单未得到有效结果".to_owned(),
        };
        let err_code_des = format!("关单返回{said},但{queried},关单结果未知,请查单或重新调用");
        Self { err_code: "NOTCONFIRMED", err_code_des: err_code_des.into() }
    }
}

impl Answer {
    /// A fault, with the outcome that it has by itself.
    #[must_use]
    pub fn fault(fault: Fault) -> Self {
        Self { outcome: fault.outcome(), confirmed: false, is_rate_limited: false, result: Err(fault) }
    }

    /// Closeorder's reply as it came, with what a query shows if there was one that it does not contradict.
    #[must_use]
    pub fn reply(outcome: Outcome, reply: &Reply, query: Payment, ids: OrderIds) -> Self {
        let reason = match reply.code() {
            ReplyCode::SignatureRejected if !reply.is_signed() => Some("signature".to_owned()),
            _ if !reply.is_signed() => Some("unsigned_fail".to_owned()),
            _ => reply.err_code().map(str::to_owned),
        };
        Self::replied(outcome, reply.fields().clone(), reason, query, ids)
    }

    /// An answer that is built here. It has no `sign` and no `nonce_str`: those of a reply would not fit it.
    #[must_use]
    pub(crate) fn built(outcome: Outcome, built: &BuiltReply, query: Payment, ids: OrderIds) -> Self {
        let fields = [
            ("return_code", Some("SUCCESS")),
            ("return_msg", Some("OK")),
            ("result_code", Some("FAIL")),
            ("err_code", Some(built.err_code)),
            ("err_code_des", Some(&built.err_code_des)),
            ("appid", ids.appid.as_deref()),
            ("mch_id", Some(&ids.mch_id)),
            ("sub_appid", ids.sub_appid.as_deref()),
            ("sub_mch_id", ids.sub_mch_id.as_deref()),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        Self::replied(outcome, fields.collect(), Some(built.err_code.to_owned()), query, ids)
    }

    fn replied(outcome: Outcome, fields: Fields, reason: Option<String>, payment: Payment, ids: OrderIds) -> Self {
        let result = Ok(Replied { fields, payment, reason, ids });
        Self { outcome, confirmed: false, is_rate_limited: false, result }
    }

    /// The log's `reason`.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match &self.result {
            _ if self.is_rate_limited => Some("rate_limited"),
            Ok(replied) => replied.reason.as_deref(),
            Err(fault) => Some(fault.reason()),
        }
    }
}

/// Either form is one flat object: `errCode` is a number, `confirmed` a boolean, all else text.
impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("outcome", self.outcome.as_str())?;
        map.serialize_entry("confirmed", &self.confirmed)?;
        match &self.result {
            Ok(replied) => {
                map.serialize_entry("errCode", &0)?;
                for (name, value) in replied.json_fields() {
                    map.serialize_entry(&name, value)?;
                }
            }
            Err(fault) => {
                map.serialize_entry("errCode", &fault.err_code())?;
                map.serialize_entry("returnCode", "FAIL")?;
                map.serialize_entry("returnMsg", &fault.return_msg(self.outcome))?;
                let err_msg = format!("cloudPay.closeOrder:fail {}", fault.message(self.outcome));
                map.serialize_entry("errMsg", &err_msg)?;
            }
        }
        map.end()
    }
}

impl Replied {
    /// The value of a field under its documented name, if it isn't empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let queried = self.payment.fields().find(|(it, _)| *it == name).map(|(_, value)| value);
        let closed = || self.fields.get(name).filter(|_| is_free(name)).map(String::as_str);
        queried.or_else(closed)
    }

    /// The fields under their documented names and, where it differs, under the name that wx-server-sdk gives them, with
    /// the `errMsg` that it adds to every answered call.
    fn json_fields(&self) -> BTreeMap<Cow<'_, str>, &str> {
        let mut json = BTreeMap::from([
            ("errMsg".into(), "cloudPay.closeOrder:ok"),
            ("out_trade_no".into(), self.ids.out_trade_no.as_str()),
            ("outTradeNo".into(), self.ids.out_trade_no.as_str()),
        ]);
        for (name, documented) in [("return_code", "returnCode"), ("return_msg", "returnMsg")] {
            json.extend(self.fields.get(name).map(|value| (documented.into(), value.as_str())));
        }
        for (name, value) in self.payment.fields() {
            json.insert(name.into(), value);
            json.insert(camel_case(name).into(), value);
        }
        let is_shown = |name: &str| !matches!(name, "return_code" | "return_msg") && is_free(name);
        for (name, value) in self.fields.iter().filter(|(name, _)| is_shown(name)) {
            json.insert(name.into(), value);
        }
        // A field that has an alias's name by itself keeps it.
        for (name, value) in self.fields.iter().filter(|(name, _)| is_shown(name)) {
            let alias = camel_case(name);
            if is_free(&alias) {
                json.entry(alias.into()).or_insert(value);
            }
        }
        json
    }
}

/// Whether a field of closeorder's reply may have a name.
fn is_free(name: &str) -> bool {
    !RESERVED.contains(&name) && !Payment::NAMES.contains(&name) && !PAYMENT_NAMES.contains(&name)
}

/// Without the fields: a signature is one of them.
impl std::fmt::Debug for Replied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replied").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// A name as wx-server-sdk gives it to its callers: `_[a-z]` becomes the upper-case letter.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        match word.chars().next().filter(char::is_ascii_lowercase) {
            Some(first) => {
                camel.push(first.to_ascii_uppercase());
                camel.extend(word.chars().skip(1));
            }
            None => camel.extend(["_", word]),
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::{Fields, OrderIds, PAYMENT_NAMES, Payment, Replied, camel_case};

    #[test]
    fn what_a_payment_was_is_told_by_a_query_alone() {
        let fields = Payment::NAMES.map(|name| (name.to_owned(), "closeorder's".to_owned()));
        let fields: Fields = fields.into_iter().chain([("err_code".to_owned(), "ORDERPAID".to_owned())]).collect();
        let payment = Payment { total_fee: Some("100".to_owned()), ..Payment::default() };
        let replied = Replied { fields, payment, reason: None, ids: OrderIds::default() };
        assert_eq!(replied.get("err_code"), Some("ORDERPAID"));
        for name in Payment::NAMES {
            assert_eq!(replied.get(name), (name == "total_fee").then_some("100"), "{name}");
        }
    }

    #[test]
    fn the_names_of_a_payment_are_those_of_wx_server_sdk() {
        assert_eq!(Payment::NAMES.map(camel_case), PAYMENT_NAMES);
    }

    #[test]
    fn names_become_camel_case_as_in_wx_server_sdk() {
        for (name, expected) in [
            ("mch_id", "mchId"),
            ("err_code_des", "errCodeDes"),
            ("coupon_id_0", "couponId_0"),
            ("appid", "appid"),
            ("trade_No", "trade_No"),
            ("a__b", "a_B"),
            ("_x", "X"),
            ("x_", "x_"),
        ] {
            assert_eq!(camel_case(name), expected, "{name}");
        }
    }
}
