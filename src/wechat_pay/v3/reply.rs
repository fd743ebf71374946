//! What counts as a reply over API v3.
//!
//! A response with a `Wechatpay-Signature` counts only when that is verified, whatever else it says: a 204 has no body, and
//! so nothing but its signature shows that it is WeChat Pay's. One without a signature is nobody's word; it may ask for
//! another attempt, or say that the request was rejected.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use serde_json::Value;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::{keys::Keys, request::WECHATPAY_SERIAL, signature::response_text};
use crate::wechat_pay::{
    Call, Fields, OrderState, Payment, Reply, ReplyCode, Request, VerifyError, json::Object, wire::WireResponse,
};

const WECHATPAY_SIGNATURE: &str = "wechatpay-signature";
const WECHATPAY_TIMESTAMP: &str = "wechatpay-timestamp";
const WECHATPAY_NONCE: &str = "wechatpay-nonce";

/// How a signature begins that WeChat Pay makes wrong on purpose, to see whether it is verified
/// (<https://pay.weixin.qq.com/doc/v3/merchant/4013053420>).
const PROBE: &str = "WECHATPAY/SIGNTEST/";

/// How far a reply's time may be from ours: as WeChat Pay's own SDKs have it.
const MAX_TIME_DIFFERENCE: Duration = Duration::from_mins(5);

const NO_CONTENT: u16 = 204;
const ACCEPTED: u16 = 202;
const UNAUTHORIZED: u16 = 401;
const TOO_MANY_REQUESTS: u16 = 429;

/// Takes a response with a status below 500 for what it proves to be at this time.
///
/// # Errors
/// [`VerifyError`] says which proof is lacking.
pub(in crate::wechat_pay) fn verify(
    response: &WireResponse,
    request: &Request<'_>,
    keys: &Keys,
    now: SystemTime,
) -> Result<Reply, VerifyError> {
    if !response.headers.contains_key(WECHATPAY_SIGNATURE) {
        return unsigned(response);
    }
    let signature = verify_signature(response, keys, now)?;
    match request.call {
        Call::CloseOrder => closed(response, request, signature),
        Call::OrderQuery => queried(response, request, signature),
    }
}

/// The signature, if it is the response's.
fn verify_signature(response: &WireResponse, keys: &Keys, now: SystemTime) -> Result<String, VerifyError> {
    let header = |name, or_else| single(&response.headers, name).ok_or(VerifyError::not_a_reply(or_else));
    let signature = header(WECHATPAY_SIGNATURE, "its Wechatpay-Signature is empty or there twice")?;
    let serial = header(WECHATPAY_SERIAL, "its Wechatpay-Serial is missing, empty or there twice")?;
    let nonce = header(WECHATPAY_NONCE, "its Wechatpay-Nonce is missing, empty or there twice")?;
    let timestamp = header(WECHATPAY_TIMESTAMP, "its Wechatpay-Timestamp is missing, empty or there twice")?;
    if signature.starts_with(PROBE) {
        return Err(VerifyError::not_a_reply("its signature is one of WeChat Pay's probes (SIGNTEST)"));
    }
    if !is_near(timestamp, now) {
        let why = "its Wechatpay-Timestamp is not within 300 seconds of this machine's clock";
        return Err(VerifyError::not_a_reply(why));
    }
    let key = keys.public_key(serial).ok_or_else(|| VerifyError::unknown_serial(serial))?;
    if key.verifies(&response_text(timestamp, nonce, &response.body), signature) {
        Ok(signature.to_owned())
    } else {
        Err(VerifyError::Signature)
    }
}

/// The value of a header that is there once and is not empty.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    (values.next().is_none() && !value.is_empty()).then_some(value)
}

fn is_near(timestamp: &str, now: SystemTime) -> bool {
    let seconds = timestamp.bytes().all(|b| b.is_ascii_digit()).then(|| timestamp.parse().ok()).flatten();
    let Some(then) = seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
    else {
        return false;
    };
    let difference = now.duration_since(then).unwrap_or_else(|error| error.duration());
    difference <= MAX_TIME_DIFFERENCE
}

/// A verified response to a close. It names no order, whatever it says.
fn closed(response: &WireResponse, request: &Request<'_>, signature: String) -> Result<Reply, VerifyError> {
    match response.status {
        NO_CONTENT if response.body.is_empty() => {
            let fields = fields(request, &[("result_code", "SUCCESS")]);
            Ok(signed(ReplyCode::Success, None, Payment::default(), fields, signature))
        }
        ACCEPTED => {
            let error = if response.body.is_empty() { None } else { ErrorBody::of(&object(&response.body)?) };
            let message = error.map(|error| error.message).unwrap_or_default();
            Ok(failed(ReplyCode::UserPaying, "USERPAYING", &message, request, signature))
        }
        status => coded(status, &object(&response.body)?, request, signature),
    }
}

/// A verified response to a query.
fn queried(response: &WireResponse, request: &Request<'_>, signature: String) -> Result<Reply, VerifyError> {
    if response.status == NO_CONTENT {
        return Err(VerifyError::NotThisCall("status 204"));
    }
    let object = object(&response.body)?;
    if response.status != 200 || (text(&object, "trade_state").is_none() && ErrorBody::of(&object).is_some()) {
        return coded(response.status, &object, request, signature);
    }
    if text(&object, "trade_state").is_none() {
        return Err(VerifyError::Missing("trade_state"));
    }
    let sub_mch_id = request.sub_mch_id();
    let mch_id = if sub_mch_id.is_some() { "sp_mchid" } else { "mchid" };
    for (name, sent) in [
        ("out_trade_no", Some(request.out_trade_no())),
        (mch_id, Some(request.merchant().mch_id())),
        ("sub_mchid", sub_mch_id),
    ] {
        let Some(sent) = sent else { continue };
        match text(&object, name) {
            Some(received) if received == sent => {}
            Some(_) => return Err(VerifyError::NotOurs(name)),
            None => return Err(VerifyError::Missing(name)),
        }
    }
    let payment = payment(&object);
    let fields = fields(request, &[("result_code", "SUCCESS")]);
    Ok(signed(ReplyCode::Success, None, payment, fields, signature))
}

