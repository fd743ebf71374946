//! What the real gateway answers to a request, without its faults.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Books;
use crate::mock::signed_xml::{Fields, sign};

/// The state of an order, in WeChat Pay's words (`trade_state` of orderquery).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeState {
    /// Not paid yet: it can be closed.
    NotPay,
    /// Paid.
    Success,
    /// The payer is typing the password.
    UserPaying,
    /// Closed.
    Closed,
}

/// A reply's fields, and what they are to be signed with; errors about the request itself are not signed.
pub(super) struct Draft {
    pub(super) fields: Fields,
    pub(super) signed_with: Option<(String, String)>,
}

impl Draft {
    /// An unsigned FAIL.
    fn fail(return_msg: &str) -> Self {
        let fields = [("return_code", "FAIL"), ("return_msg", return_msg)];
        Self { fields: owned(&fields), signed_with: None }
    }

    /// The document's fields, its sign among them.
    pub(super) fn sign(mut self) -> Fields {
        if let Some((key, sign_type)) = &self.signed_with {
            let sign = sign(&self.fields, key, sign_type);
            self.fields.insert("sign".to_owned(), sign);
        }
        self.fields
    }

    pub(super) fn edit(&mut self, edits: &[(&'static str, Option<String>)]) {
        edit(&mut self.fields, edits);
    }
}

pub(super) fn edit(fields: &mut Fields, edits: &[(&'static str, Option<String>)]) {
    for (name, value) in edits {
        match value {
            Some(value) => fields.insert((*name).to_owned(), value.clone()),
            None => fields.remove(*name),
        };
    }
}

fn owned(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The fields that closeorder requires, each at most 32 characters (64 for a sign).
const REQUIRED: [&str; 6] = ["appid", "mch_id", "sub_mch_id", "out_trade_no", "nonce_str", "sign"];

impl Books {
    /// What a request gets that is wrong in itself.
    pub(super) fn complaint(&self, method: &str, fields: Option<&Fields>) -> Option<Draft> {
        if method != "POST" {
            let mut draft = Draft::fail("请使用post方法");
            draft.edit(&[("err_code", Some("REQUIRE_POST_METHOD".to_owned()))]);
            return Some(draft);
        }
        let Some(fields) = fields else {
            let mut draft = Draft::fail("XML格式错误");
            draft.edit(&[("err_code", Some("XML_FORMAT_ERROR".to_owned()))]);
            return Some(draft);
        };
        let field = |name| fields.get(name).map(String::as_str).unwrap_or_default();
        for name in REQUIRED {
            let limit = if name == "sign" { 64 } else { 32 };
            match field(name).chars().count() {
                0 => return Some(Draft::fail(&format!("缺少参数{name}"))),
                length if length > limit => return Some(Draft::fail(&format!("参数格式校验错误: {name}"))),
                _ => {}
            }
        }
        if field("appid") != self.identity.appid {
            return Some(Draft::fail("appid不存在"));
        }
        if field("mch_id") != self.identity.mch_id {
            return Some(Draft::fail("mch_id不存在"));
        }
        if !matches!(field("sign_type"), "" | "MD5" | "HMAC-SHA256") {
            return Some(Draft::fail("签名类型错误"));
        }
        let is_right = sign(fields, &self.identity.api_key, field("sign_type")) == field("sign");
        (!is_right).then(|| Draft::fail("签名错误"))
    }

    /// Deals with an order, and says what became of it. An order that nobody made is "closed" too: the real gateway
    /// answers SUCCESS, and only a query tells.
    pub(super) fn close(&mut self, request: &Fields) -> Draft {
        let error = |code| Some((code, description(code)));
        let out_trade_no = request.get("out_trade_no").cloned().unwrap_or_default();
        match self.orders.get_mut(&out_trade_no) {
            None => self.reply(request, None),
            Some(state @ TradeState::NotPay) => {
                *state = TradeState::Closed;
                self.reply(request, None)
            }
            Some(TradeState::Closed) => self.reply(request, error("ORDERCLOSED")),
            Some(TradeState::Success) => self.reply(request, error("ORDERPAID")),
            Some(TradeState::UserPaying) => self.reply(request, error("USERPAYING")),
        }
    }

    /// A signed reply, to be: SUCCESS, or an error.
    pub(super) fn reply(&self, request: &Fields, error: Option<(&str, &str)>) -> Draft {
        let nonce = nonce();
        let mut fields = owned(&[
            ("return_code", "SUCCESS"),
            ("return_msg", "OK"),
            ("appid", &self.identity.appid),
            ("mch_id", &self.identity.mch_id),
            ("nonce_str", &nonce),
        ]);
        let echoed = ["sub_mch_id", "sub_appid"].into_iter().filter_map(|name| request.get_key_value(name));
        fields.extend(echoed.map(|(name, value)| (name.clone(), value.clone())));
        fields.extend(match error {
            None => owned(&[("result_code", "SUCCESS"), ("result_msg", "OK")]),
            Some((code, description)) => {
                owned(&[("result_code", "FAIL"), ("err_code", code), ("err_code_des", description)])
            }
        });
        let sign_type = request.get("sign_type").cloned().unwrap_or_default();
        Draft { fields, signed_with: Some((self.identity.api_key.clone(), sign_type)) }
    }
}

/// `err_code_des` of an error that the gateway was told to answer, as the documentation has it.
pub(super) fn description(err_code: &str) -> &'static str {
    match err_code {
        "ORDERPAID" => "订单已支付",
        "ORDERCLOSED" => "订单已关闭",
        "SIGNERROR" => "签名错误",
        "USERPAYING" => "用户支付中,需要输入密码",
        _ => "系统错误",
    }
}

/// A nonce of the gateway's own; that no two are alike is all that it needs.
fn nonce() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("SANDBOX{:09}", COUNT.fetch_add(1, Ordering::Relaxed))
}
