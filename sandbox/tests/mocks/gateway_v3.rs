//! WeChat Pay, API v3.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use sandbox::{
    Sandbox,
    mock::{
        gateway::{Call, Fault, OPENID, Order, Times, TradeState, V3Fault, transaction_id},
        identity::{Api, Identity, MchType, V3},
        rsa::Key,
    },
};
use serde_json::{Value, json};

use crate::support::{body_of, exchange};

const SUB_MCH_ID: &str = "1900000109";

/// A request, and what its signature is made with.
#[derive(Clone)]
struct Ask {
    method: &'static str,
    url: String,
    body: String,
    key: Key,
    /// The headers but `Authorization`.
    headers: BTreeMap<&'static str, String>,
    /// `Authorization`'s fields but the signature.
    fields: BTreeMap<&'static str, String>,
    scheme: &'static str,
}

impl Ask {
    /// A right request of this merchant; the number stands in it as it is.
    fn new(identity: &Identity, call: Call, number: &str) -> Self {
        let (mch_id, v3) = (&identity.mch_id, &identity.v3);
        let is_partner = identity.mch_type == MchType::Partner;
        let path = format!("/v3/pay/{}transactions/out-trade-no/{number}", if is_partner { "partner/" } else { "" });
        let (method, url, body) = match (call, is_partner) {
            (Call::CloseOrder, false) => ("POST", format!("{path}/close"), json!({"mchid": mch_id}).to_string()),
            (Call::CloseOrder, true) => {
                ("POST", format!("{path}/close"), json!({"sp_mchid": mch_id, "sub_mchid": SUB_MCH_ID}).to_string())
            }
            (Call::OrderQuery, false) => ("GET", format!("{path}?mchid={mch_id}"), String::new()),
            (Call::OrderQuery, true) => {
                ("GET", format!("{path}?sp_mchid={mch_id}&sub_mchid={SUB_MCH_ID}"), String::new())
            }
        };
        let content_type = (!body.is_empty()).then(|| ("content-type", "application/json".to_owned()));
        let headers = [
            ("accept", "application/json".to_owned()),
            ("user-agent", "close-order/0.3.0".to_owned()),
            ("wechatpay-serial", v3.public_key_id.clone()),
        ];
        let fields = [
            ("mchid", mch_id.clone()),
            ("nonce_str", "593BEC0C930BF1AFEB40B4A08C8FB242".to_owned()),
            ("timestamp", now().to_string()),
            ("serial_no", v3.serial_no.clone()),
        ];
        Self {
            method,
            url,
            body,
            key: v3.key,
            headers: headers.into_iter().chain(content_type).collect(),
            fields: fields.into(),
            scheme: "WECHATPAY2-SHA256-RSA2048",
        }
    }

