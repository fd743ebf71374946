//! What counts as a reply over API v2.
//!
//! An order wrongly taken for closed is paid twice, so a reply counts only when it is verified: a flat document
//! ([`xml`]) that says FAIL, which never says that an order is closed, or one whose signature
//! matches in the algorithm that was *requested* (never one that the reply names or whose length fits) and that is about
//! what was asked: this merchant, this order, this call.

use super::{
    Key,
    xml::{self, is_name},
};
use crate::wechat_pay::{Call, Fields, MchType, OrderState, Payment, Reply, ReplyCode, Request, VerifyError};

/// Fields that only the replies of other calls have. A genuine reply of orderquery or unifiedorder also says
/// `result_code` SUCCESS; sent in place of closeorder's, it must not close an order.
const OTHER_CALLS: [&str; 6] = ["trade_state", "prepay_id", "code_url", "transaction_id", "refund_id", "out_refund_no"];

/// Takes a response's body for what it proves to be.
///
/// # Errors
/// [`VerifyError`] says which proof is lacking.
pub(in crate::wechat_pay) fn verify(body: &[u8], request: &Request<'_>, key: &Key) -> Result<Reply, VerifyError> {
    let fields = xml::parse(body)?;
    match fields.get("return_code").map(String::as_str) {
        Some("FAIL") => unsigned(fields),
        Some("SUCCESS") => signed(fields, request, key),
        _ => Err(VerifyError::not_a_reply("its return_code is neither SUCCESS nor FAIL")),
    }
}

/// A FAIL is unsigned, so anybody could have sent it: only its two fields are kept, and they say nothing of the order. Its
/// `err_code` may ask for another attempt.
fn unsigned(mut fields: Fields) -> Result<Reply, VerifyError> {
    let return_msg = fields.get("return_msg").ok_or(VerifyError::not_a_reply("it is a FAIL without return_msg"))?;
    let code = unsigned_code(return_msg, fields.get("err_code").map(String::as_str));
    fields.retain(|name, _| matches!(name.as_str(), "return_code" | "return_msg"));
    let (err_code, state, payment, replay_id) = (None, None, Payment::default(), None);
    Ok(Reply { code, is_signed: false, err_code, state, payment, fields, replay_id })
}

fn signed(fields: Fields, request: &Request<'_>, key: &Key) -> Result<Reply, VerifyError> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let sign = field("sign").ok_or(VerifyError::not_a_reply("it is a SUCCESS without a signature"))?;
    if !key.verifies(&fields, sign) {
        return Err(VerifyError::Signature);
    }
    let is_close = request.call == Call::CloseOrder;
    if let Some(name) = ambiguous_field(&fields, is_close) {
        return Err(VerifyError::Ambiguous(name.chars().take(64).collect()));
    }
    let is_success = match field("result_code") {
        Some("SUCCESS") => true,
        Some("FAIL") => false,
        Some(_) => return Err(VerifyError::NotThisCall("result_code")),
        None => return Err(VerifyError::Missing("result_code")),
    };
    let code = if is_success { ReplyCode::Success } else { signed_code(field("err_code").unwrap_or_default()) };
    let is_about_an_order = match code {
        ReplyCode::Success | ReplyCode::OrderNotExist => true,
        ReplyCode::OrderClosed | ReplyCode::OrderPaid => is_close,
        _ => false,
    };
    let merchant = request.merchant();
    let (sub_mch_id, sub_appid) = (request.sub_mch_id(), request.sub_appid());
    // An ordinary merchant's reply may name its own number.
    let own_number = (merchant.mch_type() == MchType::Merchant).then_some(merchant.mch_id());
    for (name, sent, is_required) in [
        ("appid", merchant.appid(), is_about_an_order),
        ("mch_id", Some(merchant.mch_id()), is_about_an_order),
        ("sub_mch_id", sub_mch_id.or(own_number), is_success && sub_mch_id.is_some()),
        ("sub_appid", sub_appid, false),
        ("out_trade_no", Some(request.out_trade_no()), is_success && !is_close),
    ] {
        match (sent, field(name)) {
            (Some(sent), Some(received)) if sent != received => return Err(VerifyError::NotOurs(name)),
            (Some(_), None) if is_required => return Err(VerifyError::Missing(name)),
            // What was not sent can't be compared: a `sub_appid` can come from the order itself.
            _ => {}
        }
    }
    if is_close {
        if let Some(name) = OTHER_CALLS.into_iter().find(|name| fields.contains_key(*name)) {
            return Err(VerifyError::NotThisCall(name));
        }
        if is_success && !matches!(field("err_code"), None | Some("0" | "OK" | "SUCCESS")) {
            return Err(VerifyError::NotThisCall("err_code"));
        }
    } else if is_success && field("trade_state").is_none() {
        return Err(VerifyError::Missing("trade_state"));
    }
    // Without a nonce, the replies to two orders may be the same in good faith.
    let replay_id = field("nonce_str").and(field("sign")).map(str::to_owned);
    let err_code = field("err_code").filter(|_| !is_success).map(str::to_owned);
    let payment = if is_close || !is_success { Payment::default() } else { payment(&fields) };
    let state = payment.trade_state.as_deref().map(OrderState::of);
    Ok(Reply { code, is_signed: true, err_code, state, payment, fields, replay_id })
}

