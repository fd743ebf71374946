//! API v3: JSON at `/v3/pay/transactions/out-trade-no/…` and, for partners, `/v3/pay/partner/transactions/out-trade-no/…`.

mod request;

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};

pub(super) use self::request::{accept, fields};
use super::{
    Fault, OPENID, Order, TradeState, V3Fault,
    order::{SUCCESS_TIME, transaction_id},
    reply::{Reply, Request, Says},
};
use crate::mock::{
    identity::{Identity, MchType, V3},
    rsa::Key,
    signed_xml::Fields,
};

/// Whose signature a reply bears.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    key: Key,
    serial: String,
}

impl Signer {
    /// WeChat Pay's key of this name: its public key's, or its certificate's.
    fn named(serial: &str, v3: &V3) -> Option<Self> {
        let key = match serial {
            _ if serial == v3.public_key_id => Key::Platform,
            _ if serial == v3.certificate_serial => Key::Certificate,
            _ => return None,
        };
        Some(Self { key, serial: serial.to_owned() })
    }

    fn certificate(v3: &V3) -> Self {
        Self { key: Key::Certificate, serial: v3.certificate_serial.clone() }
    }

    /// Adds the headers of a signed reply, as of so many seconds from now.
    fn sign(&self, reply: &mut Reply, seconds: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let timestamp = now.saturating_add_signed(seconds).to_string();
        let nonce = format!("{:032x}", fastrand::u128(..));
        let signature = self.key.sign(&signed_text(&timestamp, &nonce, &reply.body));
        reply.headers.extend([
            ("wechatpay-timestamp", timestamp),
            ("wechatpay-nonce", nonce),
            ("wechatpay-signature", signature),
            ("wechatpay-serial", self.serial.clone()),
            ("wechatpay-signature-type", "WECHATPAY2-SHA256-RSA2048".to_owned()),
        ]);
    }
}

fn signed_text(timestamp: &str, nonce: &str, body: &str) -> String {
    format!("{timestamp}\n{nonce}\n{body}\n")
}

/// Whether a reply needs no signature, or has the right one.
pub(super) fn is_genuine(status: u16, headers: &BTreeMap<String, String>, body: &str, identity: &Identity) -> bool {
    let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
    let signature = header("wechatpay-signature");
    let text = signed_text(header("wechatpay-timestamp"), header("wechatpay-nonce"), body);
    match Signer::named(header("wechatpay-serial"), &identity.v3) {
        Some(signer) => signer.key.verify(&text, signature),
        None => signature.is_empty() && status >= 400,
    }
}

