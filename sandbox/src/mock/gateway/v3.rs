//! API v3: JSON at `/v3/pay/transactions/out-trade-no/…` and, for partners, `/v3/pay/partner/transactions/out-trade-no/…`.

mod request;

use serde_json::{Map, Value, json};

pub(super) use self::request::{accept, fields};
use super::{
    Fault, OPENID, TradeState, V3Fault,
    order::{TOTAL_FEE, transaction_id},
    reply::{Reply, Request, Says},
    unix_time,
};
use crate::mock::{
    identity::{Identity, MchType},
    rsa::Key,
    signed_xml::Fields,
};

/// The error codes, each in the two spellings that the pages of WeChat Pay have, if it has two; HTTP status and message.
const ERRORS: [(&str, &str, u16, &str); 8] = [
    ("ORDERPAID", "ORDER_PAID", 400, "该订单已支付"),
    ("ORDERCLOSED", "ORDER_CLOSED", 400, "该订单已关闭"),
    ("ORDERNOTEXIST", "ORDER_NOT_EXIST", 404, "订单不存在"),
    ("USERPAYING", "USER_PAYING", 202, "用户支付中，需要输入密码"),
    ("SYSTEMERROR", "SYSTEM_ERROR", 500, "系统异常，请稍后重试"),
    ("NOAUTH", "NO_AUTH", 403, "商户无权限"),
    ("FREQUENCY_LIMITED", "FREQUENCY_LIMITED", 429, "频率超限"),
    ("TRADE_ERROR", "TRADE_ERROR", 403, "交易错误"),
];

/// Adds the headers of a signed reply, as of so many seconds from now.
fn sign(reply: &mut Reply, key: Key, serial: &str, seconds: i64) {
    let timestamp = unix_time().saturating_add_signed(seconds).to_string();
    let nonce = format!("{:032x}", fastrand::u128(..));
    let signature = key.sign(&format!("{timestamp}\n{nonce}\n{}\n", reply.body));
    reply.headers.extend([
        ("wechatpay-timestamp", timestamp),
        ("wechatpay-nonce", nonce),
        ("wechatpay-signature", signature),
        ("wechatpay-serial", serial.to_owned()),
        ("wechatpay-signature-type", "WECHATPAY2-SHA256-RSA2048".to_owned()),
    ]);
}

/// What a reply with a body says, under the names of API v2.
pub(super) fn reply_fields(body: &str) -> Fields {
    let body: Map<String, Value> = serde_json::from_str(body).unwrap_or_default();
    let renamed = |name: String| if name == "code" { "err_code".to_owned() } else { name };
    body.into_iter().filter_map(|(name, value)| Some((renamed(name), value.as_str()?.to_owned()))).collect()
}

/// Writes a reply.
pub(super) fn reply(request: &Request, says: &Says, fault: Option<&Fault>) -> Reply {
    let Identity { mch_type, v3, .. } = &request.identity;
    let (status, mut body, mut is_signed) = match says {
        Says::Closed => (204, Map::new(), true),
        Says::State(state) => (200, queried(request, *state), true),
        Says::Error(code) => failed(code, request.order(), matches!(fault, Some(Fault::Error(_)))),
        Says::UnsignedFail(message) => rejected(message),
        Says::Made => (200, object(json!({"prepay_id": "wx201411101639507cbf6ffd8b0779950874"})), true),
    };
    if let Some(Fault::Edit(edits)) = fault {
        edit(&mut body, edits, *mch_type);
    }
    let mut reply = respond(status, &body);
    let (mut key, mut serial, mut seconds) = (Key::Platform, &v3.public_key_id, 0);
    match fault {
        Some(Fault::Forge) => key = Key::Foreign,
        Some(Fault::V3(V3Fault::Certificate)) => (key, serial) = (Key::Certificate, &v3.certificate_serial),
        Some(Fault::V3(V3Fault::Clock(later))) => seconds = *later,
        Some(&Fault::V3(V3Fault::Signed(status, body) | V3Fault::Unsigned(status, body))) => {
            is_signed = matches!(fault, Some(Fault::V3(V3Fault::Signed(..))));
            (reply.status, reply.body) = (status, body.to_owned());
        }
        _ => {}
    }
    if is_signed {
        sign(&mut reply, key, serial, seconds);
    }
    match fault {
        Some(Fault::Tamper(edits)) => {
            edit(&mut body, edits, *mch_type);
            reply = Reply { headers: reply.headers, ..respond(status, &body) };
        }
        Some(Fault::V3(fault)) => change_headers(&mut reply, fault),
        _ => {}
    }
    reply
}