/// A verified response that says why the call did not do what it was asked.
fn coded(status: u16, object: &JsonFields, request: &Request<'_>, signature: String) -> Result<Reply, VerifyError> {
    let error = ErrorBody::of(object).ok_or(VerifyError::not_a_reply("it has no code"))?;
    let compared = error.compared();
    let code = match compared.as_str() {
        "ORDERPAID" => ReplyCode::OrderPaid,
        // Of a query, too, where it proves nothing: it was seen for a number that no order has.
        "ORDERCLOSED" => ReplyCode::OrderClosed,
        "ORDERNOTEXIST" => ReplyCode::OrderNotExist,
        "USERPAYING" => ReplyCode::UserPaying,
        // API v3's name for TRADE_STATE_ERROR: only an order that exists has a state.
        "TRADEERROR" | "TRADESTATEERROR" => ReplyCode::TradeStateError,
        "SYSTEMERROR" => ReplyCode::SystemError,
        "SIGNERROR" => ReplyCode::SignatureRejected,
        _ if error.is_rejection() || status == UNAUTHORIZED => ReplyCode::Rejected,
        "FREQUENCYLIMITED" => ReplyCode::FrequencyLimited,
        _ if status == TOO_MANY_REQUESTS => ReplyCode::FrequencyLimited,
        _ => ReplyCode::Other,
    };
    let err_code = V2_CODES.into_iter().find(|code| code.replace('_', "") == compared).unwrap_or(&error.code);
    Ok(failed(code, err_code, &error.message, request, signature))
}

/// The codes that API v2 has as well, as it spells them.
const V2_CODES: [&str; 9] = [
    "ORDERPAID",
    "ORDERCLOSED",
    "ORDERNOTEXIST",
    "USERPAYING",
    "SYSTEMERROR",
    "SIGNERROR",
    "NOAUTH",
    "PARAM_ERROR",
    "FREQUENCY_LIMITED",
];

/// A response that nobody has signed: only its code and message are kept, and they say nothing of the order.
fn unsigned(response: &WireResponse) -> Result<Reply, VerifyError> {
    const UNSIGNED: VerifyError = VerifyError::not_a_reply("it has no Wechatpay-Signature");
    let status = response.status;
    let error = match object(&response.body) {
        Ok(object) if (400..500).contains(&status) => ErrorBody::of(&object).ok_or(UNSIGNED)?,
        _ => return Err(UNSIGNED),
    };
    let code = match error.compared().as_str() {
        "SIGNERROR" if status == UNAUTHORIZED => ReplyCode::SignatureRejected,
        _ if status == UNAUTHORIZED => ReplyCode::Rejected,
        // Before SYSTEM_ERROR, which asks for more requests.
        _ if status == TOO_MANY_REQUESTS => ReplyCode::RateLimited,
        "SYSTEMERROR" => ReplyCode::SystemError,
        _ if error.is_rejection() => ReplyCode::Rejected,
        _ => ReplyCode::UnsignedOther,
    };
    let ErrorBody { code: name, message } = error;
    let return_msg = if message.is_empty() { name } else { format!("{name}: {message}") };
    let fields = [("return_code", "FAIL"), ("return_msg", &return_msg)];
    Ok(Reply {
        code,
        is_signed: false,
        err_code: None,
        state: None,
        payment: Payment::default(),
        fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        replay_id: None,
    })
}

/// A verified failure, in the fields that API v2 has for it.
fn failed(code: ReplyCode, err_code: &str, message: &str, request: &Request<'_>, signature: String) -> Reply {
    let named = [("result_code", "FAIL"), ("err_code", err_code), ("err_code_des", message)];
    signed(code, Some(err_code.to_owned()), Payment::default(), fields(request, &named), signature)
}

fn signed(code: ReplyCode, err_code: Option<String>, payment: Payment, fields: Fields, signature: String) -> Reply {
    let state = payment.trade_state.as_deref().map(OrderState::of);
    Reply { code, is_signed: true, err_code, state, payment, fields, replay_id: Some(signature) }
}

