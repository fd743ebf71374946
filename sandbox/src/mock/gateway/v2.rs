//! API v2: XML at `/pay/closeorder` and `/pay/orderquery`, in the forms that real replies have for each call, each kind of
//! merchant and each state.

use super::{
    Call, Fault, OPENID, Received, TradeState,
    order::{TOTAL_FEE, transaction_id},
    reply::{Reply, Request, Says},
};
use crate::mock::{
    identity::{Identity, MchType},
    signed_xml::{Fields, sign, xml},
};

/// The fields that both calls require of both kinds of merchant, each at most 32 characters (64 for `sign`).
const REQUIRED: [&str; 5] = ["appid", "mch_id", "out_trade_no", "nonce_str", "sign"];

/// The merchant of a request that is right in itself; else the reply that it gets.
pub(super) fn accept<'a>(identities: &'a [Identity], received: &Received) -> Result<&'a Identity, Reply> {
    let mch_id = received.field("mch_id");
    let identity = identities.iter().find(|identity| identity.mch_id == mch_id).or(identities.first());
    let identity = identity.ok_or("mch_id不存在".to_owned());
    let checked = identity.and_then(|identity| check(identity, received).map(|()| identity));
    checked.map_err(|message| unsigned_fail(&message))
}

/// What is wrong with a request in itself.
fn check(identity: &Identity, received: &Received) -> Result<(), String> {
    let (fields, field) = (&received.fields, |name| received.field(name));
    let is_partner = identity.mch_type == MchType::Partner;
    let is_long = |name: &str, value: &str| value.chars().count() > if name == "sign" { 64 } else { 32 };
    Err(if received.method != "POST" {
        "请使用post方法".to_owned()
    } else if fields.is_empty() {
        "XML格式错误".to_owned()
    } else if let Some(name) = REQUIRED.into_iter().find(|name| field(name).is_empty()) {
        format!("缺少参数{name}")
    } else if is_partner && field("sub_mch_id").is_empty() {
        "受理机构必须传入sub_mch_id".to_owned()
    } else if let Some(name) =
        ["sub_mch_id", "sub_appid"].into_iter().find(|name| !is_partner && !field(name).is_empty())
    {
        format!("普通商户不允许传{name}")
    } else if let Some((name, _)) = fields.iter().find(|(name, value)| is_long(name, value)) {
        format!("参数格式校验错误: {name}")
    } else if field("appid") != identity.appid {
        "appid不存在".to_owned()
    } else if field("mch_id") != identity.mch_id {
        "mch_id不存在".to_owned()
    } else if !matches!(field("sign_type"), "" | "MD5" | "HMAC-SHA256") {
        "签名类型错误".to_owned()
    } else if sign(fields, &identity.api_key, field("sign_type")) != field("sign") {
        "签名错误".to_owned()
    } else {
        return Ok(());
    })
}

/// Writes a reply.
pub(super) fn reply(request: &Request, says: &Says, fault: Option<&Fault>) -> Reply {
    let mut fields = match says {
        Says::UnsignedFail(message) => return unsigned_fail(message),
        says => signed_fields(request, says),
    };
    if let Some(Fault::Edit(edits)) = fault {
        edit(&mut fields, edits);
    }
    // A forged signature is made with a key that nobody has.
    let key = if let Some(Fault::Forge) = fault { "0" } else { &request.identity.api_key };
    let sign_type = request.fields.get("sign_type").map(String::as_str).unwrap_or_default();
    let signature = sign(&fields, key, sign_type);
    set(&mut fields, &[("sign", &signature)]);
    if let Some(Fault::Tamper(edits)) = fault {
        edit(&mut fields, edits);
    }
    respond(&fields)
}

/// Errors about the request itself are not signed.
fn unsigned_fail(message: &str) -> Reply {
    let mut fields = Fields::new();
    set(&mut fields, &[("return_code", "FAIL"), ("return_msg", message)]);
    respond(&fields)
}

fn respond(fields: &Fields) -> Reply {
    Reply { status: 200, headers: vec![("content-type", "text/plain".to_owned())], body: xml(fields) }
}