fn respond(status: u16, body: &Map<String, Value>) -> Reply {
    // HTTP has no 204 with a body.
    let status = if status == 204 && !body.is_empty() { 200 } else { status };
    let body = if body.is_empty() { String::new() } else { json!(body).to_string() };
    Reply { status, headers: vec![("content-type", "application/json; charset=utf-8".to_owned())], body }
}

fn change_headers(reply: &mut Reply, fault: &V3Fault) {
    match *fault {
        V3Fault::SignTest => {
            let signature = reply.headers.iter_mut().filter(|(name, _)| *name == "wechatpay-signature");
            signature.for_each(|(_, value)| value.insert_str(0, "WECHATPAY/SIGNTEST/"));
        }
        V3Fault::Header(name, value) => {
            reply.headers.retain(|(header, _)| *header != name);
            reply.headers.extend(value.map(|value| (name, value.to_owned())));
        }
        V3Fault::HeaderTwice(name) => {
            let twice = reply.headers.iter().find(|(header, _)| *header == name).cloned();
            reply.headers.extend(twice);
        }
        V3Fault::Signed(..) | V3Fault::Unsigned(..) | V3Fault::Certificate | V3Fault::Clock(_) => {}
    }
}

/// Sets and removes fields, under the names that they have in API v2 or in API v3.
fn edit(body: &mut Map<String, Value>, edits: &[(&'static str, Option<String>)], mch_type: MchType) {
    for (name, value) in edits {
        let name = match (*name, mch_type) {
            ("mch_id", MchType::Merchant) => "mchid",
            ("mch_id", MchType::Partner) => "sp_mchid",
            ("sub_mch_id", _) => "sub_mchid",
            ("err_code", _) => "code",
            (name, _) => name,
        };
        match value {
            Some(value) => body.insert(name.to_owned(), json!(value)),
            None => body.remove(name),
        };
    }
}

/// What a query says of an order in this state.
fn queried(request: &Request, state: TradeState) -> Map<String, Value> {
    let Identity { mch_type, appid, mch_id, .. } = &request.identity;
    let (trade_state, description) = state.names();
    let mut body = object(json!({
        "out_trade_no": request.order(),
        "trade_state": trade_state,
        "trade_state_desc": description,
        "promotion_detail": [],
    }));
    body.extend(object(match mch_type {
        MchType::Merchant => json!({"appid": appid, "mchid": mch_id}),
        MchType::Partner => {
            json!({"sp_appid": appid, "sp_mchid": mch_id, "sub_mchid": request.fields.get("sub_mch_id")})
        }
    }));
    let payer = if *mch_type == MchType::Merchant { "openid" } else { "sp_openid" };
    body.extend(object(if state.is_paid() {
        json!({
            "amount": {"currency": "CNY", "payer_currency": "CNY", "payer_total": TOTAL_FEE, "total": TOTAL_FEE},
            "attach": "",
            "bank_type": "OTHERS",
            "payer": {payer: OPENID},
            "success_time": "2026-11-23T08:15:00+08:00",
            "trade_type": "JSAPI",
            "transaction_id": transaction_id(request.order()),
        })
    } else {
        json!({"amount": {"payer_currency": "CNY", "total": TOTAL_FEE}, "scene_info": {"device_id": ""}})
    }));
    body
}

/// An error code with its HTTP status and message, and whether it is signed. Half of the order numbers get the one
/// spelling, half the other, unless a test has chosen.
fn failed(code: &str, out_trade_no: &str, is_chosen: bool) -> (u16, Map<String, Value>, bool) {
    let code = match code {
        "SIGNERROR" => return rejected("错误的签名，验签失败"),
        "TRADE_STATE_ERROR" => "TRADE_ERROR",
        code => code,
    };
    let known = ERRORS.into_iter().find(|(older, newer, ..)| [*older, *newer].contains(&code));
    let (older, newer, status, message) = known.unwrap_or((code, code, 400, "请求错误"));
    let is_newer = out_trade_no.bytes().fold(0, |parity, byte| parity ^ byte & 1) == 0;
    let spelling = if is_newer { newer } else { older };
    (status, coded(if is_chosen { code } else { spelling }, message), true)
}

/// What the gateway says of a request that it rejects before it knows whose it is, or without looking at it: unsigned.
fn rejected(message: &str) -> (u16, Map<String, Value>, bool) {
    let (status, code) = match message {
        _ if message.contains("频率") => (429, "FREQUENCY_LIMITED"),
        _ if message.contains("签名") => (401, "SIGN_ERROR"),
        _ if message.contains("系统") => (400, "SYSTEM_ERROR"),
        _ if message.contains("appid不匹配") => (400, "APPID_MCHID_NOT_MATCH"),
        _ => (400, "INVALID_REQUEST"),
    };
    (status, coded(code, message), false)
}

fn coded(code: &str, message: &str) -> Map<String, Value> {
    object(json!({"code": code, "message": message}))
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}