    async fn send(&self, sandbox: &Sandbox) -> Reply {
        let Self { method, url, body, key, headers, fields, scheme } = self;
        let text = format!("{method}\n{url}\n{}\n{}\n{body}\n", fields["timestamp"], fields["nonce_str"]);
        let mut pairs: Vec<_> = fields.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        pairs.push(format!("signature=\"{}\"", key.sign(&text)));
        let mut lines = format!("authorization: {scheme} {}\r\n", pairs.join(","));
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
        let gateway = sandbox.gateway.endpoints()[0].url();
        Reply::read(&exchange(&gateway, &format!("{method} {url}"), &lines, body.as_bytes()).await.unwrap())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[derive(Debug, PartialEq)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Reply {
    fn read(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map_while(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into()));
        Self { status, headers: headers.collect(), body: body_of(text).to_owned() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The code, the state of the order, or nothing.
    fn says(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        ["code", "trade_state"]
            .into_iter()
            .find_map(|name| Some(body.get(name)?.as_str()?.to_owned()))
            .unwrap_or_default()
    }

    fn is_signed(&self) -> bool {
        !self.header("wechatpay-signature").is_empty()
    }

    /// Whether it is signed with this key, by its own headers.
    fn is_signed_by(&self, key: Key) -> bool {
        let [timestamp, nonce, signature] =
            ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-signature"].map(|name| self.header(name));
        key.verify(&format!("{timestamp}\n{nonce}\n{}\n", self.body), signature)
    }
}

/// Both kinds of merchant.
fn kinds() -> [Identity; 2] {
    [Identity::default(), Identity::merchant()]
}

async fn ask(sandbox: &Sandbox, call: Call, number: &str) -> Reply {
    Ask::new(&sandbox.identity, call, number).send(sandbox).await
}

#[tokio::test]
async fn every_state_of_an_order_has_its_replies_signed_with_the_public_key() {
    for identity in kinds() {
        let sandbox = Sandbox::start_as(identity.clone()).await.unwrap();
        for (state, status, code, after) in [
            (Some(TradeState::NotPay), 204, "", Some(TradeState::Closed)),
            (Some(TradeState::Closed), 400, "ORDERCLOSED", Some(TradeState::Closed)),
            (Some(TradeState::Success), 400, "ORDERPAID", Some(TradeState::Success)),
            (Some(TradeState::Refund), 400, "ORDERPAID", Some(TradeState::Refund)),
            (Some(TradeState::UserPaying), 202, "USERPAYING", Some(TradeState::UserPaying)),
            (Some(TradeState::Revoked), 403, "TRADEERROR", Some(TradeState::Revoked)),
            (None, 204, "", None),
        ] {
            let number = format!("state-{}", state.map_or("none", TradeState::name));
            if let Some(state) = state {
                sandbox.gateway.put_order(&number, state);
            }
            let closed = ask(&sandbox, Call::CloseOrder, &number).await;
            assert_eq!((closed.status, closed.says().replace('_', "").as_str()), (status, code), "{state:?}");
            assert_eq!(closed.body.is_empty(), status == 204, "{closed:?}");
            assert_eq!(sandbox.gateway.order(&number), after, "{state:?}");
            let queried = ask(&sandbox, Call::OrderQuery, &number).await;
            let expected = after.map_or((404, "ORDERNOTEXIST"), |state| (200, state.name()));
            assert_eq!((queried.status, queried.says().replace('_', "").as_str()), expected, "{state:?}");
            for reply in [closed, queried] {
                assert!(reply.is_signed_by(Key::Platform), "{reply:?}");
                assert_eq!(reply.header("wechatpay-serial"), identity.v3.public_key_id);
                assert_eq!(reply.header("wechatpay-signature-type"), "WECHATPAY2-SHA256-RSA2048");
                assert!(reply.header("wechatpay-timestamp").parse::<u64>().unwrap().abs_diff(now()) < 5);
                assert!(!reply.header("request-id").is_empty());
            }
        }
        let received = sandbox.gateway.received();
        assert!(received.iter().all(|received| received.api == Some(Api::V3) && received.is_genuine(&identity)));
        assert!(received.iter().all(|received| received.fields["out_trade_no"].starts_with("state-")));
    }
}

#[tokio::test]
async fn a_query_has_the_fields_of_the_vectors_and_of_real_replies() {
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors-v3.json")).unwrap();
    let identity = Identity { mch_id: "1900007291".to_owned(), ..Identity::merchant() };
    let sandbox = Sandbox::start_as(identity).await.unwrap();
    let number = "1217752501201407033233368018";
    for (name, state, total_fee) in [
        ("200 NOTPAY", TradeState::NotPay, 1),
        ("200 CLOSED", TradeState::Closed, 1),
        ("200 SUCCESS", TradeState::Success, 100),
    ] {
        let vector = vectors["replies"].as_array().unwrap().iter().find(|vector| vector["name"] == name).unwrap();
        let mut expected: Value = serde_json::from_str(vector["body"].as_str().unwrap()).unwrap();
        sandbox.gateway.put_order(number, Order { total_fee, ..state.into() });
        let reply = ask(&sandbox, Call::OrderQuery, number).await.json();
        if state.is_paid() {
            expected["success_time"] = json!("2026-11-23T08:15:00+08:00");
            expected["transaction_id"] = json!(transaction_id(number));
        }
        assert_eq!(reply, expected, "{name}");
    }
    let partner = Sandbox::start().await.unwrap();
    partner.gateway.put_order(number, TradeState::Success);
    let reply = ask(&partner, Call::OrderQuery, number).await.json();
    assert_eq!((&reply["sp_mchid"], &reply["sub_mchid"]), (&json!("1230000109"), &json!(SUB_MCH_ID)));
    assert_eq!((&reply["payer"]["sp_openid"], &reply["mchid"]), (&json!(OPENID), &Value::Null));
}

#[tokio::test]
async fn half_of_the_numbers_get_the_older_spelling_of_a_code_and_half_the_newer() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut spellings = Vec::new();
    for number in ["number0", "number1"] {
        sandbox.gateway.put_order(number, TradeState::Success);
        spellings.push(ask(&sandbox, Call::CloseOrder, number).await.says());
    }
    spellings.sort();
    assert_eq!(spellings, ["ORDERPAID", "ORDER_PAID"]);
    for code in ["ORDERPAID", "ORDER_PAID"] {
        sandbox.gateway.fault_on_next_calls(Times::Next(1), Fault::Error(code));
        assert_eq!(ask(&sandbox, Call::CloseOrder, "number0").await.says(), code, "a test can choose");
    }
}

#[tokio::test]
async fn a_number_is_taken_from_the_path_with_its_three_escapes_and_no_other() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.put_order("a|b*c@d_e-f", TradeState::NotPay);
    for wrong in ["a%7cb%2Ac%40d_e-f", "a%7Cb*c%40d_e-f", "a%257Cb%252Ac%2540d_e-f", "%61%7Cb%2Ac%40d_e-f", "short"] {
        let reply = ask(&sandbox, Call::CloseOrder, wrong).await;
        assert_eq!((reply.status, &*reply.says(), reply.is_signed()), (400, "PARAM_ERROR", true), "{wrong}");
    }
    assert_eq!(sandbox.gateway.order("a|b*c@d_e-f"), Some(TradeState::NotPay));
    assert_eq!(ask(&sandbox, Call::CloseOrder, "a%7Cb%2Ac%40d_e-f").await.status, 204);
    assert_eq!(sandbox.gateway.order("a|b*c@d_e-f"), Some(TradeState::Closed));
}

#[tokio::test]
async fn a_request_that_is_wrong_in_itself_touches_no_order_and_is_signed_once_it_is_known_whose_it_is() {
    const NUMBER: &str = "1217752501201407033233368018";
    type Change = fn(&mut Ask);
    let headers: &[(Change, u16, &str)] = &[
        (|ask| drop(ask.headers.remove("accept")), 400, "INVALID_REQUEST"),
        (|ask| drop(ask.headers.insert("accept", "*/*".into())), 400, "INVALID_REQUEST"),
        (|ask| drop(ask.headers.remove("user-agent")), 400, "INVALID_REQUEST"),
        (|ask| drop(ask.headers.insert("user-agent", "close-order/".into())), 400, "INVALID_REQUEST"),
        (|ask| drop(ask.headers.insert("accept-encoding", "gzip".into())), 400, "INVALID_REQUEST"),
        (|ask| drop(ask.headers.insert("content-type", "text/plain".into())), 400, "INVALID_REQUEST"),
        (|ask| drop(ask.headers.remove("wechatpay-serial")), 400, "INVALID_REQUEST"),
        (|ask| drop(ask.headers.insert("wechatpay-serial", "PUB_KEY_ID_0".into())), 400, "INVALID_REQUEST"),
        (|ask| ask.scheme = "WECHATPAY2-SM2-WITH-SM3", 401, "SIGN_ERROR"),
        (|ask| drop(ask.fields.insert("mchid", "1".into())), 401, "SIGN_ERROR"),
        (|ask| drop(ask.fields.insert("serial_no", "0".repeat(40))), 401, "SIGN_ERROR"),
        (|ask| drop(ask.fields.insert("extra", "1".into())), 401, "SIGN_ERROR"),
        (|ask| drop(ask.fields.insert("nonce_str", String::new())), 401, "SIGN_ERROR"),
        (|ask| drop(ask.fields.insert("timestamp", (now() - 310).to_string())), 401, "SIGN_ERROR"),
        (|ask| drop(ask.fields.insert("timestamp", (now() * 1000).to_string())), 401, "SIGN_ERROR"),
        (|ask| ask.key = Key::Merchant(1), 401, "SIGN_ERROR"),
    ];
    let contents: &[(Change, u16, &str)] = &[
        (|ask| ask.url = ask.url.replace("partner/", ""), 403, "NO_AUTH"),
        (|ask| ask.url.push_str(if ask.method == "GET" { "&appid=1" } else { "?mchid=1" }), 400, "PARAM_ERROR"),
        (|ask| ask.url = ask.url.replace("_mchid=", "_mch_id="), 400, "PARAM_ERROR"),
        (|ask| ask.url = ask.url.replace("sp_mchid=1230000109", "sp_mchid=1"), 400, "INVALID_REQUEST"),
        (
            |ask| ask.body = ask.body.replace("\"sp_mchid\":\"1230000109\"", "\"sp_mchid\":\"1\""),
            400,
            "INVALID_REQUEST",
        ),
        (|ask| ask.body = ask.body.replace('{', "{\"nonce_str\":\"1\","), 400, "PARAM_ERROR"),
        (|ask| ask.body = ask.body.replace(",\"sub_mchid\":\"1900000109\"", ""), 400, "PARAM_ERROR"),
        (|ask| ask.body = ask.body.replace("\"1900000109\"", "1900000109"), 400, "PARAM_ERROR"),
    ];
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.put_order(NUMBER, TradeState::NotPay);
    for (list, is_signed) in [(headers, false), (contents, true)] {
        for (index, (change, status, code)) in list.iter().enumerate() {
            for call in Call::ALL {
                let right = Ask::new(&sandbox.identity, call, NUMBER);
                let mut wrong = right.clone();
                change(&mut wrong);
                if (&wrong.url, &wrong.body) == (&right.url, &right.body) && is_signed {
                    continue;
                }
                let reply = wrong.send(&sandbox).await;
                assert_eq!((reply.status, &*reply.says()), (*status, *code), "{index} {call:?}: {reply:?}");
                assert_eq!((reply.is_signed(), reply.is_signed_by(Key::Platform)), (is_signed, is_signed), "{reply:?}");
            }
        }
    }
    assert_eq!(sandbox.gateway.order(NUMBER), Some(TradeState::NotPay));
    let twice = Ask::new(&sandbox.identity, Call::CloseOrder, NUMBER);
    let lines = "accept: application/json\r\naccept: application/json\r\n";
    let line = format!("{} {}", twice.method, twice.url);
    let url = sandbox.gateway.endpoints()[0].url();
    let reply = Reply::read(&exchange(&url, &line, lines, twice.body.as_bytes()).await.unwrap());
    assert_eq!(reply.says(), "INVALID_REQUEST", "a header that is there twice is not right");
    assert_eq!(twice.send(&sandbox).await.status, 204, "the request that all these were made from is right");
}

#[tokio::test]
async fn a_body_changed_after_it_was_signed_is_told_what_was_verified() {
    let sandbox = Sandbox::start().await.unwrap();
    let ask = Ask { key: Key::Foreign, ..Ask::new(&sandbox.identity, Call::CloseOrder, "1217752501201407") };
    let information = ask.send(&sandbox).await.json()["detail"]["sign_information"].clone();
    assert_eq!((&information["method"], &information["url"]), (&json!("POST"), &json!(ask.url)));
    assert!(information["truncated_sign_message"].as_str().unwrap().ends_with(&format!("\n{}\n", ask.body)));
}

#[tokio::test]
async fn each_fault_of_api_v3_is_what_its_name_says() {
    let body = r#"{"code":"USER_PAYING","message":""}"#;
    let sandbox = Sandbox::start().await.unwrap();
    let serial = &sandbox.identity.v3.certificate_serial;
    let fault = async |fault| {
        sandbox.gateway.put_order("number", TradeState::NotPay);
        sandbox.gateway.fault_on_next_calls(Times::Next(1), Fault::V3(fault));
        let reply = ask(&sandbox, Call::CloseOrder, "number").await;
        (reply, sandbox.gateway.order("number").unwrap())
    };
    let (reply, state) = fault(V3Fault::Signed(202, body)).await;
    assert_eq!((reply.status, &*reply.body, state), (202, body, TradeState::NotPay));
    assert!(reply.is_signed_by(Key::Platform));
    let (reply, state) = fault(V3Fault::Unsigned(401, body)).await;
    assert_eq!((reply.status, &*reply.body, state, reply.is_signed()), (401, body, TradeState::NotPay, false));

    let (reply, state) = fault(V3Fault::Clock(-600)).await;
    assert_eq!((reply.status, state), (204, TradeState::Closed));
    let age = now() - reply.header("wechatpay-timestamp").parse::<u64>().unwrap();
    assert!((600..605).contains(&age) && reply.is_signed_by(Key::Platform), "{reply:?}");
    let (reply, _) = fault(V3Fault::Certificate).await;
    assert_eq!((reply.header("wechatpay-serial"), reply.is_signed_by(Key::Certificate)), (&**serial, true));
    let (reply, _) = fault(V3Fault::SignTest).await;
    assert!(reply.header("wechatpay-signature").starts_with("WECHATPAY/SIGNTEST/"), "{reply:?}");
    let (reply, _) = fault(V3Fault::Header("wechatpay-nonce", None)).await;
    assert_eq!((reply.header("wechatpay-nonce"), reply.is_signed()), ("", true));
    let (reply, _) = fault(V3Fault::Header("wechatpay-serial", Some("0"))).await;
    assert_eq!((reply.header("wechatpay-serial"), reply.is_signed_by(Key::Platform)), ("0", true));
    let (reply, _) = fault(V3Fault::HeaderTwice("wechatpay-timestamp")).await;
    assert_eq!(reply.headers.iter().filter(|(name, _)| name == "wechatpay-timestamp").count(), 2);
}

#[tokio::test]
async fn the_faults_of_both_interfaces_have_their_like_here() {
    use Call::{CloseOrder, OrderQuery};

    let sandbox = Sandbox::start().await.unwrap();
    let mut asked = 0;
    let mut fault = async |call, fault| {
        asked += 1;
        let number = format!("number{asked}");
        sandbox.gateway.put_order(&number, TradeState::NotPay);
        sandbox.gateway.fault_on_order(&number, Times::Next(1), fault);
        let reply = ask(&sandbox, call, &number).await;
        (reply, sandbox.gateway.order(&number).unwrap())
    };
    for (call, made, status, says, key) in [
        (CloseOrder, Fault::Error("SYSTEM_ERROR"), 500, "SYSTEM_ERROR", Some(Key::Platform)),
        (CloseOrder, Fault::Error("NOAUTH"), 403, "NOAUTH", Some(Key::Platform)),
        (CloseOrder, Fault::Error("FREQUENCY_LIMITED"), 429, "FREQUENCY_LIMITED", Some(Key::Platform)),
        (CloseOrder, Fault::Error("SIGNERROR"), 401, "SIGN_ERROR", None),
        (OrderQuery, Fault::Error("ORDER_CLOSED"), 400, "ORDER_CLOSED", Some(Key::Platform)),
        (CloseOrder, Fault::UnsignedFail("系统繁忙"), 400, "SYSTEM_ERROR", None),
        (CloseOrder, Fault::UnsignedFail("签名错误"), 401, "SIGN_ERROR", None),
        (CloseOrder, Fault::UnsignedFail("商户号mch_id与appid不匹配"), 400, "APPID_MCHID_NOT_MATCH", None),
        (CloseOrder, Fault::RateLimit, 429, "FREQUENCY_LIMITED", None),
        (CloseOrder, Fault::Forge, 204, "", Some(Key::Foreign)),
        (OrderQuery, Fault::Forge, 200, "CLOSED", Some(Key::Foreign)),
        (CloseOrder, Fault::OtherCall, 200, "NOTPAY", Some(Key::Platform)),
        (OrderQuery, Fault::OtherCall, 204, "", Some(Key::Platform)),
        (CloseOrder, Fault::SignedFields(vec![("code", "NEW".to_owned())]), 200, "NEW", Some(Key::Platform)),
    ] {
        let (reply, state) = fault(call, made.clone()).await;
        assert_eq!((reply.status, &*reply.says()), (status, says), "{made:?}: {reply:?}");
        assert_eq!(reply.is_signed(), key.is_some(), "{made:?}");
        assert!(key.is_none_or(|key| reply.is_signed_by(key)), "{made:?}");
        assert_eq!(state, TradeState::NotPay, "{made:?}");
    }
    let (reply, _) = fault(CloseOrder, Fault::UnifiedOrder).await;
    assert!(reply.json()["prepay_id"].is_string() && reply.is_signed_by(Key::Platform));
    let edits = vec![("sub_mch_id", Some("1".to_owned())), ("trade_state", None)];
    let (reply, _) = fault(OrderQuery, Fault::Edit(edits.clone())).await;
    assert_eq!(
        (&reply.json()["sub_mchid"], &*reply.says(), reply.is_signed_by(Key::Platform)),
        (&json!("1"), "", true)
    );
    let (reply, _) = fault(OrderQuery, Fault::Tamper(edits)).await;
    assert_eq!((&reply.json()["sub_mchid"], reply.is_signed()), (&json!("1"), true));
    assert!(!reply.is_signed_by(Key::Platform));
    for call in Call::ALL {
        let (reply, _) = fault(call, Fault::Truncate).await;
        assert!(reply.is_signed() && !reply.is_signed_by(Key::Platform), "{reply:?}");
    }
    let genuine = ask(&sandbox, CloseOrder, "genuine").await;
    let (reply, state) = fault(CloseOrder, Fault::Replay).await;
    assert_eq!(reply.header("wechatpay-signature"), genuine.header("wechatpay-signature"));
    assert_eq!((reply.is_signed_by(Key::Platform), state), (true, TradeState::NotPay));
}

#[tokio::test]
async fn one_gateway_knows_several_merchants_of_both_kinds_and_whose_an_order_is() {
    let v3 = V3 { key: Key::Merchant(1), serial_no: "5".repeat(40), ..V3::default() };
    let other = Identity { mch_id: "1230000110".to_owned(), v3, ..Identity::merchant() };
    let sandbox = Sandbox::start().await.unwrap();
    let (partner, number) = (sandbox.identity.clone(), "number of the partner");
    let number = number.replace(' ', "_");
    sandbox.gateway.set_identities(vec![partner.clone(), other.clone()]);
    sandbox.gateway.put_order(&number, Order { mch_id: Some(partner.mch_id.clone()), ..TradeState::NotPay.into() });
    let says = async |ask: Ask| ask.send(&sandbox).await.says().replace('_', "");
    assert_eq!(says(Ask::new(&other, Call::OrderQuery, &number)).await, "ORDERNOTEXIST");
    assert_eq!(Ask::new(&other, Call::CloseOrder, &number).send(&sandbox).await.status, 204);
    assert_eq!(says(Ask::new(&partner, Call::OrderQuery, &number)).await, "NOTPAY");
    let stolen = Ask { key: partner.v3.key, ..Ask::new(&other, Call::CloseOrder, &number) };
    assert_eq!(says(stolen).await, "SIGNERROR", "one merchant's key is not another's");
}