/// The first field whose value could be read as several fields. The signed text is `k=v&k=v`, raw, and does not say where
/// a value ends: cut anew at another place, a genuine reply's text becomes another reply, and the signature still matches.
/// A query's `attach` may hold such a text, since the shop chose it; nothing that is read can be cut from it but
/// `fee_type` (see [`payment`]).
fn ambiguous_field(fields: &Fields, is_close: bool) -> Option<&str> {
    let holds_a_field = |value: &str| {
        let names = value.split('&').skip(1).filter_map(|part| part.split_once('=')).map(|(name, _)| name);
        names.into_iter().any(is_name)
    };
    let is_checked = |name: &str| name != "sign" && (is_close || name != "attach");
    fields.iter().find(|(name, value)| is_checked(name) && holds_a_field(value)).map(|(name, _)| name.as_str())
}

/// What a query's reply says of the payment. `fee_type` is left out where it could have been cut from `attach`: if that
/// holds an `&`, and if the order is not paid. (A paid order's reply has fields that are sorted between the two, so there a
/// cut would show.)
fn payment(fields: &Fields) -> Payment {
    let field = |name: &str| fields.get(name).cloned();
    let attach = field("attach");
    let trade_state = field("trade_state");
    let is_paid = trade_state.as_deref().map(OrderState::of) == Some(OrderState::Paid);
    let is_attach_harmless = attach.as_ref().is_none_or(|attach| is_paid && !attach.contains('&'));
    Payment {
        trade_state,
        trade_state_desc: field("trade_state_desc"),
        trade_type: field("trade_type"),
        transaction_id: field("transaction_id"),
        total_fee: field("total_fee"),
        fee_type: field("fee_type").filter(|_| is_attach_harmless),
        time_end: field("time_end"),
        attach,
    }
}

/// The rejections are WeChat Pay's documented error codes about the request itself
/// (<https://pay.weixin.qq.com/wiki/doc/api/jsapi_sl.php?chapter=9_3>).
fn signed_code(err_code: &str) -> ReplyCode {
    match err_code {
        "ORDERCLOSED" => ReplyCode::OrderClosed,
        "ORDERPAID" => ReplyCode::OrderPaid,
        "ORDERNOTEXIST" => ReplyCode::OrderNotExist,
        "USERPAYING" => ReplyCode::UserPaying,
        "TRADE_STATE_ERROR" => ReplyCode::TradeStateError,
        "FREQUENCY_LIMITED" => ReplyCode::FrequencyLimited,
        "SYSTEMERROR" => ReplyCode::SystemError,
        "SIGNERROR" => ReplyCode::SignatureRejected,
        "NOAUTH"
        | "LACK_PARAMS"
        | "PARAM_ERROR"
        | "POST_DATA_EMPTY"
        | "NOT_UTF8"
        | "APPID_NOT_EXIST"
        | "MCHID_NOT_EXIST"
        | "APPID_MCHID_NOT_MATCH"
        | "REQUIRE_POST_METHOD"
        | "XML_FORMAT_ERROR" => ReplyCode::Rejected,
        _ => ReplyCode::Other,
    }
}