fn set(fields: &mut Fields, pairs: &[(&str, &str)]) {
    fields.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
}

fn edit(fields: &mut Fields, edits: &[(&'static str, Option<String>)]) {
    for (name, value) in edits {
        match value {
            Some(value) => fields.insert((*name).to_owned(), value.clone()),
            None => fields.remove(*name),
        };
    }
}

/// What is signed, but for the signature.
fn signed_fields(request: &Request, says: &Says) -> Fields {
    let Identity { appid, mch_id, mch_type, .. } = &request.identity;
    let mut fields = Fields::new();
    set(&mut fields, &[("return_code", "SUCCESS"), ("return_msg", "OK"), ("result_code", "SUCCESS")]);
    set(&mut fields, &[("appid", appid), ("mch_id", mch_id), ("nonce_str", &format!("{:032X}", fastrand::u128(..)))]);
    match mch_type {
        MchType::Merchant => set(&mut fields, &[("sub_mch_id", "")]),
        MchType::Partner => {
            let of_request =
                ["sub_mch_id", "sub_appid"].into_iter().filter_map(|name| request.fields.get_key_value(name));
            fields.extend(of_request.map(|(name, value)| (name.clone(), value.clone())));
        }
    }
    match says {
        Says::State(state) => set_state(&mut fields, request.order(), *state),
        Says::Error(err_code) => {
            let description = description(err_code);
            set(&mut fields, &[("result_code", "FAIL"), ("err_code", err_code), ("err_code_des", description)]);
            let left_out: &[&str] = match (request.call, *err_code) {
                (_, "SYSTEMERROR") => &["appid", "mch_id", "sub_appid", "sub_mch_id"],
                (Call::OrderQuery, "ORDERNOTEXIST") => &["sub_appid", "sub_mch_id"],
                _ => &[],
            };
            fields.retain(|name, _| !left_out.contains(&name.as_str()));
        }
        Says::Made => {
            set(&mut fields, &[("trade_type", "JSAPI"), ("prepay_id", "wx201411101639507cbf6ffd8b0779950874")]);
        }
        Says::Closed if *mch_type == MchType::Partner => set(&mut fields, &[("result_msg", "OK")]),
        Says::Closed | Says::UnsignedFail(_) => {}
    }
    fields
}

/// orderquery's about an order in this state.
fn set_state(fields: &mut Fields, out_trade_no: &str, state: TradeState) {
    let ((trade_state, description), total_fee) = (state.names(), TOTAL_FEE.to_string());
    set(fields, &[("out_trade_no", out_trade_no), ("trade_state", trade_state), ("trade_state_desc", description)]);
    match state {
        TradeState::Closed | TradeState::Revoked => set(fields, &[("attach", "")]),
        TradeState::NotPay | TradeState::UserPaying | TradeState::PayError | TradeState::Accept => {
            set(fields, &[("device_info", ""), ("total_fee", &total_fee)]);
        }
        TradeState::Success | TradeState::Refund => set(
            fields,
            &[
                ("device_info", ""),
                ("openid", OPENID),
                ("is_subscribe", "N"),
                ("trade_type", "JSAPI"),
                ("bank_type", "OTHERS"),
                ("total_fee", &total_fee),
                ("fee_type", "CNY"),
                ("cash_fee", &total_fee),
                ("cash_fee_type", "CNY"),
                ("transaction_id", &transaction_id(out_trade_no)),
                ("attach", ""),
                ("time_end", "20261123081500"),
            ],
        ),
    }
}

/// `err_code_des` of an `err_code`. Some are English in real replies, too.
fn description(err_code: &str) -> &'static str {
    match err_code {
        "ORDERPAID" => "order paid",
        "ORDERCLOSED" => "order closed",
        "ORDERNOTEXIST" => "order not exist",
        "SIGNERROR" => "签名错误",
        "USERPAYING" => "用户支付中,需要输入密码",
        "FREQUENCY_LIMITED" => "频率限制",
        "TRADE_STATE_ERROR" => "订单状态错误",
        _ => "系统错误",
    }
}