/// What every verified reply has under API v2's names, and what this one has besides, as far as it is not empty.
fn fields(request: &Request<'_>, named: &[(&str, &str)]) -> Fields {
    let common = [
        ("return_code", "SUCCESS"),
        ("return_msg", "OK"),
        ("mch_id", request.merchant().mch_id()),
        ("sub_mch_id", request.sub_mch_id().unwrap_or_default()),
    ];
    let all = common.iter().chain(named).filter(|(_, value)| !value.is_empty());
    all.map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

type JsonFields = std::collections::BTreeMap<String, Value>;

/// The body as JSON.
fn object(body: &[u8]) -> Result<JsonFields, VerifyError> {
    let object = str::from_utf8(body).ok().and_then(Object::parse);
    match object.ok_or(VerifyError::not_a_reply("it is not a JSON object"))? {
        Object { fields, repeated: None } => Ok(fields),
        Object { .. } => Err(VerifyError::not_a_reply("it has a field twice")),
    }
}

/// A field that is a text, and not an empty one.
fn text<'a>(object: &'a JsonFields, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// `code` and `message`, which every failure has.
struct ErrorBody {
    code: String,
    message: String,
}

impl ErrorBody {
    fn of(object: &JsonFields) -> Option<Self> {
        let code = text(object, "code")?.to_owned();
        Some(Self { code, message: text(object, "message").unwrap_or_default().to_owned() })
    }

    /// The code as it is compared: pages of different years spell it with underscores or without.
    fn compared(&self) -> String {
        self.code.replace('_', "")
    }

    /// Whether WeChat Pay rejects the request itself.
    fn is_rejection(&self) -> bool {
        match self.compared().as_str() {
            "NOAUTH" | "PARAMERROR" | "MCHNOTEXISTS" | "APPIDMCHIDNOTMATCH" | "REQUESTBLOCKED" => true,
            "INVALIDREQUEST" => {
                let message = self.message.to_lowercase();
                message.contains("http头") || message.contains("wechatpay-serial")
            }
            _ => false,
        }
    }
}

/// What a query's reply says of the payment.
fn payment(object: &JsonFields) -> Payment {
    let field = |name| text(object, name).map(str::to_owned);
    let amount = object.get("amount");
    Payment {
        trade_state: field("trade_state"),
        trade_state_desc: field("trade_state_desc"),
        trade_type: field("trade_type"),
        transaction_id: field("transaction_id"),
        total_fee: amount.and_then(|amount| amount.get("total")?.as_u64()).map(|total| total.to_string()),
        fee_type: amount
            .and_then(|amount| amount.get("currency")?.as_str())
            .filter(|it| !it.is_empty())
            .map(str::to_owned),
        time_end: text(object, "success_time").and_then(beijing_time),
        attach: field("attach"),
    }
}

/// `2018-06-08T10:34:56+08:00` as API v2 writes it: `yyyyMMddHHmmss`, Beijing time.
fn beijing_time(success_time: &str) -> Option<String> {
    let moment = OffsetDateTime::parse(success_time, &Rfc3339).ok()?;
    let moment = moment.checked_to_offset(UtcOffset::from_hms(8, 0, 0).ok()?)?;
    let ((year, month, day), (hour, minute, second)) = (moment.to_calendar_date(), moment.to_hms());
    let month = u8::from(month);
    Some(format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}"))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};
    use serde_json::json;

    use super::*;
    use crate::wechat_pay::{
        Account,
        replay::ReplayGuard,
        v3::vectors::{
            MCH_ID, ORDER, PLATFORM, PUBLIC_KEY_ID, SUB_MCH_ID, TIMESTAMP, VECTORS, account, at, der, keys, order, pem,
            secret,
        },
    };

    const NONCE: &str = "d824f2e086d3c1df967785d13fcd22ef";
    const CALLS: [Call; 2] = [Call::CloseOrder, Call::OrderQuery];

    /// A response with any headers.
    fn response(status: u16, body: &str, headers: &[(&str, &str)]) -> WireResponse {
        let header = |&(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(header) {
            map.append(name, value);
        }
        WireResponse { status, headers: map, body: body.into() }
    }

    /// A response that the platform has signed.
    fn signed_response(status: u16, body: &str) -> WireResponse {
        signed_at(status, body, TIMESTAMP)
    }

    fn signed_at(status: u16, body: &str, timestamp: u64) -> WireResponse {
        let timestamp = timestamp.to_string();
        let text = String::from_utf8(response_text(&timestamp, NONCE, body.as_bytes())).unwrap();
        let signature = PLATFORM.sign(&text);
        let headers = [
            ("Wechatpay-Signature", signature.as_str()),
            ("Wechatpay-Serial", PUBLIC_KEY_ID),
            ("Wechatpay-Timestamp", &timestamp),
            ("Wechatpay-Nonce", NONCE),
        ];
        response(status, body, &headers)
    }

    fn verify_as(mch_type: &str, call: Call, response: &WireResponse) -> Result<Reply, VerifyError> {
        let (account, order) = (account(mch_type), order(mch_type, ORDER));
        super::verify(response, &Request { call, order: &order, account: &account }, keys(&account), at(TIMESTAMP))
    }

    fn verify(call: Call, response: &WireResponse) -> Result<Reply, VerifyError> {
        verify_as("merchant", call, response)
    }

    fn code(call: Call, response: &WireResponse) -> Result<ReplyCode, VerifyError> {
        verify(call, response).map(|reply| reply.code())
    }

    fn is_no_reply<T: std::fmt::Debug>(result: &Result<T, VerifyError>) -> bool {
        matches!(result, Err(VerifyError::NotAReply(_)))
    }

    fn sent(reply: &Reply) -> Value {
        json!(reply.fields())
    }

    fn error(code: &str) -> String {
        json!({"code": code, "message": "消息"}).to_string()
    }

    fn transaction(mch_type: &str, trade_state: &str) -> Value {
        let mut transaction = json!({
            "out_trade_no": ORDER, "trade_state": trade_state, "appid": "wx1", "payer": {"openid": "o"},
            "amount": {"total": 100, "payer_total": 90, "currency": "CNY", "payer_currency": "CNY"},
        });
        if mch_type == "partner" {
            transaction["sp_mchid"] = json!(MCH_ID);
            transaction["sub_mchid"] = json!(SUB_MCH_ID);
        } else {
            transaction["mchid"] = json!(MCH_ID);
        }
        transaction
    }

    /// The replies of `tests/vectors-v3.json`, whose signatures were made with openssl.
    #[test]
    fn the_replies_of_the_vectors_are_verified() {
        let other_call = |name| Err(VerifyError::NotThisCall(name));
        let no_reply = || Err(VerifyError::not_a_reply("it has no code"));
        let mut checked = 0;
        for (name, closed, queried, state) in [
            ("204 empty", Ok(ReplyCode::Success), other_call("status 204"), None),
            ("200 NOTPAY", no_reply(), Ok(ReplyCode::Success), Some(OrderState::Open)),
            ("200 CLOSED", no_reply(), Ok(ReplyCode::Success), Some(OrderState::Closed)),
            ("200 SUCCESS", no_reply(), Ok(ReplyCode::Success), Some(OrderState::Paid)),
            ("400 ORDERPAID", Ok(ReplyCode::OrderPaid), Ok(ReplyCode::OrderPaid), None),
            ("400 ORDER_CLOSED", Ok(ReplyCode::OrderClosed), Ok(ReplyCode::OrderClosed), None),
            ("404 ORDER_NOT_EXIST", Ok(ReplyCode::OrderNotExist), Ok(ReplyCode::OrderNotExist), None),
            ("202 USER_PAYING", Ok(ReplyCode::UserPaying), Ok(ReplyCode::UserPaying), None),
        ] {
            let vector = VECTORS["replies"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap();
            let field = |name: &str| vector[name].as_str().unwrap();
            let headers = [
                ("Wechatpay-Signature", field("signature")),
                ("Wechatpay-Serial", field("serial")),
                ("Wechatpay-Timestamp", field("timestamp")),
                ("Wechatpay-Nonce", field("nonce")),
            ];
            let status = vector["status"].as_u64().unwrap().try_into().unwrap();
            let response = response(status, field("body"), &headers);
            for (call, expected) in [(Call::CloseOrder, closed), (Call::OrderQuery, queried)] {
                let reply = verify(call, &response);
                assert_eq!(reply.as_ref().map(Reply::code), expected.as_ref().copied(), "{name} {call:?}");
                let Ok(reply) = reply else { continue };
                assert!(reply.is_signed() && reply.replay_id.as_deref() == Some(field("signature")), "{name}");
                assert_eq!(reply.state(), state.filter(|_| call == Call::OrderQuery), "{name}");
            }
            checked += 1;
        }
        assert_eq!(checked, VECTORS["replies"].as_array().unwrap().len());
    }

    #[test]
    fn the_documentation_s_reply_is_verified_with_the_documentation_s_key() {
        let vector = &VECTORS["docs_reply"];
        let field = |name: &str| vector[name].as_str().unwrap();
        let headers = [
            ("wechatpay-signature", field("signature")),
            ("WECHATPAY-SERIAL", field("serial")),
            ("wechatpay-timestamp", field("timestamp")),
            ("wechatpay-nonce", field("nonce")),
        ];
        let mut secret = secret("merchant");
        secret["public_key"] = json!(pem("PUBLIC KEY", &der("docs_wxpay_public_spki_b64")));
        let account = Account::from_secret(secret.to_string().as_bytes()).unwrap();
        let signature = verify_signature(&response(200, field("body"), &headers), keys(&account), at(TIMESTAMP));
        assert_eq!(signature.as_deref(), Ok(field("signature")));
        let with_the_platform_s_key = verify(Call::CloseOrder, &response(200, field("body"), &headers));
        assert_eq!(with_the_platform_s_key.unwrap_err(), VerifyError::Signature);
    }

    #[test]
    fn only_an_empty_204_that_is_signed_is_success() {
        assert_eq!(code(Call::CloseOrder, &signed_response(204, "")), Ok(ReplyCode::Success));
        for status in [200, 201, 203, 205, 206, 300, 301, 304, 400, 404] {
            assert!(is_no_reply(&code(Call::CloseOrder, &signed_response(status, ""))), "{status}");
            assert!(is_no_reply(&code(Call::CloseOrder, &signed_response(status, "{}"))), "{status}");
        }
        assert!(is_no_reply(&code(Call::CloseOrder, &signed_response(204, "{}"))));
        assert!(is_no_reply(&code(Call::CloseOrder, &signed_response(204, " "))));
        for status in [200, 202, 204, 304, 404] {
            assert!(is_no_reply(&code(Call::CloseOrder, &response(status, "", &[]))), "unsigned {status}");
        }
        // A genuine signature over another body.
        let mut changed = signed_response(204, "");
        changed.body = b"{}".to_vec();
        assert_eq!(code(Call::CloseOrder, &changed), Err(VerifyError::Signature));
        changed = signed_response(200, &error("ORDERPAID"));
        (changed.status, changed.body) = (204, Vec::new());
        assert_eq!(code(Call::CloseOrder, &changed), Err(VerifyError::Signature));
    }

    /// Neither the status nor the other headers are signed.
    #[test]
    fn a_changed_status_makes_no_reply_say_more_than_its_signed_text() {
        let callback = json!({
            "id": "1", "event_type": "TRANSACTION.SUCCESS", "resource_type": "encrypt-resource", "summary": "支付成功",
            "resource": {"algorithm": "AEAD_AES_256_GCM", "ciphertext": "x", "nonce": "n", "original_type": "transaction"},
        });
        let (paid, under_way) = (transaction("merchant", "SUCCESS").to_string(), error("USERPAYING"));
        for body in ["", "{}", &paid, &callback.to_string(), &under_way, &error("SYSTEM_ERROR")] {
            let mut response = signed_response(200, body);
            for status in [200, 201, 202, 204, 206, 302, 400, 401, 404, 429] {
                response.status = status;
                for call in CALLS {
                    let verified = code(call, &response);
                    let is_own = (call == Call::CloseOrder && status == 204 && body.is_empty())
                        || (call == Call::OrderQuery && status == 200 && paid == body);
                    assert_eq!(verified == Ok(ReplyCode::Success), is_own, "{call:?} {status} {body}: {verified:?}");
                    let says_more = [ReplyCode::OrderClosed, ReplyCode::OrderPaid, ReplyCode::OrderNotExist]
                        .map(Ok)
                        .contains(&verified);
                    assert!(!says_more, "{call:?} {status} {body}: {verified:?}");
                }
            }
        }
    }

    #[test]
    fn a_202_to_a_close_is_a_payment_under_way_whatever_its_code() {
        for (body, described) in [
            (error("USERPAYING"), Some("消息")),
            (error("ORDERPAID"), Some("消息")),
            (error("ORDERCLOSED"), Some("消息")),
            ("{}".to_owned(), None),
            (String::new(), None),
        ] {
            let reply = verify(Call::CloseOrder, &signed_response(202, &body)).unwrap();
            assert_eq!((reply.code(), reply.err_code()), (ReplyCode::UserPaying, Some("USERPAYING")), "{body}");
            assert_eq!(reply.fields().get("err_code_des").map(String::as_str), described, "{body}");
        }
        assert!(is_no_reply(&code(Call::CloseOrder, &signed_response(202, "accepted"))));
        assert_eq!(code(Call::OrderQuery, &signed_response(202, &error("ORDERPAID"))), Ok(ReplyCode::OrderPaid));
        assert!(is_no_reply(&code(Call::OrderQuery, &signed_response(202, "{}"))));
    }

    #[test]
    fn what_is_badly_signed_is_never_wechat_pay_s_word() {
        let genuine = || signed_response(400, &error("ORDERPAID"));
        let changed = |name: &'static str, value: Option<&str>| {
            let mut response = genuine();
            match value {
                Some(value) => {
                    response.headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
                }
                None => {
                    response.headers.remove(name);
                }
            }
            response
        };
        let twice = |name: &'static str| {
            let mut response = genuine();
            let value = response.headers[name].clone();
            response.headers.append(name, value);
            response
        };
        let genuine_signature = genuine().headers[WECHATPAY_SIGNATURE].to_str().unwrap().to_owned();
        let mut other_body = genuine();
        other_body.body = error("ORDERCLOSED").into();
        let probe = format!("WECHATPAY/SIGNTEST/{genuine_signature}");
        for (response, expected) in [
            (genuine(), None),
            (other_body, Some("signature")),
            (changed(WECHATPAY_SIGNATURE, Some("AAAA")), Some("signature")),
            (changed(WECHATPAY_SIGNATURE, Some("not base64!")), Some("signature")),
            (changed(WECHATPAY_SIGNATURE, Some(&genuine_signature.to_lowercase())), Some("signature")),
            (changed(WECHATPAY_SIGNATURE, Some(&probe)), Some("no reply")),
            (changed(WECHATPAY_SIGNATURE, Some("WECHATPAY/SIGNTEST/AAAA")), Some("no reply")),
            (changed(WECHATPAY_SIGNATURE, Some("")), Some("no reply")),
            (twice(WECHATPAY_SIGNATURE), Some("no reply")),
            (changed(WECHATPAY_NONCE, Some("another")), Some("signature")),
            (changed(WECHATPAY_NONCE, Some("")), Some("no reply")),
            (changed(WECHATPAY_NONCE, None), Some("no reply")),
            (twice(WECHATPAY_NONCE), Some("no reply")),
            (changed(WECHATPAY_TIMESTAMP, Some("1722850422")), Some("signature")),
            (changed(WECHATPAY_TIMESTAMP, Some("")), Some("no reply")),
            (changed(WECHATPAY_TIMESTAMP, Some("+1722850421")), Some("no reply")),
            (changed(WECHATPAY_TIMESTAMP, Some("1722850421000")), Some("no reply")),
            (changed(WECHATPAY_TIMESTAMP, Some("99999999999999999999999")), Some("no reply")),
            (changed(WECHATPAY_TIMESTAMP, None), Some("no reply")),
            (twice(WECHATPAY_TIMESTAMP), Some("no reply")),
            (changed(WECHATPAY_SERIAL, Some("")), Some("no reply")),
            (changed(WECHATPAY_SERIAL, None), Some("no reply")),
            (twice(WECHATPAY_SERIAL), Some("no reply")),
        ] {
            for call in CALLS {
                match (verify(call, &response), expected) {
                    (Ok(reply), None) => assert_eq!(reply.code(), ReplyCode::OrderPaid),
                    (Err(VerifyError::Signature), Some("signature"))
                    | (Err(VerifyError::NotAReply(_)), Some("no reply")) => {}
                    (result, expected) => panic!("{:?}: {result:?}, {expected:?}", response.headers),
                }
            }
        }
    }

    #[test]
    fn an_unknown_serial_is_named_with_what_to_do_and_comes_after_what_is_no_reply() {
        let with_serial = |serial: &str, timestamp| {
            let mut response = signed_at(204, "", timestamp);
            response.headers.insert(WECHATPAY_SERIAL, HeaderValue::from_str(serial).unwrap());
            response
        };
        for (serial, shown) in [
            ("5F1C72E2A8931B72A2E13AF8DEE92471EB397115", "5F1C72E2A8931B72A2E13AF8DEE92471EB397115"),
            ("PUB_KEY_ID_0", "PUB_KEY_ID_0"),
            (&PUBLIC_KEY_ID.to_lowercase(), &PUBLIC_KEY_ID.to_lowercase()),
            ("a\tb (c)", "of another form"),
            (&"A".repeat(65), "of another form"),
            ("GR5458LVsignature", "of another form"),
        ] {
            let error = code(Call::CloseOrder, &with_serial(serial, TIMESTAMP)).unwrap_err();
            assert_eq!(error, VerifyError::UnknownSerial(shown.to_owned()));
            let text = error.to_string();
            assert!(
                text.contains(&format!("Wechatpay-Serial {shown} names")) && text.contains("other_public_keys"),
                "{text}"
            );
        }
        assert!(is_no_reply(&code(Call::CloseOrder, &with_serial("PUB_KEY_ID_0", TIMESTAMP - 301))));
    }

    #[test]
    fn each_key_of_the_secret_verifies_what_names_it() {
        let mut secret = secret("merchant");
        secret["other_public_keys"] = json!({"PUB_KEY_ID_2": secret["public_key"]});
        secret["public_key"] = json!(pem("PUBLIC KEY", &der("docs_wxpay_public_spki_b64")));
        let account = Account::from_secret(secret.to_string().as_bytes()).unwrap();
        let order = order("merchant", ORDER);
        let mut response = signed_response(204, "");
        let verify = |response: &WireResponse| {
            super::verify(response, &Request::close(&order, &account), keys(&account), at(TIMESTAMP))
                .map(|it| it.code())
        };
        assert_eq!(verify(&response), Err(VerifyError::Signature), "with the key of another ID");
        response.headers.insert(WECHATPAY_SERIAL, HeaderValue::from_static("PUB_KEY_ID_2"));
        assert_eq!(verify(&response), Ok(ReplyCode::Success));
    }

    #[test]
    fn a_time_is_within_300_seconds() {
        for (offset, is_near) in [(0, true), (300, true), (301, false), (-300, true), (-301, false)] {
            let response = signed_at(204, "", TIMESTAMP.checked_add_signed(offset).unwrap());
            let result = code(Call::CloseOrder, &response);
            assert_eq!(result.is_ok(), is_near, "{offset}");
            assert!(is_near || is_no_reply(&result), "{offset}");
        }
    }

    #[test]
    fn a_body_is_one_object_without_a_repeated_field() {
        for body in [
            r#"{"code": "ORDERPAID", "code": "ORDERPAID"}"#,
            r#"{"code": "ORDERPAID", "message": "a", "message": "b"}"#,
            r#"{"code": "ORDERPAID", "\u0063ode": "ORDERCLOSED"}"#,
            r#"[{"code": "ORDERPAID"}]"#,
            r#""ORDERPAID""#,
            r#"{"code": ["ORDERPAID"]}"#,
            r#"{"code": null}"#,
            r#"{"code": ""}"#,
            r#"{"code": "ORDERPAID""#,
            "<xml><code>ORDERPAID</code></xml>",
            &format!(r#"{{"code": "ORDERPAID", "detail": {}{}}}"#, "[".repeat(1000), "]".repeat(1000)),
        ] {
            for call in CALLS {
                assert!(is_no_reply(&code(call, &signed_response(400, body))), "{body}");
                assert!(is_no_reply(&code(call, &response(400, body, &[]))), "{body}");
            }
        }
        let nested = r#"{"code": "ORDERPAID", "detail": {"code": 1, "code": 2}}"#;
        assert_eq!(code(Call::CloseOrder, &signed_response(400, nested)), Ok(ReplyCode::OrderPaid));
    }

    #[test]
    fn a_signed_code_means_the_same_in_every_spelling() {
        for (codes, status, expected, err_code) in [
            (["ORDERPAID", "ORDER_PAID"], 400, ReplyCode::OrderPaid, "ORDERPAID"),
            (["ORDERPAID", "ORDER_PAID"], 200, ReplyCode::OrderPaid, "ORDERPAID"),
            (["ORDERPAID", "ORDER_PAID"], 401, ReplyCode::OrderPaid, "ORDERPAID"),
            (["ORDERCLOSED", "ORDER_CLOSED"], 400, ReplyCode::OrderClosed, "ORDERCLOSED"),
            (["ORDERNOTEXIST", "ORDER_NOT_EXIST"], 404, ReplyCode::OrderNotExist, "ORDERNOTEXIST"),
            (["USERPAYING", "USER_PAYING"], 400, ReplyCode::UserPaying, "USERPAYING"),
            (["SYSTEMERROR", "SYSTEM_ERROR"], 400, ReplyCode::SystemError, "SYSTEMERROR"),
            (["SIGNERROR", "SIGN_ERROR"], 401, ReplyCode::SignatureRejected, "SIGNERROR"),
            (["NOAUTH", "NO_AUTH"], 403, ReplyCode::Rejected, "NOAUTH"),
            (["PARAMERROR", "PARAM_ERROR"], 400, ReplyCode::Rejected, "PARAM_ERROR"),
            (["FREQUENCYLIMITED", "FREQUENCY_LIMITED"], 429, ReplyCode::FrequencyLimited, "FREQUENCY_LIMITED"),
            (["FREQUENCYLIMITED", "FREQUENCY_LIMITED"], 403, ReplyCode::FrequencyLimited, "FREQUENCY_LIMITED"),
            (["FREQUENCYLIMITED", "FREQUENCY_LIMITED"], 401, ReplyCode::Rejected, "FREQUENCY_LIMITED"),
        ] {
            for sent in codes {
                let reply = verify(Call::CloseOrder, &signed_response(status, &error(sent))).unwrap();
                assert_eq!((reply.code(), reply.err_code()), (expected, Some(err_code)), "{sent} {status}");
                let fields = json!({
                    "return_code": "SUCCESS", "return_msg": "OK", "result_code": "FAIL", "err_code": err_code,
                    "err_code_des": "消息", "mch_id": MCH_ID,
                });
                assert_eq!(super::tests::sent(&reply), fields, "{sent}");
            }
        }
        for (sent, status, expected) in [
            ("MCH_NOT_EXISTS", 400, ReplyCode::Rejected),
            ("APPID_MCHID_NOT_MATCH", 400, ReplyCode::Rejected),
            ("REQUEST_BLOCKED", 403, ReplyCode::Rejected),
            ("ANYTHING", 401, ReplyCode::Rejected),
            ("RATELIMIT_EXCEEDED", 429, ReplyCode::FrequencyLimited),
            ("INVALID_REQUEST", 400, ReplyCode::Other),
            ("TRADE_ERROR", 403, ReplyCode::TradeStateError),
            ("TRADE_STATE_ERROR", 400, ReplyCode::TradeStateError),
            ("RULE_LIMIT", 403, ReplyCode::Other),
            ("ORDERREVERSED", 400, ReplyCode::Other),
            ("orderpaid", 400, ReplyCode::Other),
            ("ORDERPAID ", 400, ReplyCode::Other),
        ] {
            let reply = verify(Call::CloseOrder, &signed_response(status, &error(sent))).unwrap();
            assert_eq!((reply.code(), reply.err_code()), (expected, Some(sent)), "{sent} {status}");
        }
        for (message, expected) in [
            ("Http头缺少Accept或User-Agent", ReplyCode::Rejected),
            ("HTTP头错误", ReplyCode::Rejected),
            ("平台证书序列号Wechatpay-Serial错误", ReplyCode::Rejected),
            ("订单状态不正确", ReplyCode::Other),
        ] {
            let body = json!({"code": "INVALID_REQUEST", "message": message}).to_string();
            assert_eq!(code(Call::CloseOrder, &signed_response(400, &body)), Ok(expected), "{message}");
        }
        let without_message = verify(Call::CloseOrder, &signed_response(400, r#"{"code":"ORDERPAID"}"#)).unwrap();
        assert!(!without_message.fields().contains_key("err_code_des"));
    }

    #[test]
    fn success_has_the_names_of_v2_and_the_merchant_s_numbers() {
        let expected =
            json!({"return_code": "SUCCESS", "return_msg": "OK", "result_code": "SUCCESS", "mch_id": MCH_ID});
        let reply = verify(Call::CloseOrder, &signed_response(204, "")).unwrap();
        assert_eq!(sent(&reply), expected);
        let mut expected = expected;
        expected["sub_mch_id"] = json!(SUB_MCH_ID);
        let reply = verify_as("partner", Call::CloseOrder, &signed_response(204, "")).unwrap();
        assert_eq!(sent(&reply), expected);
        assert_eq!((reply.err_code(), reply.payment()), (None, &Payment::default()));
    }

    #[test]
    fn a_query_is_about_this_order_of_this_merchant() {
        for (mch_type, field, other, expected) in [
            ("merchant", "", json!(null), None),
            (
                "merchant",
                "out_trade_no",
                json!("1217752501201407033233368019"),
                Some(VerifyError::NotOurs("out_trade_no")),
            ),
            ("merchant", "out_trade_no", json!(null), Some(VerifyError::Missing("out_trade_no"))),
            ("merchant", "out_trade_no", json!(1), Some(VerifyError::Missing("out_trade_no"))),
            ("merchant", "mchid", json!("1900007292"), Some(VerifyError::NotOurs("mchid"))),
            ("merchant", "mchid", json!(null), Some(VerifyError::Missing("mchid"))),
            ("merchant", "trade_state", json!(null), Some(VerifyError::Missing("trade_state"))),
            ("merchant", "trade_state", json!(""), Some(VerifyError::Missing("trade_state"))),
            ("merchant", "sub_mchid", json!("1"), None),
            ("merchant", "code", json!("ORDERNOTEXIST"), None),
            ("partner", "", json!(null), None),
            ("partner", "sp_mchid", json!(SUB_MCH_ID), Some(VerifyError::NotOurs("sp_mchid"))),
            ("partner", "sp_mchid", json!(null), Some(VerifyError::Missing("sp_mchid"))),
            ("partner", "sub_mchid", json!(MCH_ID), Some(VerifyError::NotOurs("sub_mchid"))),
            ("partner", "sub_mchid", json!(null), Some(VerifyError::Missing("sub_mchid"))),
            ("partner", "out_trade_no", json!("1"), Some(VerifyError::NotOurs("out_trade_no"))),
        ] {
            let mut body = transaction(mch_type, "CLOSED");
            if !field.is_empty() {
                body[field] = other.clone();
            }
            let reply = verify_as(mch_type, Call::OrderQuery, &signed_response(200, &body.to_string()));
            assert_eq!(reply.as_ref().err(), expected.as_ref(), "{mch_type} {field} {other}");
            assert!(reply.is_err() || reply.unwrap().state() == Some(OrderState::Closed));
        }
        let of_the_other_kind = signed_response(200, &transaction("partner", "CLOSED").to_string());
        assert_eq!(code(Call::OrderQuery, &of_the_other_kind), Err(VerifyError::Missing("mchid")));
        // Another status than 200 shows no state.
        let partial = signed_response(206, &transaction("merchant", "CLOSED").to_string());
        assert!(is_no_reply(&code(Call::OrderQuery, &partial)));
    }

    #[test]
    fn every_trade_state_means_what_it_means_over_v2() {
        for (trade_state, expected) in [
            ("SUCCESS", OrderState::Paid),
            ("REFUND", OrderState::Paid),
            ("CLOSED", OrderState::Closed),
            ("REVOKED", OrderState::Closed),
            ("NOTPAY", OrderState::Open),
            ("USERPAYING", OrderState::Open),
            ("PAYERROR", OrderState::Open),
            ("ACCEPT", OrderState::Open),
            ("closed", OrderState::Open),
        ] {
            let body = transaction("merchant", trade_state).to_string();
            let reply = verify(Call::OrderQuery, &signed_response(200, &body)).unwrap();
            assert_eq!(
                (reply.state(), reply.is_terminal()),
                (Some(expected), expected != OrderState::Open),
                "{trade_state}"
            );
        }
    }

    #[test]
    fn a_success_time_is_written_in_beijing_time() {
        for (success_time, expected) in [
            ("2018-06-08T10:34:56+08:00", Some("20180608103456")),
            ("2018-06-08T02:34:56Z", Some("20180608103456")),
            ("2018-06-08T02:34:56.789Z", Some("20180608103456")),
            ("2026-12-31T23:00:00-01:30", Some("20270101083000")),
            ("2018-06-08T10:34:56", None),
            ("2026-02-29T10:34:56+08:00", None),
            ("20180608103456", None),
            ("", None),
        ] {
            assert_eq!(beijing_time(success_time).as_deref(), expected, "{success_time}");
        }
    }

    #[test]
    fn a_payment_has_the_names_and_forms_of_v2() {
        let mut body = transaction("merchant", "SUCCESS");
        for (name, value) in [
            ("trade_state_desc", "支付成功"),
            ("trade_type", "JSAPI"),
            ("transaction_id", "4200000000"),
            ("attach", "a&b=c"),
            ("success_time", "2018-06-08T02:34:56Z"),
        ] {
            body[name] = json!(value);
        }
        let reply = verify(Call::OrderQuery, &signed_response(200, &body.to_string())).unwrap();
        let payment: Vec<_> = reply.payment().fields().collect();
        let expected = [
            ("trade_state", "SUCCESS"),
            ("trade_state_desc", "支付成功"),
            ("trade_type", "JSAPI"),
            ("transaction_id", "4200000000"),
            ("total_fee", "100"),
            ("fee_type", "CNY"),
            ("time_end", "20180608103456"),
            ("attach", "a&b=c"),
        ];
        assert_eq!(payment, expected);
        assert!(!reply.fields().values().any(|value| value == "o"), "nothing that names the payer");
        for (name, value) in [
            ("amount", json!({"total": "100", "currency": 1})),
            ("amount", json!({"total": 1.5, "currency": ""})),
            ("amount", json!({"total": -1})),
            ("amount", json!([100, "CNY"])),
        ] {
            let mut body = transaction("merchant", "SUCCESS");
            body[name] = value;
            body["success_time"] = json!("yesterday");
            body["attach"] = json!("");
            let reply = verify(Call::OrderQuery, &signed_response(200, &body.to_string())).unwrap();
            assert_eq!(reply.payment().fields().collect::<Vec<_>>(), [("trade_state", "SUCCESS")], "{body}");
        }
    }

    #[test]
    fn an_unsigned_code_settles_nothing_and_keeps_code_and_message_alone() {
        for (status, sent, expected) in [
            (401, "SIGN_ERROR", ReplyCode::SignatureRejected),
            (401, "SIGNERROR", ReplyCode::SignatureRejected),
            (401, "NO_AUTH", ReplyCode::Rejected),
            (401, "ORDERPAID", ReplyCode::Rejected),
            (401, "SYSTEM_ERROR", ReplyCode::Rejected),
            (401, "签名错误", ReplyCode::Rejected),
            (400, "SIGN_ERROR", ReplyCode::UnsignedOther),
            (400, "SYSTEM_ERROR", ReplyCode::SystemError),
            (403, "SYSTEMERROR", ReplyCode::SystemError),
            (403, "NO_AUTH", ReplyCode::Rejected),
            (403, "NOAUTH", ReplyCode::Rejected),
            (400, "PARAM_ERROR", ReplyCode::Rejected),
            (400, "MCH_NOT_EXISTS", ReplyCode::Rejected),
            (400, "APPID_MCHID_NOT_MATCH", ReplyCode::Rejected),
            (403, "REQUEST_BLOCKED", ReplyCode::Rejected),
            (429, "FREQUENCY_LIMITED", ReplyCode::RateLimited),
            (429, "RATELIMIT_EXCEEDED", ReplyCode::RateLimited),
            (403, "FREQUENCY_LIMITED", ReplyCode::UnsignedOther),
            (400, "INVALID_REQUEST", ReplyCode::UnsignedOther),
            (400, "ORDERPAID", ReplyCode::UnsignedOther),
            (400, "ORDER_CLOSED", ReplyCode::UnsignedOther),
            (404, "ORDER_NOT_EXIST", ReplyCode::UnsignedOther),
            (400, "USERPAYING", ReplyCode::UnsignedOther),
            (404, "RESOURCE_NOT_EXISTS", ReplyCode::UnsignedOther),
        ] {
            for call in CALLS {
                let body = json!({"code": sent, "message": "消息", "trade_state": "CLOSED", "detail": {}}).to_string();
                let reply = verify(call, &response(status, &body, &[])).unwrap();
                assert_eq!((reply.code(), reply.is_signed()), (expected, false), "{status} {sent}");
                assert!(reply.err_code().is_none() && reply.state().is_none() && !reply.is_terminal(), "{sent}");
                let fields = json!({"return_code": "FAIL", "return_msg": format!("{sent}: 消息")});
                assert_eq!(super::tests::sent(&reply), fields, "{sent}");
            }
        }
        let without_message = verify(Call::CloseOrder, &response(404, r#"{"code": "NOT_FOUND"}"#, &[])).unwrap();
        assert_eq!(without_message.fields()["return_msg"], "NOT_FOUND");
        let body = json!({"code": "INVALID_REQUEST", "message": "Http头缺少Accept或User-Agent"}).to_string();
        assert_eq!(code(Call::CloseOrder, &response(400, &body, &[])), Ok(ReplyCode::Rejected));
        for status in [200, 202, 204, 302, 304] {
            for body in [error("ORDERPAID"), error("SIGN_ERROR"), transaction("merchant", "CLOSED").to_string()] {
                for call in CALLS {
                    let reply = code(call, &response(status, &body, &[]));
                    assert_eq!(
                        reply,
                        Err(VerifyError::not_a_reply("it has no Wechatpay-Signature")),
                        "{status} {body}"
                    );
                }
            }
        }
        // The other three headers sign nothing.
        let mut unsigned = signed_response(204, "");
        unsigned.headers.remove(WECHATPAY_SIGNATURE);
        assert!(is_no_reply(&code(Call::CloseOrder, &unsigned)));
    }

    /// A 204 names no order: its signature is all that tells it from another's.
    #[test]
    fn a_204_to_one_order_closes_no_other() {
        let account = account("merchant");
        let (one, other) = (order("merchant", "one"), order("merchant", "other"));
        let (one, other) = (Request::close(&one, &account), Request::close(&other, &account));
        let verify =
            |response: &WireResponse, request| super::verify(response, request, keys(&account), at(TIMESTAMP)).unwrap();
        let guard = ReplayGuard::default();
        for response in [signed_response(204, ""), signed_response(400, &error("ORDERPAID"))] {
            let is_replay = |request| guard.is_replay(&verify(&response, request), request);
            assert!(!is_replay(&one) && !is_replay(&one) && is_replay(&other));
        }
        assert!(!guard.is_replay(&verify(&signed_at(204, "", TIMESTAMP - 1), &other), &other), "another signature");
    }

    #[test]
    fn debug_shows_no_field() {
        let reply = verify(Call::CloseOrder, &signed_response(204, "")).unwrap();
        assert_eq!(format!("{reply:?}"), "Reply { code: Success, state: None, .. }");
    }
}
