//! What is believed of WeChat Pay's answer, and how a believed reply reads as JSON.
//!
//! An order wrongly believed closed is paid twice, so a reply counts only when it proves itself: a flat document
//! ([`xml`](super::xml)) that says FAIL, which is never a sign that the order is closed, or one whose sign matches in
//! the algorithm that was *requested* (never one that the reply names or whose length fits) and that speaks of the
//! merchant who asked.

use std::{collections::BTreeSet, fmt};

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    CloseRequest,
    xml::{Fields, NotFlat},
};

/// A reply of WeChat Pay that has proved itself. As JSON it is what the caller gets.
#[derive(Clone)]
pub struct Reply {
    verdict: Verdict,
    fields: Fields,
}

/// What a reply says of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `result_code` SUCCESS.
    Closed,
    /// ORDERCLOSED: it was closed before; nothing is left to do.
    AlreadyClosed,
    /// ORDERPAID: treat it as paid.
    Paid,
    /// ORDERNOTEXIST: there is nothing to close.
    NotFound,
    /// SYSTEMERROR: WeChat Pay asks for another call.
    SystemError,
    /// SIGNERROR, or an unsigned FAIL that speaks of the sign: the key is wrong, or was changed.
    SignRefused,
    /// Any other refusal.
    Refused,
}

impl Verdict {
    /// The outcome in the log, which the stack's metrics count.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::AlreadyClosed => "already_closed",
            Self::Paid => "paid",
            Self::NotFound => "not_found",
            Self::SignRefused => "sign_refused",
            Self::SystemError | Self::Refused => "refused",
        }
    }
}

/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// It is no reply of WeChat Pay's: a proxy's page, a cut document. Another endpoint may do better.
    #[error("{0}")]
    NotAReply(&'static str),
    /// It is no flat document. Another endpoint may do better.
    #[error("{0}")]
    NotFlat(#[from] NotFlat),
    /// It is signed, but not with the key we hold: forged, or the key was changed.
    #[error("its sign does not match")]
    SignMismatch,
    /// It is WeChat Pay's, but about something else than was asked.
    #[error("its {0} is not the one that was sent")]
    NotOurs(&'static str),
}

impl Reply {
    /// Takes an answer's body for what it proves to be.
    ///
    /// # Errors
    /// [`Disbelief`] says which proof is lacking.
    pub fn believe(body: &[u8], request: &CloseRequest<'_>) -> Result<Self, Disbelief> {
        let fields = Fields::parse(body)?;
        match fields.get("return_code") {
            Some("FAIL") => Self::unsigned(fields),
            Some("SUCCESS") => Self::signed(fields, request),
            _ => Err(Disbelief::NotAReply("its return_code is neither SUCCESS nor FAIL")),
        }
    }

    /// A FAIL is unsigned: nobody's word, so nothing in it may speak of the order. WeChat Pay sends `return_msg` with it
    /// and hardly anything else.
    fn unsigned(mut fields: Fields) -> Result<Self, Disbelief> {
        let return_msg = fields.get("return_msg").ok_or(Disbelief::NotAReply("it is a FAIL without return_msg"))?;
        let verdict = if return_msg.contains("签名") { Verdict::SignRefused } else { Verdict::Refused };
        let mut alias = String::new();
        fields.retain(|name| {
            let name = if camel_case(name, &mut alias) { alias.as_str() } else { name };
            !matches!(name, "resultCode" | "resultMsg" | "errCode" | "errCodeDes")
        });
        Ok(Self { verdict, fields })
    }

    fn signed(fields: Fields, request: &CloseRequest<'_>) -> Result<Self, Disbelief> {
        let sign = fields.get("sign").ok_or(Disbelief::NotAReply("it is a SUCCESS without a sign"))?;
        if !request.merchant().sign(fields.iter()).matches(sign) {
            return Err(Disbelief::SignMismatch);
        }
        let is_success = match fields.get("result_code") {
            Some("SUCCESS") => true,
            Some("FAIL") => false,
            _ => return Err(Disbelief::NotOurs("result_code")),
        };
        for (name, sent, is_required) in [
            ("appid", Some(request.merchant().appid()), is_success),
            ("mch_id", Some(request.merchant().mch_id()), is_success),
            ("sub_mch_id", Some(request.sub_mch_id()), is_success),
            ("sub_appid", request.sub_appid(), false),
        ] {
            // What was not sent can't be compared: a `sub_appid` can come from the order itself.
            if let Some(sent) = sent {
                let is_ours = fields.get(name).map_or(!is_required, |received| received == sent);
                if !is_ours {
                    return Err(Disbelief::NotOurs(name));
                }
            }
        }
        let verdict = if is_success {
            Verdict::Closed
        } else {
            match fields.get("err_code") {
                Some("ORDERCLOSED") => Verdict::AlreadyClosed,
                Some("ORDERPAID") => Verdict::Paid,
                Some("ORDERNOTEXIST") => Verdict::NotFound,
                Some("SYSTEMERROR") => Verdict::SystemError,
                Some("SIGNERROR") => Verdict::SignRefused,
                _ => Verdict::Refused,
            }
        };
        Ok(Self { verdict, fields })
    }

    /// What the reply says of the order.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// WeChat Pay's own code, such as ORDERPAID, of a signed reply.
    #[must_use]
    pub fn err_code(&self) -> Option<&str> {
        self.fields.get("err_code")
    }
}

/// Without the fields: a sign is one of them.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("verdict", &self.verdict).finish_non_exhaustive()
    }
}