/// What a reply with a body says, under the names of API v2.
pub(super) fn reply_fields(body: &str) -> Fields {
    let body: Map<String, Value> = serde_json::from_str(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let named = body.iter().filter_map(|(name, value)| match name.as_str() {
        "code" => Some(("err_code".to_owned(), text(value)?)),
        "message" => Some(("err_code_des".to_owned(), text(value)?)),
        name => Some((name.to_owned(), text(value)?)),
    });
    named.collect()
}

/// Writes a reply.
pub(super) fn reply(request: &Request, signer: &Signer, says: &Says, fault: Option<&Fault>) -> Reply {
    let identity = &request.identity;
    let (status, mut body, is_signed) = match says {
        Says::Closed => (204, Map::new(), true),
        Says::Order { out_trade_no, order, state } => (200, queried(request, out_trade_no, order, *state), true),
        Says::Error(code) => failed(code, request, matches!(fault, Some(Fault::Error(_)))),
        Says::UnsignedFail(message) => rejected(message),
        Says::RateLimited => rejected("频率超限，请降低请求频率"),
        Says::Made => (200, object(json!({"prepay_id": "wx201411101639507cbf6ffd8b0779950874"})), true),
        Says::Fields(fields) => {
            (200, fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect(), true)
        }
    };
    if let Some(Fault::Edit(edits)) = fault {
        edit(&mut body, edits, identity.mch_type);
    }
    let mut reply = respond(status, &body);
    let (mut signer, mut seconds, mut is_signed) = (signer.clone(), 0, is_signed);
    match fault {
        Some(Fault::Forge) => signer.key = Key::Foreign,
        Some(Fault::V3(V3Fault::Certificate)) => signer = Signer::certificate(&identity.v3),
        Some(Fault::V3(V3Fault::Clock(later))) => seconds = *later,
        Some(&Fault::V3(V3Fault::Signed(status, body) | V3Fault::Unsigned(status, body))) => {
            is_signed = matches!(fault, Some(Fault::V3(V3Fault::Signed(..))));
            reply = Reply { status, body: body.to_owned(), ..reply };
        }
        _ => {}
    }
    if is_signed {
        signer.sign(&mut reply, seconds);
    }
    match fault {
        Some(Fault::Tamper(edits)) => {
            edit(&mut body, edits, identity.mch_type);
            reply = Reply { headers: reply.headers, ..respond(status, &body) };
        }
        Some(Fault::V3(fault)) => change_headers(&mut reply, fault),
        _ => {}
    }
    reply
}

fn respond(status: u16, body: &Map<String, Value>) -> Reply {
    // HTTP has no 204 with a body.
    let (status, body) = match (status, body.is_empty()) {
        (204, false) => (200, json!(body).to_string()),
        (_, true) => (status, String::new()),
        _ => (status, json!(body).to_string()),
    };
    Reply { status, headers: vec![("content-type", "application/json; charset=utf-8".to_owned())], body }
}

fn change_headers(reply: &mut Reply, fault: &V3Fault) {
    match *fault {
        V3Fault::SignTest => {
            for (name, value) in &mut reply.headers {
                if *name == "wechatpay-signature" {
                    value.insert_str(0, "WECHATPAY/SIGNTEST/");
                }
            }
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
            ("err_code_des", _) => "message",
            (name, _) => name,
        };
        match value {
            Some(value) => body.insert(name.to_owned(), json!(value)),
            None => body.remove(name),
        };
    }
}

/// What a query says of an order in this state.
fn queried(request: &Request, out_trade_no: &str, order: &Order, state: TradeState) -> Map<String, Value> {
    let Identity { mch_type, appid, mch_id, .. } = &request.identity;
    let mut body = object(json!({
        "out_trade_no": out_trade_no,
        "trade_state": state.name(),
        "trade_state_desc": state.description(),
        "amount": {"payer_currency": "CNY", "total": order.total_fee},
    }));
    body.extend(match mch_type {
        MchType::Merchant => object(json!({"appid": appid, "mchid": mch_id})),
        MchType::Partner => {
            object(json!({"sp_appid": appid, "sp_mchid": mch_id, "sub_mchid": request.fields.get("sub_mch_id")}))
        }
    });
    if state.is_paid() {
        let payer = if *mch_type == MchType::Merchant { "openid" } else { "sp_openid" };
        let total = order.total_fee;
        body.extend(object(json!({
            "amount": {"currency": "CNY", "payer_currency": "CNY", "payer_total": total, "total": total},
            "attach": order.attach,
            "bank_type": "OTHERS",
            "payer": {payer: OPENID},
            "promotion_detail": [],
            "success_time": SUCCESS_TIME,
            "trade_type": "JSAPI",
            "transaction_id": transaction_id(out_trade_no),
        })));
    } else {
        body.extend(object(json!({"promotion_detail": [], "scene_info": {"device_id": ""}})));
    }
    body
}

/// An error code with its HTTP status and message, and whether it is signed. The pages of WeChat Pay have two spellings
/// (`ORDERPAID`, `ORDER_PAID`): half of the order numbers get the one, half the other, unless a test has chosen.
fn failed(code: &str, request: &Request, is_chosen: bool) -> (u16, Map<String, Value>, bool) {
    let older = code.replace('_', "");
    let (status, newer, message) = match &*older {
        "ORDERPAID" => (400, "ORDER_PAID", "该订单已支付"),
        "ORDERCLOSED" => (400, "ORDER_CLOSED", "该订单已关闭"),
        "ORDERNOTEXIST" => (404, "ORDER_NOT_EXIST", "订单不存在"),
        "USERPAYING" => (202, "USER_PAYING", "用户支付中，需要输入密码"),
        "SYSTEMERROR" => (500, "SYSTEM_ERROR", "系统异常，请稍后重试"),
        "NOAUTH" => (403, "NO_AUTH", "商户无权限"),
        "FREQUENCYLIMITED" => return coded(429, code, "频率超限"),
        // These have one spelling in API v3, and another name in API v2.
        "TRADESTATEERROR" => return coded(403, "TRADE_ERROR", "交易错误"),
        "SIGNERROR" => return rejected("错误的签名，验签失败"),
        _ => return coded(400, code, "请求错误"),
    };
    let number = request.fields.get("out_trade_no").map(String::as_bytes).unwrap_or_default();
    let is_newer = number.iter().fold(0, |parity, byte| parity ^ byte & 1) == 0;
    coded(
        status,
        if is_chosen {
            code
        } else if is_newer {
            newer
        } else {
            &older
        },
        message,
    )
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
    let (_, body, _) = coded(status, code, message);
    (status, body, false)
}

fn coded(status: u16, code: &str, message: &str) -> (u16, Map<String, Value>, bool) {
    (status, object(json!({"code": code, "message": message})), true)
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}
