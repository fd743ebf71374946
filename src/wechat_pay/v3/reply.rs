//! What counts as a reply over API v3.
//!
//! A response with a `Wechatpay-Signature` counts only when that is verified, whatever else it says: a 204 has no body, and
//! so nothing but its signature shows that it is WeChat Pay's. One without a signature is nobody's word; it may ask for
//! another attempt, or say that the request was rejected.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::{keys::Keys, request::WECHATPAY_SERIAL, signature::response_text, time_end};
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
        // A query's was seen for a number that no order has.
        "ORDERCLOSED" if request.call == Call::CloseOrder => ReplyCode::OrderClosed,
        "ORDERNOTEXIST" => ReplyCode::OrderNotExist,
        "USERPAYING" => ReplyCode::UserPaying,
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
        time_end: text(object, "success_time").and_then(time_end::from_rfc_3339),
        attach: field("attach"),
    }
}
