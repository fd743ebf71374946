//! WeChat Pay, by both of its interfaces: that it is strict, that its replies are like real ones, and that it does what its
//! faults say. What the function makes of that is shown by the function's own tests.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sandbox::{
    Sandbox,
    mock::{
        gateway::{Call, Fault, Order, Times, TradeState, transaction_id},
        identity::{Api, Flaw, Identity, MchType, Merchant, V3},
        rsa::Key,
        signed_xml::{Fields, read_xml, sign, xml},
    },
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{body_of, exchange, soon};
use Call::{CloseOrder, OrderQuery};

const NUMBER: &str = "1217752501201407033233368018";

const SUB_MCH_ID: &str = "1900000109";

/// A request, and what its signature is made with.
#[derive(Clone, Debug)]
struct Ask {
    method: &'static str,
    url: String,
    body: String,
    /// Of API v3: the key, the headers but `Authorization`, its scheme and its fields but the signature.
    key: Key,
    headers: BTreeMap<&'static str, String>,
    scheme: &'static str,
    fields: BTreeMap<&'static str, String>,
}

impl Ask {
    /// A right request of this merchant; the number stands in it as it is.
    fn new(identity: &Identity, api: Api, call: Call, number: &str) -> Self {
        if api == Api::V2 {
            Self::v2(call, &signed(order(identity, number), identity))
        } else {
            Self::v3(identity, call, number)
        }
    }

    fn v2(call: Call, fields: &Fields) -> Self {
        let url = if call == CloseOrder { "/pay/closeorder" } else { "/pay/orderquery" };
        let (headers, fields, body) = (BTreeMap::new(), BTreeMap::new(), xml(fields));
        Self { method: "POST", url: url.to_owned(), body, key: Key::Foreign, headers, scheme: "", fields }
    }