/// The rate limit comes first: a text that speaks of it and of the system's load must not bring more load.
fn unsigned_code(return_msg: &str, err_code: Option<&str>) -> ReplyCode {
    let lower = return_msg.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["频率"]) {
        ReplyCode::RateLimited
    } else if has(&["签名", "sign error", "signature"]) {
        ReplyCode::SignatureRejected
    } else if has(&["系统", "system error"]) || err_code == Some("SYSTEMERROR") {
        ReplyCode::SystemError
    } else {
        ReplyCode::Rejected
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::*,
        sample::{select, subsequence},
    };
    use sandbox::mock::signed_xml::{sign, xml as document};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        order::Order,
        wechat_pay::{Account, Credentials},
    };

    const KEY: &str = "192006250b4c09247ec02edce69f6a2d";
    const ORDER: &str = "1217752501201407033233368018";

    fn verify(body: &[u8], request: &Request<'_>) -> Result<Reply, VerifyError> {
        let Credentials::V2(key) = &request.account.credentials else { unreachable!() };
        super::verify(body, request, key)
    }

    struct Case {
        account: Account,
        order: Order,
        sign_type: &'static str,
    }

    impl Case {
        fn new(mch_type: &str, sign_type: &'static str, sub_appid: Option<&str>) -> Self {
            let mut secret = json!({
                "mch_type": mch_type, "appid": "wx8888888888888888", "mch_id": "1900000109", "api_key": KEY,
                "sign_type": sign_type,
            });
            if let Some(sub_appid) = sub_appid {
                secret["sub_appid"] = json!(sub_appid);
            }
            let sub_mch_id = (mch_type == "partner").then_some("1900000110");
            let order = json!({"sub_mch_id": sub_mch_id, "out_trade_no": ORDER});
            Self {
                account: Account::from_secret(secret.to_string().as_bytes()).unwrap(),
                order: Order::from_json(&order.to_string(), "event").unwrap(),
                sign_type,
            }
        }

        fn close(&self, fields: &Fields) -> Result<ReplyCode, VerifyError> {
            self.verify(fields, &Request::close(&self.order, &self.account))
        }

        fn query(&self, fields: &Fields) -> Result<ReplyCode, VerifyError> {
            self.verify(fields, &Request::query(&self.order, &self.account))
        }

        /// Signs with the mock's own code, so that a mistake in the function's is not cancelled by itself.
        fn verify(&self, fields: &Fields, request: &Request<'_>) -> Result<ReplyCode, VerifyError> {
            let mut fields = fields.clone();
            if !fields.contains_key("sign") {
                fields.insert("sign".to_owned(), sign(&fields, KEY, self.sign_type));
            }
            verify(document(&fields).as_bytes(), request).map(|reply| reply.code())
        }
    }

    fn partner() -> Case {
        Case::new("partner", "MD5", None)
    }

    fn fields<const N: usize>(fields: [(&str, &str); N]) -> Fields {
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn closed() -> Fields {
        fields([
            ("return_code", "SUCCESS"),
            ("return_msg", "OK"),
            ("appid", "wx8888888888888888"),
            ("mch_id", "1900000109"),
            ("sub_mch_id", "1900000110"),
            ("nonce_str", "BFK89FC6rxKCOjLX"),
            ("result_code", "SUCCESS"),
            ("result_msg", "OK"),
        ])
    }

    fn queried(trade_state: &str) -> Fields {
        let mut fields = with(closed(), "trade_state", trade_state);
        fields.insert("out_trade_no".to_owned(), ORDER.to_owned());
        fields
    }

    fn with(mut fields: Fields, name: &str, value: &str) -> Fields {
        fields.insert(name.to_owned(), value.to_owned());
        fields
    }

    fn without(mut fields: Fields, name: &str) -> Fields {
        fields.remove(name);
        fields
    }

    fn failed(err_code: &str) -> Fields {
        with(with(closed(), "result_code", "FAIL"), "err_code", err_code)
    }

    /// The replies of `tests/vectors.json`, whose signatures were made with openssl.
    #[test]
    fn the_replies_of_the_vectors_are_verified() {
        let vectors: Vec<Value> = serde_json::from_str(include_str!("../../../tests/vectors.json")).unwrap();
        let mut codes = Vec::new();
        for vector in vectors.iter().filter(|vector| vector["params"]["return_code"] == "SUCCESS") {
            let name = vector["name"].as_str().unwrap();
            let params: Fields = serde_json::from_value(vector["params"].clone()).unwrap();
            let mch_type = if name.starts_with("ordinary") { "merchant" } else { "partner" };
            for sign_type in ["MD5", "HMAC-SHA256"] {
                let case = Case::new(mch_type, sign_type, None);
                let fields = with(params.clone(), "sign", vector[sign_type].as_str().unwrap());
                let code = if name.contains("orderquery") { case.query(&fields) } else { case.close(&fields) };
                codes.push(code.unwrap_or_else(|error| panic!("{name}: {error}")));
            }
        }
        assert_eq!(codes.len(), 18);
        assert!(codes.contains(&ReplyCode::OrderPaid) && codes.contains(&ReplyCode::OrderNotExist));
    }

    /// The reply of WeChat Pay's documentation of closeorder, as it stands there, with the signature that the published key
    /// of its signing example gives; the documentation's own key is not published.
    #[test]
    fn the_documentation_s_reply_is_verified_as_it_stands() {
        let secret =
            json!({"mch_type": "merchant", "appid": "wx2421b1c4370ec43b", "mch_id": "10000100", "api_key": KEY});
        let account = Account::from_secret(secret.to_string().as_bytes()).unwrap();
        let order = Order::from_json(r#"{"out_trade_no": "1217752501201407033233368018"}"#, "event").unwrap();
        let body = include_bytes!("../../../tests/fixtures/closeorder-reply.xml");
        let reply = verify(body, &Request::close(&order, &account)).unwrap();
        assert_eq!(
            (reply.code(), reply.fields().get("nonce_str").map(String::as_str)),
            (ReplyCode::Success, Some("BFK89FC6rxKCOjLX"))
        );
    }

    #[test]
    fn a_signed_reply_says_what_its_err_code_says() {
        assert_eq!(partner().close(&closed()), Ok(ReplyCode::Success));
        for (err_code, expected) in [
            ("ORDERCLOSED", ReplyCode::OrderClosed),
            ("ORDERPAID", ReplyCode::OrderPaid),
            ("ORDERNOTEXIST", ReplyCode::OrderNotExist),
            ("USERPAYING", ReplyCode::UserPaying),
            ("SYSTEMERROR", ReplyCode::SystemError),
            ("SIGNERROR", ReplyCode::SignatureRejected),
            ("NOAUTH", ReplyCode::Rejected),
            ("LACK_PARAMS", ReplyCode::Rejected),
            ("PARAM_ERROR", ReplyCode::Rejected),
            ("POST_DATA_EMPTY", ReplyCode::Rejected),
            ("NOT_UTF8", ReplyCode::Rejected),
            ("APPID_NOT_EXIST", ReplyCode::Rejected),
            ("MCHID_NOT_EXIST", ReplyCode::Rejected),
            ("APPID_MCHID_NOT_MATCH", ReplyCode::Rejected),
            ("REQUIRE_POST_METHOD", ReplyCode::Rejected),
            ("XML_FORMAT_ERROR", ReplyCode::Rejected),
            ("FREQUENCY_LIMITED", ReplyCode::FrequencyLimited),
            ("TRADE_STATE_ERROR", ReplyCode::TradeStateError),
            ("INVALID_REQUEST", ReplyCode::Other),
            ("SUCCESS", ReplyCode::Other),
            ("", ReplyCode::Other),
        ] {
            assert_eq!(partner().close(&failed(err_code)), Ok(expected), "{err_code}");
        }
    }

    #[test]
    fn an_unsigned_fail_says_what_its_text_says_and_keeps_two_fields() {
        for (return_msg, err_code, expected) in [
            ("签名错误", "", ReplyCode::SignatureRejected),
            ("Sign Error", "", ReplyCode::SignatureRejected),
            ("invalid SIGNATURE", "", ReplyCode::SignatureRejected),
            ("系统繁忙,请稍后再试", "", ReplyCode::SystemError),
            ("SYSTEM ERROR", "", ReplyCode::SystemError),
            ("失败", "SYSTEMERROR", ReplyCode::SystemError),
            ("调用频率超限,系统保护", "SYSTEMERROR", ReplyCode::RateLimited),
            ("商户号mch_id与appid不匹配", "", ReplyCode::Rejected),
            ("失败", "ORDERCLOSED", ReplyCode::Rejected),
        ] {
            let said = fields([
                ("return_code", "FAIL"),
                ("return_msg", return_msg),
                ("err_code", err_code),
                ("result_code", "SUCCESS"),
                ("RESULT_CODE", "SUCCESS"),
                ("resultcode", "SUCCESS"),
                ("trade_state", "CLOSED"),
            ]);
            let case = partner();
            let request = Request::close(&case.order, &case.account);
            let reply = verify(document(&said).as_bytes(), &request).unwrap();
            assert_eq!((reply.code(), reply.is_signed()), (expected, false), "{return_msg}");
            assert_eq!(*reply.fields(), fields([("return_code", "FAIL"), ("return_msg", return_msg)]));
        }
        for empty in
            ["<xml><return_code>FAIL</return_code></xml>", "<xml><return_code>FAIL</return_code><return_msg/></xml>"]
        {
            let case = partner();
            let verified = verify(empty.as_bytes(), &Request::close(&case.order, &case.account));
            assert_eq!(verified.unwrap_err(), VerifyError::not_a_reply("it is a FAIL without return_msg"));
        }
    }

    #[test]
    fn a_signature_must_be_in_the_algorithm_that_was_requested() {
        for (requested, replied, expected) in [
            ("MD5", "MD5", Ok(ReplyCode::Success)),
            ("HMAC-SHA256", "HMAC-SHA256", Ok(ReplyCode::Success)),
            ("MD5", "HMAC-SHA256", Err(VerifyError::Signature)),
            ("HMAC-SHA256", "MD5", Err(VerifyError::Signature)),
        ] {
            for reply in [closed(), with(closed(), "sign_type", "MD5"), with(closed(), "sign_type", "HMAC-SHA256")] {
                let signed = with(reply.clone(), "sign", &sign(&reply, KEY, replied));
                assert_eq!(Case::new("partner", requested, None).close(&signed), expected, "{requested} {replied}");
            }
        }
    }

    #[test]
    fn a_signature_that_is_missing_or_another_s_does_not_count() {
        let right = sign(&closed(), KEY, "MD5");
        for (signature, expected) in [
            (right.as_str(), Ok(ReplyCode::Success)),
            ("", Err(VerifyError::not_a_reply("it is a SUCCESS without a signature"))),
            ("C380BEC2BFD727A4B6845133519F3AD6", Err(VerifyError::Signature)),
            (&right.to_lowercase(), Err(VerifyError::Signature)),
            (&right[..31], Err(VerifyError::Signature)),
        ] {
            assert_eq!(partner().close(&with(closed(), "sign", signature)), expected, "{signature}");
        }
    }

    #[test]
    fn a_reply_about_something_else_does_not_count() {
        let case = Case::new("partner", "MD5", Some("wxd678efh567hg6787"));
        for (name, other) in [
            ("appid", "wx8888888888888889"),
            ("mch_id", "1900000110"),
            ("sub_mch_id", "1900000109"),
            ("sub_appid", "wx8888888888888888"),
            ("out_trade_no", "1"),
        ] {
            for reply in [closed(), failed("ORDERPAID"), failed("SYSTEMERROR")] {
                assert_eq!(case.close(&with(reply, name, other)), Err(VerifyError::NotOurs(name)));
            }
            assert_eq!(case.query(&with(queried("CLOSED"), name, other)), Err(VerifyError::NotOurs(name)));
        }
        assert_eq!(partner().close(&with(closed(), "sub_appid", "wx1")), Ok(ReplyCode::Success), "it was not sent");
    }

    #[test]
    fn what_settles_an_order_must_name_the_merchant() {
        for (reply, required) in [
            (closed(), ["appid", "mch_id", "sub_mch_id"].as_slice()),
            (failed("ORDERCLOSED"), &["appid", "mch_id"]),
            (failed("ORDERPAID"), &["appid", "mch_id"]),
            (failed("ORDERNOTEXIST"), &["appid", "mch_id"]),
            (failed("SYSTEMERROR"), &[]),
            (failed("FREQUENCY_LIMITED"), &[]),
        ] {
            for name in ["appid", "mch_id", "sub_mch_id"] {
                let verified = partner().close(&without(reply.clone(), name)).err();
                assert_eq!(verified, required.contains(&name).then_some(VerifyError::Missing(name)), "{reply:?}");
            }
        }
        for name in ["appid", "mch_id", "sub_mch_id", "trade_state", "out_trade_no"] {
            let verified = partner().query(&without(queried("CLOSED"), name));
            assert_eq!(verified, Err(VerifyError::Missing(name)));
        }
        for name in ["appid", "mch_id"] {
            let verified = partner().query(&without(failed("ORDERNOTEXIST"), name));
            assert_eq!(verified, Err(VerifyError::Missing(name)));
        }
    }

    #[test]
    fn an_ordinary_merchant_s_reply_names_no_other_sub_merchant() {
        let case = Case::new("merchant", "MD5", None);
        for (sub_mch_id, expected) in [
            ("", Ok(ReplyCode::Success)),
            ("1900000109", Ok(ReplyCode::Success)),
            ("1900000110", Err(VerifyError::NotOurs("sub_mch_id"))),
        ] {
            assert_eq!(case.close(&with(closed(), "sub_mch_id", sub_mch_id)), expected, "{sub_mch_id}");
            assert_eq!(case.query(&with(queried("CLOSED"), "sub_mch_id", sub_mch_id)), expected, "{sub_mch_id}");
        }
    }

    #[test]
    fn a_reply_of_another_call_closes_no_order() {
        for name in OTHER_CALLS {
            for reply in [closed(), failed("ORDERCLOSED")] {
                assert_eq!(partner().close(&with(reply, name, "x")), Err(VerifyError::NotThisCall(name)));
            }
            assert_eq!(partner().close(&with(closed(), name, "")), Ok(ReplyCode::Success), "an empty field is none");
        }
        for (err_code, expected) in [
            ("", Ok(ReplyCode::Success)),
            ("0", Ok(ReplyCode::Success)),
            ("OK", Ok(ReplyCode::Success)),
            ("SUCCESS", Ok(ReplyCode::Success)),
            ("ORDERPAID", Err(VerifyError::NotThisCall("err_code"))),
        ] {
            assert_eq!(partner().close(&with(closed(), "err_code", err_code)), expected, "{err_code}");
        }
        assert_eq!(
            partner().query(&closed()),
            Err(VerifyError::Missing("out_trade_no")),
            "a closeorder reply is not a query's"
        );
    }

    #[test]
    fn a_result_code_is_success_or_fail() {
        for (result_code, expected) in [
            ("success", VerifyError::NotThisCall("result_code")),
            ("OK", VerifyError::NotThisCall("result_code")),
            ("", VerifyError::Missing("result_code")),
        ] {
            assert_eq!(partner().close(&with(closed(), "result_code", result_code)), Err(expected));
        }
    }

    #[test]
    fn what_has_no_return_code_is_no_reply() {
        let case = partner();
        let verify = |body: &str| verify(body.as_bytes(), &Request::close(&case.order, &case.account)).unwrap_err();
        for body in ["<xml/>", "<xml><return_code/></xml>", "<xml><return_code>OK</return_code></xml>"] {
            assert!(matches!(verify(body), VerifyError::NotAReply(_)), "{body}");
        }
        assert_eq!(verify("<html/>"), VerifyError::not_a_reply("its root is not <xml>"));
    }

    /// The text that a signature covers.
    fn signed_text(fields: &Fields) -> String {
        let pairs = fields.iter().filter(|(name, value)| *name != "sign" && !value.is_empty());
        pairs.flat_map(|(name, value)| [name, "=", value, "&"]).collect()
    }

    /// A genuine reply with its signature, and another that is cut from the same text.
    fn assert_cut(genuine: &Fields, cut: &Fields, sign_type: &str) -> Fields {
        assert_eq!(signed_text(genuine), signed_text(cut), "a cut is of the same text");
        with(cut.clone(), "sign", &sign(genuine, KEY, sign_type))
    }

    fn paid() -> Fields {
        let facts = [("time_end", "20261128120000"), ("transaction_id", "4200001"), ("total_fee", "100")];
        facts.iter().fold(queried("SUCCESS"), |fields, (name, value)| with(fields, name, value))
    }

    #[test]
    fn a_genuine_reply_cut_anew_is_no_other_reply() {
        for sign_type in ["MD5", "HMAC-SHA256"] {
            for mch_type in ["partner", "merchant"] {
                let case = Case::new(mch_type, sign_type, None);
                let own = |mut fields: Fields| {
                    if mch_type == "merchant" {
                        fields.remove("sub_mch_id");
                    }
                    fields
                };
                // A paid order's query as closeorder's SUCCESS: one value swallows all that a close's reply must not have.
                let genuine = own(paid());
                let swallowed = ["trade_state", "transaction_id"].map(|name| format!("&{name}={}", genuine[name]));
                let cut = without(without(genuine.clone(), "trade_state"), "transaction_id");
                let cut = with(cut, "total_fee", &format!("100{}", swallowed.concat()));
                let cut = assert_cut(&genuine, &cut, sign_type);
                assert_eq!(case.close(&cut), Err(VerifyError::Ambiguous("total_fee".to_owned())), "{mch_type}");

                // Somebody else's unpaid order, whose `attach` a buyer has chosen, as the proof that this one is closed.
                let forged = own(without(queried("CLOSED"), "nonce_str"));
                let chosen: Vec<_> = forged.iter().filter(|(name, _)| *name != "appid").collect();
                let chosen: String = chosen.iter().flat_map(|(name, value)| ["&", name, "=", value]).collect();
                let attach = format!("x{chosen}");
                let genuine = own(with(with(queried("NOTPAY"), "out_trade_no", "another"), "attach", &attach));
                let text = signed_text(&genuine);
                let rest = text.split_once(&format!("{chosen}&")).unwrap().1.trim_end_matches('&');
                let cut = with(with(forged, "attach", "x"), "trade_state", &format!("CLOSED&{rest}"));
                let cut = assert_cut(&genuine, &cut, sign_type);
                assert_eq!(case.query(&cut), Err(VerifyError::Ambiguous("trade_state".to_owned())), "{mch_type}");

                // A query's genuine reply is verified, `attach` and all; closeorder's has none.
                let genuine = own(with(queried("NOTPAY"), "attach", &attach));
                assert_eq!(case.query(&genuine), Ok(ReplyCode::Success), "{mch_type}");
                assert_eq!(case.close(&own(with(failed("ORDERPAID"), "attach", &attach))), {
                    Err(VerifyError::Ambiguous("attach".to_owned()))
                });
            }
        }
    }

    #[test]
    fn only_the_text_of_a_field_in_a_value_is_ambiguous() {
        for (value, is_ambiguous) in [
            ("a&b=c", true),
            ("&b=", true),
            ("a&b=&", true),
            ("x&1=2", true),
            ("a&amp=1&", true),
            ("a&b", false),
            ("a=b", false),
            ("a&=b", false),
            ("a&b c=d", false),
            ("a&订=d", false),
            ("a&b-c=d", false),
            ("a&&=d", false),
            ("a& b=d", false),
            ("&", false),
        ] {
            let expected = if is_ambiguous {
                Err(VerifyError::Ambiguous("device_info".to_owned()))
            } else {
                Ok(ReplyCode::Success)
            };
            assert_eq!(partner().close(&with(closed(), "device_info", value)), expected, "{value}");
            let queried = with(queried("CLOSED"), "device_info", value);
            assert_eq!(partner().query(&queried), expected, "{value}");
        }
        let escaped = "<xml><return_code>SUCCESS</return_code><a>1&amp;<![CDATA[b]]>=2</a>";
        let fields = fields([("return_code", "SUCCESS"), ("a", "1&b=2")]);
        let document = format!("{escaped}<sign>{}</sign></xml>", sign(&fields, KEY, "MD5"));
        let case = partner();
        let verified = verify(document.as_bytes(), &Request::close(&case.order, &case.account));
        assert_eq!(
            verified.err(),
            Some(VerifyError::Ambiguous("a".to_owned())),
            "as it is signed, not as it is written"
        );
    }

    #[test]
    fn a_currency_is_left_out_if_attach_may_hold_it() {
        let case = partner();
        let currency = |state: &str, attach: &str| {
            let reply = with(with(with(paid(), "trade_state", state), "attach", attach), "fee_type", "CNY");
            let reply = with(reply.clone(), "sign", &sign(&reply, KEY, "MD5"));
            let reply = verify(document(&reply).as_bytes(), &Request::query(&case.order, &case.account)).unwrap();
            assert_eq!(reply.payment().attach.as_deref().unwrap_or_default(), attach);
            assert_eq!(reply.payment().total_fee.as_deref(), Some("100"));
            reply.payment().fee_type.clone()
        };
        for (state, attach, expected) in [
            ("SUCCESS", "", Some("CNY")),
            ("SUCCESS", "table 5", Some("CNY")),
            ("SUCCESS", "x&fee_type=JPY", None),
            ("SUCCESS", "a&b", None),
            ("NOTPAY", "", Some("CNY")),
            // `attach` could have been "table 5&fee_type=CNY".
            ("NOTPAY", "table 5", None),
            ("CLOSED", "table 5", None),
        ] {
            assert_eq!(currency(state, attach).as_deref(), expected, "{state} {attach}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// However the signed text of a genuine reply is cut into fields again, it says nothing else than it did, to either
        /// call.
        #[test]
        fn no_cut_of_a_genuine_reply_says_anything_else(
            (state, about) in (select(vec!["NOTPAY", "SUCCESS", "CLOSED"]), select(vec![ORDER, "another"])),
            chosen in subsequence(CHOSEN.to_vec(), 0..=CHOSEN.len()),
            (fields_until, swallowing) in (1..24_usize, subsequence((0..24_usize).collect::<Vec<_>>(), 0..4)),
        ) {
            let attach: String = chosen.iter().flat_map(|(name, value)| ["&", name, "=", value]).collect();
            let genuine = with(with(queried(state), "out_trade_no", about), "attach", &format!("x{attach}"));
            let genuine = with(without(genuine, "nonce_str"), "total_fee", "100");
            let text = signed_text(&genuine);
            let (mut cut, mut last) = (Fields::new(), String::new());
            for (number, part) in text.trim_end_matches('&').split('&').enumerate() {
                let (name, value) = part.split_once('=').unwrap();
                if number < fields_until && !swallowing.contains(&number) && *name > *last {
                    name.clone_into(&mut last);
                    cut.insert(name.to_owned(), value.to_owned());
                } else if let Some(value) = cut.get_mut(&last) {
                    value.extend(["&", part]);
                }
            }
            prop_assume!(signed_text(&cut) == text && cut != genuine);
            let case = partner();
            let signed = document(&with(cut.clone(), "sign", &sign(&genuine, KEY, "MD5")));
            let closed = verify(signed.as_bytes(), &Request::close(&case.order, &case.account));
            prop_assert!(closed.is_err(), "{cut:?}");
            if let Ok(reply) = verify(signed.as_bytes(), &Request::query(&case.order, &case.account)) {
                prop_assert!(about == ORDER, "{cut:?}");
                prop_assert_eq!(reply.payment().trade_state.as_deref(), Some(state));
                prop_assert_eq!(reply.payment().total_fee.as_deref(), Some("100"));
                prop_assert_eq!(reply.payment().transaction_id.as_deref(), None);
            }
        }
    }

    /// What a buyer could have a shop write into `attach`: a whole reply.
    const CHOSEN: [(&str, &str); 9] = [
        ("fee_type", "JPY"),
        ("mch_id", "1900000109"),
        ("out_trade_no", ORDER),
        ("result_code", "SUCCESS"),
        ("return_code", "SUCCESS"),
        ("sub_mch_id", "1900000110"),
        ("total_fee", "1"),
        ("trade_state", "CLOSED"),
        ("transaction_id", "4200001"),
    ];

    #[test]
    fn debug_shows_no_field() {
        let case = partner();
        let signed = with(closed(), "sign", &sign(&closed(), KEY, "MD5"));
        let reply = verify(document(&signed).as_bytes(), &Request::close(&case.order, &case.account));
        assert_eq!(format!("{:?}", reply.unwrap()), "Reply { code: Success, state: None, .. }");
    }
}
