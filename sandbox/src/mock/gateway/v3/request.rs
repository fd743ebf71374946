//! What the gateway asks of a request of API v3, before it looks at the order.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{coded, object, respond, sign};
use crate::mock::{
    gateway::{Call, Received, reply::Reply, unix_time},
    identity::{Identity, MchType},
    rsa::Key,
    signed_xml::Fields,
};

/// How far a request's time may be off, in seconds.
const TOLERANCE: u64 = 300;

/// The characters of an order number that stand escaped in a path.
const ESCAPES: [(&str, &str); 3] = [("|", "%7C"), ("*", "%2A"), ("@", "%40")];

/// A request's fields under the names that API v2 has for them; the number is the path's.
pub(in crate::mock::gateway) fn fields(number: &str, query: &str, body: &str) -> Fields {
    let number = ESCAPES.iter().fold(number.to_owned(), |number, (plain, escaped)| number.replace(escaped, plain));
    let body: Map<String, Value> = serde_json::from_str(body).unwrap_or_default();
    let in_body = body.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
    let query = if body.is_empty() { query } else { "" };
    let in_query = query.split('&').filter_map(|pair| pair.split_once('='));
    let merchants = in_body.chain(in_query).filter_map(|(name, value)| match name {
        "mchid" | "sp_mchid" => Some(("mch_id".to_owned(), value.to_owned())),
        "sub_mchid" => Some(("sub_mch_id".to_owned(), value.to_owned())),
        _ => None,
    });
    merchants.chain([("out_trade_no".to_owned(), number)]).collect()
}

/// Whether a number stands in a path as it should: of 6 to 32 of the allowed characters, and those that must be escaped,
/// and no others, are.
fn is_number(escaped: &str) -> bool {
    let rest = ESCAPES.iter().fold(escaped.to_owned(), |rest, (_, escaped)| rest.replace(escaped, "_"));
    (6..=32).contains(&rest.len()) && rest.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// The merchant of a request that is right in itself; else the reply that it gets.
pub(in crate::mock::gateway) fn accept<'a>(
    identities: &'a [Identity],
    received: &Received,
) -> Result<&'a Identity, Reply> {
    let header = |name: &str| received.headers.get(name).map(String::as_str);
    let version = header("user-agent").and_then(|agent| Some(agent.split_once('/')?.1));
    let has_right_headers = header("accept") == Some("application/json")
        && header("content-type") == (!received.body.is_empty()).then_some("application/json")
        && header("accept-encoding").is_none()
        && version.is_some_and(|version| !version.is_empty());
    if !has_right_headers {
        // Stricter than WeChat Pay is documented to be.
        return Err(unsigned(400, "INVALID_REQUEST", "Http头Accept、User-Agent、Content-Type或Accept-Encoding不正确"));
    }
    let identity = authenticate(identities, received)?;
    if header("wechatpay-serial") != Some(&identity.v3.public_key_id) {
        return Err(unsigned(400, "INVALID_REQUEST", "平台证书序列号Wechatpay-Serial错误"));
    }
    if let Err((status, code, message)) = check_content(identity, received) {
        let mut reply = respond(status, &coded(code, message));
        sign(&mut reply, Key::Platform, &identity.v3.public_key_id, 0);
        return Err(reply);
    }
    Ok(identity)
}

fn unsigned(status: u16, code: &str, message: &str) -> Reply {
    respond(status, &coded(code, message))
}

/// The merchant that signed a request; else what the request gets, unsigned.
fn authenticate<'a>(identities: &'a [Identity], received: &Received) -> Result<&'a Identity, Reply> {
    let error = |message: &str| unsigned(401, "SIGN_ERROR", message);
    let authorization = received.headers.get("authorization");
    let Some(pairs) = authorization.and_then(|it| it.strip_prefix("WECHATPAY2-SHA256-RSA2048 ")) else {
        return Err(error("Http头Authorization认证类型不正确"));
    };
    let Some([mchid, nonce, serial_no, signature, timestamp]) = read(pairs) else {
        return Err(error("Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》"));
    };
    if timestamp.parse::<u64>().map_or(true, |timestamp| timestamp.abs_diff(unix_time()) > TOLERANCE) {
        return Err(error("Http头Authorization中的timestamp与发起请求的时间不得超过5分钟"));
    }
    let Some(identity) = identities.iter().find(|identity| identity.mch_id == mchid) else {
        return Err(error("商户号不存在"));
    };
    if identity.v3.serial_no != serial_no {
        return Err(error("商户证书序列号有误。请使用签名私钥匹配的证书序列号"));
    }
    let Received { method, path, query, body, .. } = received;
    let url = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
    let text = format!("{method}\n{url}\n{timestamp}\n{nonce}\n{body}\n");
    if !identity.v3.key.verify(&text, signature) {
        let mut body = coded("SIGN_ERROR", "错误的签名，验签失败");
        let information = json!({"method": method, "sign_message_length": text.len(), "truncated_sign_message": text,
            "url": url});
        body.extend(object(json!({"detail": {"detail": {"issue": "sign not match"}, "field": "signature",
            "location": "authorization", "sign_information": information}})));
        return Err(respond(401, &body));
    }
    Ok(identity)
}

/// The values of an `Authorization`'s five fields, by the order of their names, if each is there once and has a value.
fn read(pairs: &str) -> Option<[&str; 5]> {
    let mut fields = BTreeMap::new();
    for pair in pairs.split(',') {
        let (name, value) = pair.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        if value.is_empty() || fields.insert(name, value).is_some() {
            return None;
        }
    }
    let names = ["mchid", "nonce_str", "serial_no", "signature", "timestamp"];
    let values = names.map(|name| fields.remove(name).unwrap_or_default());
    (fields.is_empty() && values.iter().all(|value| !value.is_empty())).then_some(values)
}

/// What is wrong with the order number, or with the merchants that the path, the query and the body name.
fn check_content(identity: &Identity, received: &Received) -> Result<(), (u16, &'static str, &'static str)> {
    let Received { path, query, body, .. } = received;
    let is_partner = path.starts_with("/v3/pay/partner/");
    if is_partner != (identity.mch_type == MchType::Partner) {
        return Err((403, "NO_AUTH", "商户号与接口的接入模式不符"));
    }
    let number = path.strip_suffix("/close").unwrap_or(path).rsplit('/').next().unwrap_or_default();
    if !is_number(number) {
        return Err((400, "PARAM_ERROR", "输入源“/path/out_trade_no”映射到值字段“商户订单号”字符串规则校验失败"));
    }
    if received.fields.get("mch_id").is_some_and(|mch_id| *mch_id != identity.mch_id) {
        return Err((400, "INVALID_REQUEST", "http header中的mchid与post payload中的mchid不匹配"));
    }
    let sub_mchid = received.field("sub_mch_id");
    let merchants = if is_partner {
        vec![("sp_mchid", &*identity.mch_id), ("sub_mchid", sub_mchid)]
    } else {
        vec![("mchid", &*identity.mch_id)]
    };
    let is_right = if received.call == Some(Call::OrderQuery) {
        let pairs = merchants.iter().map(|(name, value)| format!("{name}={value}"));
        *query == pairs.collect::<Vec<_>>().join("&") && body.is_empty()
    } else {
        let fields = merchants.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        let found = serde_json::from_str::<Value>(body).unwrap_or_default();
        found == Value::Object(fields.collect()) && query.is_empty()
    };
    let is_digits = |text: &str| (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_right || (is_partner && !is_digits(sub_mchid)) {
        return Err((400, "PARAM_ERROR", "请求参数的名称、数量或格式不符"));
    }
    Ok(())
}