/// The fields under their documented names and, where it differs, under the name that wx-server-sdk gives them, with the
/// `errCode` and `errMsg` that it adds to every answered call.
impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // An alias has capitals. Where no name has any, as in every reply known, none can be in an alias's way.
        let names = || self.fields.iter().map(|(name, _)| name.to_owned());
        let mut used: Option<BTreeSet<String>> = self.fields.has_capitals().then(|| names().collect());
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("errCode", &0)?;
        map.serialize_entry("errMsg", "cloudPay.closeOrder:ok")?;
        let mut alias = String::with_capacity(32);
        for (name, value) in self.fields.iter() {
            let is_documented_in_camel_case = matches!(name, "return_code" | "return_msg");
            if !is_documented_in_camel_case && !is_taken(name) {
                map.serialize_entry(name, value)?;
            }
            if camel_case(name, &mut alias) {
                let is_free = !is_taken(&alias) && used.as_mut().is_none_or(|used| used.insert(alias.clone()));
                if is_documented_in_camel_case || is_free {
                    map.serialize_entry(&alias, value)?;
                }
            }
        }
        map.end()
    }
}

/// Names with a meaning of their own in every answer: no field of the wire may set them.
fn is_taken(name: &str) -> bool {
    matches!(name, "errCode" | "errMsg" | "returnCode" | "returnMsg")
}

