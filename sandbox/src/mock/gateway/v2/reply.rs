//! The gateway's replies of API v2, in the forms that real ones have for each call, each kind of merchant and each state.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::mock::{
    gateway::{
        Call, OPENID, Order, TradeState,
        order::{TIME_END, transaction_id},
    },
    identity::{Identity, MchType},
    signed_xml::{Fields, sign, xml},
};

/// A reply's fields, and what they are to be signed with; errors about the request itself are not signed.
pub(super) struct Draft {
    fields: Fields,
    signed_with: Option<(String, String)>,
}

impl Draft {
    pub(super) fn unsigned_fail(return_msg: &str) -> Self {
        let draft = Self { fields: Fields::new(), signed_with: None };
        draft.with("return_code", "FAIL").with("return_msg", return_msg)
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.insert(name.to_owned(), value.to_owned());
        self
    }

    fn without(mut self, names: &[&str]) -> Self {
        self.fields.retain(|name, _| !names.contains(&name.as_str()));
        self
    }

    pub(super) fn edit(&mut self, edits: &[(&'static str, Option<String>)]) {
        edit(&mut self.fields, edits);
    }

    /// Signs it with a key that nobody has.
    pub(super) fn forge(mut self) -> Self {
        self.signed_with = Some(("0".repeat(32), String::new()));
        self
    }

    /// The document; `tamper` is applied to it after it was signed.
    pub(super) fn document(mut self, tamper: &[(&'static str, Option<String>)]) -> String {
        if let Some((key, sign_type)) = &self.signed_with {
            let signature = sign(&self.fields, key, sign_type);
            self.fields.insert("sign".to_owned(), signature);
        }
        edit(&mut self.fields, tamper);
        xml(&self.fields)
    }
}

fn edit(fields: &mut Fields, edits: &[(&'static str, Option<String>)]) {
    for (name, value) in edits {
        match value {
            Some(value) => fields.insert((*name).to_owned(), value.clone()),
            None => fields.remove(*name),
        };
    }
}

/// Replies to one request.
pub(super) struct Replies<'a> {
    pub(super) identity: &'a Identity,
    pub(super) call: Call,
    pub(super) request: &'a Fields,
}

impl Replies<'_> {
    /// These fields and no others, to be signed as the request asks.
    pub(super) fn signed(&self, fields: Fields) -> Draft {
        let sign_type = self.request.get("sign_type").cloned().unwrap_or_default();
        Draft { fields, signed_with: Some((self.identity.api_key.clone(), sign_type)) }
    }

    /// What every signed reply has. An ordinary merchant's has an empty `sub_mch_id`.
    fn begin(&self) -> Draft {
        let draft = self
            .signed(Fields::new())
            .with("return_code", "SUCCESS")
            .with("return_msg", "OK")
            .with("appid", &self.identity.appid)
            .with("mch_id", &self.identity.mch_id)
            .with("nonce_str", &nonce());
        match self.identity.mch_type {
            MchType::Merchant => draft.with("sub_mch_id", ""),
            MchType::Partner => ["sub_mch_id", "sub_appid"]
                .into_iter()
                .filter_map(|name| self.request.get_key_value(name))
                .fold(draft, |draft, (name, value)| draft.with(name, value)),
        }
    }

    /// closeorder's, when it succeeds.
    pub(super) fn closed(&self) -> Draft {
        let draft = self.begin().with("result_code", "SUCCESS");
        match self.identity.mch_type {
            MchType::Partner => draft.with("result_msg", "OK"),
            MchType::Merchant => draft,
        }
    }

    /// orderquery's about an order in this state.
    pub(super) fn queried(&self, out_trade_no: &str, order: &Order, state: TradeState) -> Draft {
        let draft = self
            .begin()
            .with("result_code", "SUCCESS")
            .with("out_trade_no", out_trade_no)
            .with("trade_state", state.name())
            .with("trade_state_desc", state.description());
        let total_fee = order.total_fee.to_string();
        match state {
            TradeState::Closed | TradeState::Revoked => draft.with("attach", &order.attach),
            TradeState::NotPay | TradeState::UserPaying | TradeState::PayError | TradeState::Accept => {
                draft.with("device_info", "").with("total_fee", &total_fee)
            }
            TradeState::Success | TradeState::Refund => draft
                .with("device_info", "")
                .with("openid", OPENID)
                .with("is_subscribe", "N")
                .with("trade_type", "JSAPI")
                .with("bank_type", "OTHERS")
                .with("total_fee", &total_fee)
                .with("fee_type", "CNY")
                .with("cash_fee", &total_fee)
                .with("cash_fee_type", "CNY")
                .with("transaction_id", &transaction_id(out_trade_no))
                .with("attach", &order.attach)
                .with("time_end", TIME_END),
        }
    }

    /// Signed `result_code` FAIL.
    pub(super) fn failed(&self, err_code: &str) -> Draft {
        let draft = self
            .begin()
            .with("result_code", "FAIL")
            .with("err_code", err_code)
            .with("err_code_des", description(err_code));
        match (self.call, err_code) {
            (_, "SYSTEMERROR") => draft.without(&["appid", "mch_id", "sub_appid", "sub_mch_id"]),
            (Call::OrderQuery, "ORDERNOTEXIST") => draft.without(&["sub_appid", "sub_mch_id"]),
            _ => draft,
        }
    }

    /// unifiedorder's, when an order is made.
    pub(super) fn made(&self) -> Draft {
        let draft = self.begin().with("result_code", "SUCCESS").with("trade_type", "JSAPI");
        draft.with("prepay_id", "wx201411101639507cbf6ffd8b0779950874")
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

/// A nonce of the gateway's own; that no two are alike is all that it needs.
fn nonce() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("SANDBOX{:09}", COUNT.fetch_add(1, Ordering::Relaxed))
}
