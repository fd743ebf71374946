//! What the caller gets: WeChat Pay's reply as JSON in the form of `cloud.cloudPay.closeOrder()`, or a fault, with the
//! `outcome` in either.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    fault::Fault,
    outcome::Outcome,
    wechat_pay::{Fields, Reply, ReplyCode, Request},
};

/// Fields of a query's reply that an answer passes on; nothing that identifies the payer is among them.
const QUERY_FIELDS: [&str; 8] =
    ["trade_state", "trade_state_desc", "trade_type", "transaction_id", "total_fee", "fee_type", "time_end", "attach"];

/// Names that have a meaning of their own in every answer: no field of the wire may set them.
const RESERVED: [&str; 7] = ["errCode", "errMsg", "returnCode", "returnMsg", "outcome", "out_trade_no", "outTradeNo"];

/// The answer to one order.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What became of the order.
    pub outcome: Outcome,
    /// What WeChat Pay said, or why there is nothing that it said.
    pub result: Result<Replied, Fault>,
}

/// An answer that WeChat Pay's replies gave.
#[derive(Clone)]
pub struct Replied {
    fields: Fields,
    /// Why the order is not simply closed: WeChat Pay's `err_code`, or what an unsigned FAIL was about.
    reason: Option<String>,
    /// The merchant whose key signed the request.
    pub mch_id: String,
    /// The sub-merchant that was sent.
    pub sub_mch_id: Option<String>,
    /// The order's number.
    pub out_trade_no: String,
}

/// What a query has shown, as closeorder itself would have said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownByQuery {
    /// ORDERCLOSED.
    Closed,
    /// ORDERPAID.
    Paid,
    /// ORDERNOTEXIST.
    NotFound,
    /// ORDERNOTCLOSED: ours, WeChat Pay does not have it.
    Open,
}

impl ShownByQuery {
    /// The `err_code` of an answer that says so.
    #[must_use]
    pub fn err_code(self) -> &'static str {
        match self {
            Self::Closed => "ORDERCLOSED",
            Self::Paid => "ORDERPAID",
            Self::NotFound => "ORDERNOTEXIST",
            Self::Open => "ORDERNOTCLOSED",
        }
    }

    fn err_code_des(self) -> &'static str {
        match self {
            Self::Closed => "查单结果:订单已关闭",
            Self::Paid => "查单结果:订单已支付",
            Self::NotFound => "查单结果:订单不存在",
            Self::Open => "查单结果:订单未关闭,仍可支付",
        }
    }
}

impl Answer {
    /// A fault, with the outcome that it has by itself.
    #[must_use]
    pub fn fault(fault: Fault) -> Self {
        Self { outcome: fault.outcome(), result: Err(fault) }
    }

    /// Closeorder's reply as it came, with a query's fields if there was one that it does not contradict.
    #[must_use]
    pub fn reply(outcome: Outcome, reply: &Reply, query: Option<&Reply>, request: &Request<'_>) -> Self {
        let reason = match reply.get("err_code") {
            _ if !reply.is_signed() => Some(match reply.code() {
                ReplyCode::SignatureRejected => "signature".to_owned(),
                _ => "unsigned_fail".to_owned(),
            }),
            None => None,
            Some(err_code) => (reply.get("result_code") == Some("FAIL")).then(|| err_code.to_owned()),
        };
        Self::replied(outcome, reply.fields().clone(), reason, query, request)
    }

    /// The answer that closeorder gives for what a query has shown, so that callers who only know CloudPay act rightly.
    /// It has no `sign` and no `nonce_str`: those of a reply would not fit it.
    #[must_use]
    pub fn shown_by_query(outcome: Outcome, shown: ShownByQuery, query: Option<&Reply>, request: &Request<'_>) -> Self {
        let merchant = request.merchant();
        let fields = [
            ("return_code", Some("SUCCESS")),
            ("return_msg", Some("OK")),
            ("result_code", Some("FAIL")),
            ("err_code", Some(shown.err_code())),
            ("err_code_des", Some(shown.err_code_des())),
            ("appid", Some(merchant.appid())),
            ("mch_id", Some(merchant.mch_id())),
            ("sub_appid", request.sub_appid()),
            ("sub_mch_id", request.sub_mch_id()),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        Self::replied(outcome, fields.collect(), Some(shown.err_code().to_owned()), query, request)
    }

    fn replied(
        outcome: Outcome,
        mut fields: Fields,
        reason: Option<String>,
        query: Option<&Reply>,
        request: &Request<'_>,
    ) -> Self {
        let added = QUERY_FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), query?.get(name)?.to_owned())));
        fields.extend(added);
        let replied = Replied {
            fields,
            reason,
            mch_id: request.merchant().mch_id().to_owned(),
            sub_mch_id: request.sub_mch_id().map(str::to_owned),
            out_trade_no: request.out_trade_no().to_owned(),
        };
        Self { outcome, result: Ok(replied) }
    }

    /// The log's `reason`.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match &self.result {
            Ok(replied) => replied.reason.as_deref(),
            Err(fault) => Some(fault.reason()),
        }
    }
}

/// Either form is one flat object: `errCode` is a number, all else text.
impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("outcome", self.outcome.as_str())?;
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
        self.fields.get(name).map(String::as_str)
    }

    /// The fields under their documented names and, where it differs, under the name that wx-server-sdk gives them, with
    /// the `errMsg` that it adds to every answered call.
    fn json_fields(&self) -> BTreeMap<Cow<'_, str>, &str> {
        let mut json = BTreeMap::from([
            ("errMsg".into(), "cloudPay.closeOrder:ok"),
            ("out_trade_no".into(), self.out_trade_no.as_str()),
            ("outTradeNo".into(), self.out_trade_no.as_str()),
        ]);
        for (name, documented) in [("return_code", "returnCode"), ("return_msg", "returnMsg")] {
            json.extend(self.get(name).map(|value| (documented.into(), value)));
        }
        let is_free = |name: &str| !matches!(name, "return_code" | "return_msg") && !RESERVED.contains(&name);
        for (name, value) in self.fields.iter().filter(|(name, _)| is_free(name)) {
            json.insert(name.into(), value);
        }
        // A field that has an alias's name by itself keeps it.
        for (name, value) in &self.fields {
            let alias = camel_case(name);
            if is_free(&alias) {
                json.entry(alias.into()).or_insert(value);
            }
        }
        json
    }
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
    use super::camel_case;

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