/// Makes `alias` the name as wx-server-sdk hands it to its callers, `_[a-z]` become the upper-case letter, and says
/// whether that differs. A name is ASCII.
fn camel_case(name: &str, alias: &mut String) -> bool {
    alias.clear();
    // An array has it look at each letter; the search for a char is slower among so few.
    let mut words = name.split(['_']);
    alias.push_str(words.next().unwrap_or_default());
    for word in words {
        let mut letters = word.chars();
        if let Some(first) = letters.next().filter(char::is_ascii_lowercase) {
            alias.push(first.to_ascii_uppercase());
            alias.push_str(letters.as_str());
        } else {
            alias.push('_');
            alias.push_str(word);
        }
    }
    alias.len() < name.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        merchant::Merchant,
        order::Order,
        wechat_pay::{sign::SignType, xml},
    };

    const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

    fn merchant(sign_type: &str) -> Merchant {
        let secret = json!({
            "appid": "wx8888888888888888", "mch_id": "1900000109", "api_key": KEY,
            "sub_appid": "wxd678efh567hg6787", "sign_type": sign_type,
        });
        Merchant::from_secret(&secret.to_string()).unwrap()
    }

    fn order() -> Order {
        Order::from_json(r#"{"sub_mch_id": "1900000110", "out_trade_no": "1"}"#, "event").unwrap()
    }

    type Wire = BTreeMap<&'static str, &'static str>;

    fn closed() -> Wire {
        BTreeMap::from([
            ("return_code", "SUCCESS"),
            ("return_msg", "OK"),
            ("appid", "wx8888888888888888"),
            ("mch_id", "1900000109"),
            ("sub_appid", "wxd678efh567hg6787"),
            ("sub_mch_id", "1900000110"),
            ("nonce_str", "BFK89FC6rxKCOjLX"),
            ("result_code", "SUCCESS"),
            ("result_msg", "OK"),
        ])
    }

    fn with(name: &'static str, value: &'static str) -> Wire {
        let mut fields = closed();
        fields.insert(name, value);
        fields
    }

    fn refused(err_code: &'static str) -> Wire {
        let mut fields = with("result_code", "FAIL");
        fields.extend([("err_code", err_code), ("err_code_des", "描述")]);
        fields
    }

    fn signed(fields: &Wire, sign_type: SignType) -> String {
        let fields = fields.iter().map(|(name, value)| (*name, *value));
        let sign = sign_type.sign(&KEY.into(), fields.clone());
        xml::write(fields.chain([("sign", sign.as_str())]))
    }

    fn believe(document: &str) -> Result<Reply, Disbelief> {
        Reply::believe(document.as_bytes(), &CloseRequest::new(&order(), &merchant("MD5")))
    }

    fn verdict(fields: &Wire) -> Result<Verdict, Disbelief> {
        believe(&signed(fields, SignType::Md5)).map(|reply| reply.verdict())
    }

    fn json(document: &str) -> Value {
        serde_json::to_value(believe(document).unwrap()).unwrap()
    }

    #[test]
    fn a_signed_reply_is_believed_whatever_it_says() {
        assert_eq!(verdict(&closed()), Ok(Verdict::Closed));
        for (err_code, expected) in [
            ("ORDERCLOSED", Verdict::AlreadyClosed),
            ("ORDERPAID", Verdict::Paid),
            ("ORDERNOTEXIST", Verdict::NotFound),
            ("SYSTEMERROR", Verdict::SystemError),
            ("SIGNERROR", Verdict::SignRefused),
            ("FREQUENCY_LIMITED", Verdict::Refused),
            ("", Verdict::Refused),
        ] {
            assert_eq!(verdict(&refused(err_code)), Ok(expected), "{err_code}");
        }
    }

    #[test]
    fn debug_shows_no_sign() {
        let reply = believe(&signed(&closed(), SignType::Md5)).unwrap();
        assert_eq!(format!("{reply:?}"), "Reply { verdict: Closed, .. }");
    }

    #[test]
    fn an_err_code_does_not_make_a_success_a_failure_nor_the_other_way_round() {
        assert_eq!(verdict(&with("err_code", "ORDERPAID")), Ok(Verdict::Closed));
        assert_eq!(verdict(&refused("SUCCESS")), Ok(Verdict::Refused));
    }

    #[test]
    fn a_sign_must_be_in_the_algorithm_that_was_requested() {
        for (requested, answered, expected) in [
            ("MD5", SignType::Md5, Ok(Verdict::Closed)),
            ("HMAC-SHA256", SignType::HmacSha256, Ok(Verdict::Closed)),
            ("MD5", SignType::HmacSha256, Err(Disbelief::SignMismatch)),
            ("HMAC-SHA256", SignType::Md5, Err(Disbelief::SignMismatch)),
        ] {
            for fields in [closed(), with("sign_type", "MD5"), with("sign_type", "HMAC-SHA256")] {
                let document = signed(&fields, answered);
                let (order, merchant) = (order(), merchant(requested));
                let reply = Reply::believe(document.as_bytes(), &CloseRequest::new(&order, &merchant));
                assert_eq!(reply.map(|reply| reply.verdict()), expected, "{requested} {answered:?}");
            }
        }
    }

    #[test]
    fn a_reply_whose_sign_is_missing_empty_or_another_s_is_not_believed() {
        let document = signed(&closed(), SignType::Md5);
        let start = document.find("<sign>").unwrap() + "<sign>".len();
        let end = document.find("</sign>").unwrap();
        let with_sign = |sign: &str| format!("{}{sign}{}", &document[..start], &document[end..]);
        assert!(believe(&with_sign(&document[start..end])).is_ok());
        for (sign, why) in [
            ("", Disbelief::NotAReply("it is a SUCCESS without a sign")),
            ("C380BEC2BFD727A4B6845133519F3AD6", Disbelief::SignMismatch),
            (&document[start..end].to_lowercase(), Disbelief::SignMismatch),
            (&document[start..end - 1], Disbelief::SignMismatch),
        ] {
            assert_eq!(believe(&with_sign(sign)).unwrap_err(), why, "{sign}");
        }
        let without = document.replace(&document[start - "<sign>".len()..end + "</sign>".len()], "");
        assert_eq!(believe(&without).unwrap_err(), Disbelief::NotAReply("it is a SUCCESS without a sign"));
    }

    #[test]
    fn a_signed_reply_about_something_else_is_not_believed() {
        for (name, other) in [
            ("appid", "wx8888888888888889"),
            ("mch_id", "1900000110"),
            ("sub_mch_id", "1900000109"),
            ("sub_appid", "wx8888888888888888"),
        ] {
            assert_eq!(verdict(&with(name, other)), Err(Disbelief::NotOurs(name)));
            let mut error = refused("ORDERPAID");
            error.insert(name, other);
            assert_eq!(verdict(&error), Err(Disbelief::NotOurs(name)));
        }
        assert_eq!(verdict(&with("result_code", "success")), Err(Disbelief::NotOurs("result_code")));
        assert_eq!(verdict(&with("result_code", "")), Err(Disbelief::NotOurs("result_code")));
    }

    #[test]
    fn a_success_must_name_who_asked_and_an_error_may_leave_it_out() {
        for (name, is_required) in [("appid", true), ("mch_id", true), ("sub_mch_id", true), ("sub_appid", false)] {
            let expected = if is_required { Err(Disbelief::NotOurs(name)) } else { Ok(Verdict::Closed) };
            assert_eq!(verdict(&with(name, "")), expected, "{name}");
            let mut error = refused("ORDERPAID");
            error.remove(name);
            assert_eq!(verdict(&error), Ok(Verdict::Paid), "{name}");
        }
    }

    #[test]
    fn a_sub_appid_that_was_not_sent_is_not_compared() {
        let secret = json!({"appid": "wx8888888888888888", "mch_id": "1900000109", "api_key": KEY});
        let merchant = Merchant::from_secret(&secret.to_string()).unwrap();
        let order = order();
        let believe = |fields: &Wire| {
            let document = signed(fields, SignType::Md5);
            Reply::believe(document.as_bytes(), &CloseRequest::new(&order, &merchant)).map(|reply| reply.verdict())
        };
        assert_eq!(believe(&closed()), Ok(Verdict::Closed));
        assert_eq!(believe(&with("sub_appid", "")), Ok(Verdict::Closed));
    }

    #[test]
    fn an_unsigned_fail_is_an_error_and_nothing_in_it_says_that_the_order_is_closed() {
        for (return_msg, expected) in [("签名错误", Verdict::SignRefused), ("appid不存在", Verdict::Refused)] {
            let document = xml::write(
                [
                    ("return_code", "FAIL"),
                    ("return_msg", return_msg),
                    ("result_code", "SUCCESS"),
                    ("resultCode", "SUCCESS"),
                    ("err_code", "ORDERCLOSED"),
                    ("retcode", "1"),
                ]
                .into_iter(),
            );
            assert_eq!(believe(&document).unwrap().verdict(), expected);
            let expected = json!({
                "returnCode": "FAIL", "returnMsg": return_msg, "retcode": "1",
                "errCode": 0, "errMsg": "cloudPay.closeOrder:ok",
            });
            assert_eq!(json(&document), expected);
        }
        for empty in
            ["<xml><return_code>FAIL</return_code></xml>", "<xml><return_code>FAIL</return_code><return_msg/></xml>"]
        {
            assert_eq!(believe(empty).unwrap_err(), Disbelief::NotAReply("it is a FAIL without return_msg"));
        }
    }

    #[test]
    fn what_has_no_return_code_is_no_reply() {
        for document in ["<xml/>", "<xml><return_code/></xml>", "<xml><return_code>OK</return_code></xml>"] {
            assert!(matches!(believe(document), Err(Disbelief::NotAReply(_))), "{document}");
        }
        assert_eq!(believe("<html/>").unwrap_err(), Disbelief::NotFlat(NotFlat::Root));
    }

    #[test]
    fn a_reply_reads_in_both_spellings() {
        let mut fields = refused("ORDERPAID");
        fields.extend([("device_info", ""), ("coupon_id_0", "c"), ("future_field", "x"), ("trade_No", "t")]);
        let mut reply = json(&signed(&fields, SignType::Md5));
        let sign = reply.as_object_mut().unwrap().remove("sign").unwrap();
        assert_eq!(sign.as_str().unwrap().len(), 32);
        let expected = json!({
            "returnCode": "SUCCESS", "returnMsg": "OK", "errCode": 0, "errMsg": "cloudPay.closeOrder:ok",
            "appid": "wx8888888888888888",
            "mch_id": "1900000109", "mchId": "1900000109",
            "sub_appid": "wxd678efh567hg6787", "subAppid": "wxd678efh567hg6787",
            "sub_mch_id": "1900000110", "subMchId": "1900000110",
            "nonce_str": "BFK89FC6rxKCOjLX", "nonceStr": "BFK89FC6rxKCOjLX",
            "result_code": "FAIL", "resultCode": "FAIL",
            "result_msg": "OK", "resultMsg": "OK",
            "err_code": "ORDERPAID",
            "err_code_des": "描述", "errCodeDes": "描述",
            "coupon_id_0": "c", "couponId_0": "c",
            "future_field": "x", "futureField": "x",
            "trade_No": "t",
        });
        assert_eq!(reply, expected);
    }

    #[test]
    fn no_field_of_the_wire_takes_the_place_of_another_s_name() {
        let mut fields = closed();
        fields.extend([
            ("a_b_c", "4"),
            ("a_bC", "5"),
            ("errCode", "1"),
            ("errMsg", "2"),
            ("err_msg", "3"),
            ("returnCode", "FAIL"),
            ("resultCode", "FAIL"),
        ]);
        let document = signed(&fields, SignType::Md5);
        let text = serde_json::to_string(&believe(&document).unwrap()).unwrap();
        let reply = json(&document);
        assert_eq!(reply["errCode"], 0);
        assert_eq!(reply["errMsg"], "cloudPay.closeOrder:ok");
        assert_eq!(reply["err_msg"], "3");
        assert_eq!(reply["returnCode"], "SUCCESS");
        assert_eq!((&reply["result_code"], &reply["resultCode"]), (&json!("SUCCESS"), &json!("FAIL")));
        for name in reply.as_object().unwrap().keys() {
            assert_eq!(text.matches(&format!("\"{name}\":")).count(), 1, "{name} is there once");
        }
    }
}