    fn v3(identity: &Identity, call: Call, number: &str) -> Self {
        let (mch_id, v3) = (&identity.mch_id, &identity.v3);
        let (path, merchants) = match identity.mch_type {
            MchType::Merchant => ("/v3/pay/transactions", vec![("mchid", &**mch_id)]),
            MchType::Partner => {
                ("/v3/pay/partner/transactions", vec![("sp_mchid", &**mch_id), ("sub_mchid", SUB_MCH_ID)])
            }
        };
        let path = format!("{path}/out-trade-no/{number}");
        let pairs: Vec<_> = merchants.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let body = json!(BTreeMap::from_iter(merchants)).to_string();
        let (method, url, body) = match call {
            CloseOrder => ("POST", format!("{path}/close"), body),
            OrderQuery => ("GET", format!("{path}?{}", pairs.join("&")), String::new()),
        };
        let headers = [
            ("accept", "application/json"),
            ("user-agent", "close-order/0.3.0"),
            ("wechatpay-serial", &v3.public_key_id),
            ("content-type", "application/json"),
        ];
        let fields = [
            ("mchid", &**mch_id),
            ("nonce_str", "593BEC0C930BF1AFEB40B4A08C8FB242"),
            ("timestamp", &now().to_string()),
            ("serial_no", &v3.serial_no),
        ];
        let owned = |(name, value): (&'static str, &str)| (name, value.to_owned());
        let headers = headers[..if body.is_empty() { 3 } else { 4 }].iter().copied().map(owned).collect();
        let fields = fields.map(owned).into();
        Self { method, url, body, key: v3.key, headers, scheme: "WECHATPAY2-SHA256-RSA2048", fields }
    }

    async fn send(&self, sandbox: &Sandbox) -> std::io::Result<Reply> {
        let Self { method, url, body, key, headers, scheme, fields } = self;
        let mut lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        if let (Some(timestamp), Some(nonce)) = (fields.get("timestamp"), fields.get("nonce_str")) {
            let signature = key.sign(&format!("{method}\n{url}\n{timestamp}\n{nonce}\n{body}\n"));
            let mut pairs: Vec<_> = fields.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            pairs.push(format!("signature=\"{signature}\""));
            lines.push(format!("authorization: {scheme} {}\r\n", pairs.join(",")));
        }
        let gateway = sandbox.gateway.endpoints()[0].url();
        let reply = exchange(&gateway, &format!("{method} {url}"), &lines.concat(), body.as_bytes()).await?;
        Reply::read(&reply).ok_or(std::io::ErrorKind::UnexpectedEof.into())
    }

    /// What comes back, in a word: `SUCCESS`, a code in its older spelling, a state, a status or how the connection ended,
    /// and whether that is signed.
    async fn said(&self, sandbox: &Sandbox) -> String {
        match soon(self.send(sandbox)).await {
            Ok(reply) => reply.says(&sandbox.identity),
            Err(error) => format!("{:?}", error.kind()),
        }
    }
}

/// An unsigned request of API v2.
fn order(identity: &Identity, number: &str) -> Fields {
    let sub_mch_id = (identity.mch_type == MchType::Partner).then_some(("sub_mch_id", SUB_MCH_ID));
    let fields = [
        ("appid", &*identity.appid),
        ("mch_id", &identity.mch_id),
        ("out_trade_no", number),
        ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
    ];
    fields.into_iter().chain(sub_mch_id).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn signed(mut fields: Fields, identity: &Identity) -> Fields {
    let sign_type = fields.get("sign_type").cloned().unwrap_or_default();
    let signature = sign(&fields, &identity.api_key, &sign_type);
    fields.insert("sign".to_owned(), signature);
    fields
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Reply {
    fn read(text: &str) -> Option<Self> {
        let mut lines = text.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.map_while(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into()));
        Some(Self { status, headers: headers.collect(), body: body_of(text).to_owned() })
    }

    /// The body's fields.
    fn fields(&self) -> Value {
        let of_v3 = || serde_json::from_str(&self.body).unwrap_or_default();
        read_xml(&self.body).map_or_else(of_v3, |fields| json!(fields))
    }

    fn says(&self, identity: &Identity) -> String {
        let header = |name: &str| self.headers.get(name).map(String::as_str).unwrap_or_default();
        let is_genuine = if let Some(fields) = read_xml(&self.body) {
            fields.get("sign").map(|found| *found == sign(&fields, &identity.api_key, "MD5"))
        } else {
            let [timestamp, nonce, signature, serial] =
                ["timestamp", "nonce", "signature", "serial"].map(|name| header(&format!("wechatpay-{name}")));
            let is_right = Key::Platform.verify(&format!("{timestamp}\n{nonce}\n{}\n", self.body), signature);
            (!signature.is_empty()).then_some(is_right && serial == identity.v3.public_key_id)
        };
        let fields = self.fields();
        let names = ["code", "err_code", "trade_state", "result_code", "return_code", "prepay_id"];
        let word = names.into_iter().find_map(|name| Some(fields.get(name)?.as_str()?.to_owned()));
        let word = word.unwrap_or_else(|| if self.status == 204 { "SUCCESS".into() } else { self.status.to_string() });
        let word = word.replace("TRADE_STATE", "TRADE").replace('_', "");
        match is_genuine {
            Some(true) => word,
            Some(false) => format!("{word}, forged"),
            None => format!("{word}, unsigned"),
        }
    }
}

/// Each interface, for each kind of merchant.
async fn sandboxes() -> Vec<(Sandbox, Api)> {
    let mut sandboxes = Vec::new();
    for identity in [Identity::default(), Identity::merchant()] {
        let sandbox = Sandbox::start_as(identity).await.unwrap();
        sandboxes.extend([(sandbox.clone(), Api::V2), (sandbox, Api::V3)]);
    }
    sandboxes
}

#[tokio::test]
async fn an_order_is_closed_and_queried_as_it_was_told() {
    let open = || Order::from(TradeState::NotPay);
    let limited = |state| Order { closes_limited: Times::Next(1), state_after_limit: state, ..open() };
    let lagging = || Order { queries_lagging: Times::Next(1), ..TradeState::Success.into() };
    let missed = || Order { queries_missing: Times::Next(1), ..TradeState::PayError.into() };
    let another_s = || Order { mch_id: Some("another".to_owned()), ..open() };
    for (sandbox, api) in sandboxes().await {
        for (order, close_query_close_query) in [
            (open(), "SUCCESS CLOSED ORDERCLOSED CLOSED"),
            (TradeState::Revoked.into(), "TRADEERROR REVOKED TRADEERROR REVOKED"),
            (TradeState::Accept.into(), "TRADEERROR ACCEPT TRADEERROR ACCEPT"),
            (Order { closes_not_sticking: Times::Next(1), ..open() }, "SUCCESS NOTPAY SUCCESS CLOSED"),
            (lagging(), "ORDERPAID NOTPAY ORDERPAID SUCCESS"),
            (missed(), "TRADEERROR ORDERNOTEXIST TRADEERROR PAYERROR"),
            (limited(None), "FREQUENCYLIMITED NOTPAY SUCCESS CLOSED"),
            (limited(Some(TradeState::Success)), "FREQUENCYLIMITED SUCCESS ORDERPAID SUCCESS"),
            (another_s(), "SUCCESS ORDERNOTEXIST SUCCESS ORDERNOTEXIST"),
        ] {
            sandbox.gateway.put_order(NUMBER, order);
            let mut said = Vec::new();
            for call in [CloseOrder, OrderQuery, CloseOrder, OrderQuery] {
                said.push(Ask::new(&sandbox.identity, api, call, NUMBER).said(&sandbox).await);
            }
            assert_eq!(said.join(" "), close_query_close_query, "{api:?}");
        }
    }
}

#[tokio::test]
async fn a_fault_is_what_its_name_says_and_touches_the_order_or_does_not() {
    use TradeState::{Closed, NotPay};

    let edit = |name, value: &str| vec![(name, Some(value.to_owned()))];
    for (sandbox, api) in sandboxes().await {
        for (call, fault, expected, after) in [
            (CloseOrder, Fault::Error("SYSTEMERROR"), "SYSTEMERROR", NotPay),
            (CloseOrder, Fault::Forge, "SUCCESS, forged", NotPay),
            (OrderQuery, Fault::Forge, "CLOSED, forged", NotPay),
            (OrderQuery, Fault::Replay, "CLOSED", NotPay),
            (CloseOrder, Fault::ResetIfReused, "SUCCESS", Closed),
            (CloseOrder, Fault::Replay, "SUCCESS", NotPay),
            (CloseOrder, Fault::OtherCall, "NOTPAY", NotPay),
            (OrderQuery, Fault::OtherCall, "SUCCESS", NotPay),
            (CloseOrder, Fault::Status(502), "502, unsigned", NotPay),
            (CloseOrder, Fault::Reset, "ConnectionReset", NotPay),
            (CloseOrder, Fault::ResetAfter, "ConnectionReset", Closed),
            (CloseOrder, Fault::CloseAfter, "UnexpectedEof", Closed),
            (OrderQuery, Fault::Edit(edit("trade_state", "ANOTHER")), "ANOTHER", NotPay),
            (OrderQuery, Fault::Tamper(edit("trade_state", "ANOTHER")), "ANOTHER, forged", NotPay),
        ] {
            sandbox.gateway.put_order(NUMBER, NotPay);
            sandbox.gateway.fault_on_order_call(NUMBER, call, Times::Next(1), fault.clone());
            let said = Ask::new(&sandbox.identity, api, call, NUMBER).said(&sandbox).await;
            assert_eq!((&*said, sandbox.gateway.order(NUMBER)), (expected, Some(after)), "{api:?} {fault:?}");
        }
        for (fault, v2, v3) in [
            (Fault::UnsignedFail("系统繁忙"), "FAIL, unsigned", "SYSTEMERROR, unsigned"),
            (Fault::UnsignedFail("签名错误"), "FAIL, unsigned", "SIGNERROR, unsigned"),
            (Fault::RateLimit, "FAIL, unsigned", "FREQUENCYLIMITED, unsigned"),
            (Fault::UnifiedOrder, "SUCCESS", "wx201411101639507cbf6ffd8b0779950874"),
            (Fault::Truncate, "200, unsigned", "SUCCESS, forged"),
        ] {
            sandbox.gateway.fault_on_next_calls(Times::Next(1), fault.clone());
            let said = Ask::new(&sandbox.identity, api, CloseOrder, "another").said(&sandbox).await;
            assert_eq!(said, if api == Api::V2 { v2 } else { v3 }, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn half_of_the_numbers_get_the_older_spelling_of_a_code_of_api_v3_and_half_the_newer() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut codes = Vec::new();
    for number in ["number0", "number1"] {
        sandbox.gateway.put_order(number, TradeState::Success);
        codes.push(
            Ask::v3(&sandbox.identity, CloseOrder, number).send(&sandbox).await.unwrap().fields()["code"].clone(),
        );
    }
    codes.sort_by_key(Value::to_string);
    assert_eq!(codes, ["ORDERPAID", "ORDER_PAID"]);
}

#[tokio::test]
async fn a_request_of_api_v2_that_is_wrong_in_itself_is_told_why_and_touches_no_order() {
    let partner = Sandbox::start().await.unwrap();
    let merchant = Sandbox::start_as(Identity::merchant()).await.unwrap();
    let long = "1".repeat(33);
    let mut asks = Vec::new();
    for (sandbox, name, value, message) in [
        (&partner, "appid", None, "缺少参数appid"),
        (&partner, "mch_id", None, "缺少参数mch_id"),
        (&partner, "out_trade_no", None, "缺少参数out_trade_no"),
        (&partner, "nonce_str", None, "缺少参数nonce_str"),
        (&partner, "sub_mch_id", None, "受理机构必须传入sub_mch_id"),
        (&partner, "nonce_str", Some(&*long), "参数格式校验错误: nonce_str"),
        (&partner, "appid", Some("wx"), "appid不存在"),
        (&partner, "mch_id", Some("1"), "mch_id不存在"),
        (&partner, "sign_type", Some("MD4"), "签名类型错误"),
        (&merchant, "sub_mch_id", Some("1"), "普通商户不允许传sub_mch_id"),
        (&merchant, "sub_appid", Some("1"), "普通商户不允许传sub_appid"),
    ] {
        let mut fields = order(&sandbox.identity, NUMBER);
        fields.remove(name);
        fields.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        let fields = signed(fields, &sandbox.identity);
        asks.extend([CloseOrder, OrderQuery].map(|call| (sandbox, Ask::v2(call, &fields), message)));
    }
    let right = signed(order(&partner.identity, NUMBER), &partner.identity);
    for signature in [right["sign"].to_lowercase(), "0".repeat(32)] {
        let wrong = right.clone().into_iter().chain([("sign".to_owned(), signature)]).collect();
        asks.extend([CloseOrder, OrderQuery].map(|call| (&partner, Ask::v2(call, &wrong), "签名错误")));
    }
    let right = Ask::v2(CloseOrder, &right);
    asks.push((&partner, Ask { method: "GET", ..right.clone() }, "请使用post方法"));
    asks.push((&partner, Ask { body: "<xml><a></xml>".to_owned(), ..right.clone() }, "XML格式错误"));
    for (sandbox, ask, message) in asks {
        sandbox.gateway.put_order(NUMBER, TradeState::NotPay);
        let reply = read_xml(&ask.send(sandbox).await.unwrap().body).unwrap();
        assert_eq!((reply.len(), &*reply["return_code"], &*reply["return_msg"]), (2, "FAIL", message));
        assert_eq!(sandbox.gateway.order(NUMBER), Some(TradeState::NotPay), "{message}");
    }
    for url in ["/pay/closeorder/", "/pay/refundquery", "/"] {
        assert_eq!(Ask { url: url.to_owned(), ..right.clone() }.send(&partner).await.unwrap().status, 404, "{url}");
    }
    assert_eq!(partner.gateway.order(NUMBER), Some(TradeState::NotPay));
    assert_eq!(right.said(&partner).await, "SUCCESS", "what all these were made from is right");
}

#[tokio::test]
async fn a_request_of_api_v3_that_is_wrong_in_itself_touches_no_order_and_is_signed_once_it_is_known_whose_it_is() {
    const ESCAPED: &str = "a%7Cb%2Ac%40d_e-f";
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.put_order("a|b*c@d_e-f", TradeState::NotPay);
    let right = |call| Ask::v3(&sandbox.identity, call, ESCAPED);
    let mut asks = Vec::new();
    for call in [CloseOrder, OrderQuery] {
        for (name, value) in [
            ("accept", ""),
            ("accept", "*/*"),
            ("accept", "application/json\r\naccept: application/json"),
            ("user-agent", ""),
            ("user-agent", "close-order/"),
            ("accept-encoding", "gzip"),
            ("content-type", "text/plain"),
            ("wechatpay-serial", ""),
            ("wechatpay-serial", "PUB_KEY_ID_0"),
        ] {
            let mut wrong = right(call);
            wrong.headers.insert(name, value.to_owned());
            asks.push((wrong, 400, "INVALIDREQUEST, unsigned"));
        }
        for (name, value) in [
            ("mchid", "1".to_owned()),
            ("serial_no", "0".repeat(40)),
            ("extra", "1".to_owned()),
            ("nonce_str", String::new()),
            ("timestamp", (now() - 310).to_string()),
            ("timestamp", (now() * 1000).to_string()),
        ] {
            let mut wrong = right(call);
            wrong.fields.insert(name, value);
            asks.push((wrong, 401, "SIGNERROR, unsigned"));
        }
        asks.push((Ask { scheme: "WECHATPAY2-SM2-WITH-SM3", ..right(call) }, 401, "SIGNERROR, unsigned"));
        asks.push((Ask { key: Key::Merchant(1), ..right(call) }, 401, "SIGNERROR, unsigned"));
        for (part, instead, status, code) in [
            ("%7C", "%7c", 400, "PARAMERROR"),
            ("%2A", "*", 400, "PARAMERROR"),
            ("%", "%25", 400, "PARAMERROR"),
            ("/a%", "/%61%", 400, "PARAMERROR"),
            (ESCAPED, "short", 400, "PARAMERROR"),
            ("partner/", "", 403, "NOAUTH"),
            ("?", "?appid=1&", 400, "PARAMERROR"),
            ("/close", "/close?mchid=1", 400, "PARAMERROR"),
            ("_mchid=", "_mch_id=", 400, "PARAMERROR"),
            ("sp_mchid=1230000109", "sp_mchid=1", 400, "INVALIDREQUEST"),
            (":\"1230000109\"", ":\"1\"", 400, "INVALIDREQUEST"),
            ("{", "{\"nonce_str\":\"1\",", 400, "PARAMERROR"),
            (",\"sub_mchid\":\"1900000109\"", "", 400, "PARAMERROR"),
            ("\"1900000109\"", "1900000109", 400, "PARAMERROR"),
        ] {
            let right = right(call);
            let (url, body) = (right.url.replace(part, instead), right.body.replace(part, instead));
            // Not every part is one of either call.
            if (&url, &body) != (&right.url, &right.body) {
                asks.push((Ask { url, body, ..right }, status, code));
            }
        }
    }
    for (ask, status, says) in asks {
        let reply = ask.send(&sandbox).await.unwrap();
        assert_eq!((reply.status, &*reply.says(&sandbox.identity)), (status, says), "{ask:?}");
    }
    assert_eq!(sandbox.gateway.order("a|b*c@d_e-f"), Some(TradeState::NotPay));
    let echo = Ask { key: Key::Foreign, ..right(CloseOrder) }.send(&sandbox).await.unwrap().fields();
    let signed = echo["detail"]["sign_information"]["truncated_sign_message"].as_str().unwrap();
    assert!(signed.ends_with(&format!("\n{}\n", right(CloseOrder).body)), "what was verified is echoed: {echo}");
    assert_eq!(right(CloseOrder).said(&sandbox).await, "SUCCESS", "what all these were made from is right");
    assert_eq!(sandbox.gateway.order("a|b*c@d_e-f"), Some(TradeState::Closed));
}

#[tokio::test]
async fn replies_of_api_v2_have_the_forms_of_the_vectors_in_the_algorithm_of_the_request() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../../../tests/vectors.json")).unwrap();
    for (name, call, state) in [
        ("reply, closed", CloseOrder, Some(TradeState::NotPay)),
        ("ordinary merchant's close, empty sub_mch_id, no result_msg", CloseOrder, Some(TradeState::NotPay)),
        ("ordinary merchant's ORDERPAID", CloseOrder, Some(TradeState::Success)),
        ("partner's orderquery reply, NOTPAY", OrderQuery, Some(TradeState::NotPay)),
        ("partner's orderquery reply, CLOSED", OrderQuery, Some(TradeState::Closed)),
        ("orderquery reply, ORDERNOTEXIST", OrderQuery, None),
    ] {
        let vector = vectors.iter().find(|vector| vector["name"] == name).unwrap();
        let expected: Fields = serde_json::from_value(vector["params"].clone()).unwrap();
        let is_partner = expected.get("sub_mch_id").is_some_and(|sub_mch_id| !sub_mch_id.is_empty());
        let field = |name: &str| expected[name].clone();
        let identity = if is_partner { Identity::default() } else { Identity::merchant() };
        let identity = Identity { appid: field("appid"), mch_id: field("mch_id"), ..identity };
        let identity = identity.with_key(vector["key"].as_str().unwrap());
        let sandbox = Sandbox::start_as(identity.clone()).await.unwrap();
        for sign_type in ["MD5", "HMAC-SHA256"] {
            if let Some(state) = state {
                sandbox.gateway.put_order(NUMBER, state);
            }
            let mut request = order(&identity, NUMBER);
            request.insert("sign_type".to_owned(), sign_type.to_owned());
            if is_partner {
                request.insert("sub_mch_id".to_owned(), field("sub_mch_id"));
            }
            let reply = Ask::v2(call, &signed(request, &identity)).send(&sandbox).await.unwrap();
            let mut reply = read_xml(&reply.body).unwrap();
            assert_eq!(reply.remove("sign").unwrap(), sign(&reply, &identity.api_key, sign_type), "{name}");
            reply.insert("nonce_str".to_owned(), field("nonce_str"));
            assert_eq!(reply, expected, "{name}: all but the nonce is the vector's");
        }
    }
}

#[tokio::test]
async fn queries_of_api_v3_have_the_forms_of_the_vectors() {
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors-v3.json")).unwrap();
    let sandbox =
        Sandbox::start_as(Identity { mch_id: "1900007291".to_owned(), ..Identity::merchant() }).await.unwrap();
    for (name, state) in
        [("200 NOTPAY", TradeState::NotPay), ("200 CLOSED", TradeState::Closed), ("200 SUCCESS", TradeState::Success)]
    {
        let vector = vectors["replies"].as_array().unwrap().iter().find(|vector| vector["name"] == name).unwrap();
        let mut expected: Value = serde_json::from_str(vector["body"].as_str().unwrap()).unwrap();
        sandbox.gateway.put_order(NUMBER, state);
        let reply = Ask::v3(&sandbox.identity, OrderQuery, NUMBER).send(&sandbox).await.unwrap();
        expected["amount"]["total"] = json!(10);
        if state == TradeState::Success {
            expected["amount"]["payer_total"] = json!(10);
            expected["success_time"] = json!("2026-11-23T08:15:00+08:00");
            expected["transaction_id"] = json!(transaction_id(NUMBER));
        }
        assert_eq!(reply.fields(), expected, "{name}");
    }
}

#[tokio::test]
async fn each_of_several_merchants_signs_with_its_own_key_and_has_a_rate_limit_of_its_own() {
    let v3 = V3 { key: Key::Merchant(1), serial_no: "5".repeat(40), ..V3::default() };
    let other = Identity { mch_id: "1230000110".to_owned(), v3, ..Identity::merchant() }.with_key("another");
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.set_identities(vec![sandbox.identity.clone(), other.clone()]);
    let wrong = Merchant { identity: other.with_api(Api::V3), flaw: Some(Flaw::WrongKey) }.secret().unwrap();
    assert_eq!(wrong["serial_no"], other.v3.serial_no);
    assert_ne!(wrong["private_key"], other.v3.key.private_pem());
    let stolen = Ask { key: sandbox.identity.v3.key, ..Ask::v3(&other, CloseOrder, NUMBER) };
    assert_eq!(stolen.said(&sandbox).await, "SIGNERROR, unsigned");
    let stolen = signed(order(&other, NUMBER), &sandbox.identity);
    assert_eq!(Ask::v2(CloseOrder, &stolen).said(&sandbox).await, "FAIL, unsigned");
    sandbox.gateway.set_rate_limit(Some(1));
    let mut taken = [0, 0];
    for _ in 0..4 {
        for (merchant, taken) in [&sandbox.identity, &other].into_iter().zip(&mut taken) {
            let said = Ask::v3(merchant, CloseOrder, NUMBER).said(&sandbox).await;
            *taken += usize::from(said == "SUCCESS");
        }
    }
    // The second may change meanwhile.
    assert!(taken.iter().all(|taken| (1..4).contains(taken)), "{taken:?}");
}

#[tokio::test]
async fn whoever_watches_hears_of_each_exchange_when_it_is_over_whatever_was_forgotten_meanwhile() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut watch = sandbox.gateway.watch();
    let ask = |number| Ask::new(&sandbox.identity, Api::V2, CloseOrder, number);
    sandbox.gateway.fault_on_order("dead", Times::Always, Fault::Hang);
    let _ = timeout(Duration::from_millis(300), ask("dead").said(&sandbox)).await;
    let dead = soon(watch.recv()).await.unwrap();
    assert_eq!((&*dead.fields["out_trade_no"], dead.call, dead.reply), ("dead", Some(CloseOrder), None));
    assert!(matches!(dead.fault, Some(Fault::Hang)));
    sandbox.gateway.clear_received();
    ask("1").said(&sandbox).await;
    assert!(soon(watch.recv()).await.unwrap().reply.unwrap().contains("SUCCESS"));
    assert_eq!(sandbox.gateway.received().len(), 1);
}
