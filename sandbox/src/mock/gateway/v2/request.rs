//! What the gateway asks of a request of API v2, before it looks at the order.

use super::reply::Draft;
use crate::mock::{
    gateway::Received,
    identity::{Identity, MchType},
    signed_xml::sign,
};

/// The fields that both calls require of both kinds of merchant, each at most 32 characters (64 for `sign`).
const REQUIRED: [&str; 5] = ["appid", "mch_id", "out_trade_no", "nonce_str", "sign"];

/// The unsigned FAIL that a request gets that is not right in itself.
pub(super) fn check(identity: &Identity, received: &Received) -> Result<(), Draft> {
    let fields = &received.fields;
    if received.method != "POST" {
        return Err(Draft::unsigned_fail("请使用post方法").with("err_code", "REQUIRE_POST_METHOD"));
    }
    if fields.is_empty() {
        return Err(Draft::unsigned_fail("XML格式错误").with("err_code", "XML_FORMAT_ERROR"));
    }
    let field = |name| fields.get(name).map(String::as_str).unwrap_or_default();
    for name in REQUIRED {
        if field(name).is_empty() {
            return Err(Draft::unsigned_fail(&format!("缺少参数{name}")));
        }
    }
    match identity.mch_type {
        MchType::Partner if field("sub_mch_id").is_empty() => {
            return Err(Draft::unsigned_fail("受理机构必须传入sub_mch_id"));
        }
        MchType::Partner => {}
        MchType::Merchant => {
            if let Some(name) = ["sub_mch_id", "sub_appid"].into_iter().find(|name| !field(name).is_empty()) {
                return Err(Draft::unsigned_fail(&format!("普通商户不允许传{name}")));
            }
        }
    }
    for (name, value) in fields {
        let limit = if name == "sign" { 64 } else { 32 };
        if value.chars().count() > limit {
            return Err(Draft::unsigned_fail(&format!("参数格式校验错误: {name}")));
        }
    }
    if field("appid") != identity.appid {
        return Err(Draft::unsigned_fail("appid不存在"));
    }
    if field("mch_id") != identity.mch_id {
        return Err(Draft::unsigned_fail("mch_id不存在"));
    }
    if !matches!(field("sign_type"), "" | "MD5" | "HMAC-SHA256") {
        return Err(Draft::unsigned_fail("签名类型错误"));
    }
    if sign(fields, &identity.api_key, field("sign_type")) != field("sign") {
        return Err(Draft::unsigned_fail("签名错误"));
    }
    Ok(())
}
