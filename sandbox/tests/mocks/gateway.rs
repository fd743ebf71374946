//! WeChat Pay.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use sandbox::{
    Sandbox,
    mock::{
        gateway::{Call, Fault, OPENID, Order, Received, Times, TradeState, transaction_id},
        identity::Identity,
        listener::Break,
        signed_xml::{Fields, read_xml, sign, xml},
    },
};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{KEY, body_of, exchange, soon};

fn order(out_trade_no: &str) -> Fields {
    [
        ("appid", "wxd678efh567hg6787"),
        ("mch_id", "1230000109"),
        ("sub_mch_id", "1900000109"),
        ("out_trade_no", out_trade_no),
        ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn signed(mut fields: Fields) -> Fields {
    let sign_type = fields.get("sign_type").cloned().unwrap_or_default();
    let sign = sign(&fields, KEY, &sign_type);
    fields.insert("sign".to_owned(), sign);
    fields
}

async fn send(sandbox: &Sandbox, call: Call, fields: &Fields) -> std::io::Result<String> {
    let url = sandbox.gateway.endpoints()[0].url();
    exchange(&url, &format!("POST {}", call.path()), "", xml(fields).as_bytes()).await
}

async fn close(sandbox: &Sandbox, out_trade_no: &str) -> std::io::Result<String> {
    send(sandbox, Call::CloseOrder, &signed(order(out_trade_no))).await
}

async fn reply_to(sandbox: &Sandbox, call: Call, fields: &Fields) -> Fields {
    read_xml(body_of(&send(sandbox, call, fields).await.unwrap())).unwrap()
}

async fn fields_of(sandbox: &Sandbox, fields: &Fields) -> Fields {
    reply_to(sandbox, Call::CloseOrder, fields).await
}

/// What closeorder and orderquery say: `err_code`, else `trade_state`, else `result_code`, else `return_msg`.
async fn said(sandbox: &Sandbox, call: Call, out_trade_no: &str) -> String {
    let reply = reply_to(sandbox, call, &signed(order(out_trade_no))).await;
    let names = ["err_code", "trade_state", "result_code", "return_msg"];
    names.into_iter().find_map(|name| reply.get(name).cloned()).unwrap()
}

#[tokio::test]
async fn every_state_of_an_order_has_its_reply_signed_and_in_plain_text() {
    let sandbox = Sandbox::start().await.unwrap();
    for (state, code, after) in [
        (Some(TradeState::NotPay), None, Some(TradeState::Closed)),
        (Some(TradeState::Closed), Some("ORDERCLOSED"), Some(TradeState::Closed)),
        (Some(TradeState::Success), Some("ORDERPAID"), Some(TradeState::Success)),
        (Some(TradeState::UserPaying), Some("USERPAYING"), Some(TradeState::UserPaying)),
        (Some(TradeState::Refund), Some("ORDERPAID"), Some(TradeState::Refund)),
        (Some(TradeState::Revoked), Some("TRADE_STATE_ERROR"), Some(TradeState::Revoked)),
        (Some(TradeState::PayError), Some("TRADE_STATE_ERROR"), Some(TradeState::PayError)),
        (Some(TradeState::Accept), Some("TRADE_STATE_ERROR"), Some(TradeState::Accept)),
        (None, None, None),
    ] {
        let no = format!("{state:?}").replace(['(', ')'], "_");
        if let Some(state) = state {
            sandbox.gateway.put_order(&no, state);
        }
        let reply = close(&sandbox, &no).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        assert!(reply.contains("content-type: text/plain") && reply.contains("request-id: "), "{reply}");
        assert!(body_of(&reply).contains("<![CDATA["));
        let fields = read_xml(body_of(&reply)).unwrap();
        assert_eq!(fields.get("err_code").map(String::as_str), code, "{state:?}");
        assert_eq!(fields["result_code"], if code.is_none() { "SUCCESS" } else { "FAIL" });
        assert_eq!(fields["sign"], sign(&fields, KEY, "MD5"));
        assert_ne!(fields["nonce_str"], order(&no)["nonce_str"]);
        assert_eq!(sandbox.gateway.order(&no), after);
    }
}

#[tokio::test]
async fn a_reply_is_signed_in_the_algorithm_of_the_request_and_does_not_name_it() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut request = order("A|*@_-1");
    request.insert("sign_type".into(), "HMAC-SHA256".into());
    request.insert("sub_appid".into(), "wx8888888888888888".into());
    let reply = fields_of(&sandbox, &signed(request)).await;
    assert_eq!(reply["sign"], sign(&reply, KEY, "HMAC-SHA256"));
    assert_eq!(reply["sub_appid"], "wx8888888888888888");
    assert!(!reply.contains_key("sign_type"));
}

#[tokio::test]
async fn a_request_that_is_wrong_in_itself_gets_an_unsigned_fail_from_either_call() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.put_order("1", TradeState::NotPay);
    let mut wrong: Vec<(Fields, String)> = Vec::new();
    for name in ["appid", "mch_id", "sub_mch_id", "out_trade_no", "nonce_str"] {
        let mut fields = order("1");
        fields.remove(name);
        let message =
            if name == "sub_mch_id" { "受理机构必须传入sub_mch_id" } else { &format!("缺少参数{name}") };
        wrong.push((signed(fields), message.to_owned()));
        let mut fields = order("1");
        fields.insert(name.to_owned(), "1".repeat(33));
        wrong.push((signed(fields), name.to_owned()));
    }
    let mut fields = signed(order("1"));
    fields.insert("sign".to_owned(), "0".repeat(32));
    wrong.push((fields, "签名错误".to_owned()));
    for call in Call::ALL {
        for (fields, message) in &wrong {
            is_unsigned_fail(&reply_to(&sandbox, call, fields).await, message);
        }
    }
    assert_eq!(sandbox.gateway.order("1"), Some(TradeState::NotPay));
}

#[tokio::test]
async fn an_ordinary_merchant_must_not_name_a_sub_merchant() {
    let sandbox = Sandbox::start_as(Identity::merchant()).await.unwrap();
    sandbox.gateway.put_order("1", TradeState::NotPay);
    let mut own = order("1");
    own.remove("sub_mch_id");
    for call in Call::ALL {
        for name in ["sub_mch_id", "sub_appid"] {
            let mut fields = own.clone();
            fields.insert(name.to_owned(), "1230000109".to_owned());
            is_unsigned_fail(&reply_to(&sandbox, call, &signed(fields)).await, &format!("普通商户不允许传{name}"));
        }
    }
    assert_eq!(sandbox.gateway.order("1"), Some(TradeState::NotPay));
    let reply = fields_of(&sandbox, &signed(own)).await;
    assert_eq!((&*reply["result_code"], &*reply["sub_mch_id"]), ("SUCCESS", ""));
    assert!(!reply.contains_key("result_msg"), "{reply:?}");
}

fn is_unsigned_fail(reply: &Fields, message: &str) {
    assert_eq!(reply["return_code"], "FAIL");
    assert!(reply["return_msg"].contains(message), "{reply:?}: {message}");
    assert!(!reply.contains_key("sign") && !reply.contains_key("result_code"), "{reply:?}");
}

/// A published or own vector: what is signed, and the signatures that openssl gives.
#[derive(Deserialize)]
struct Vector {
    name: String,
    key: String,
    params: Fields,
    #[serde(rename = "MD5")]
    md5: Option<String>,
    #[serde(rename = "HMAC-SHA256")]
    hmac_sha256: Option<String>,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../../../tests/vectors.json")).unwrap()
}

/// The merchant of a vector.
fn identity(vector: &Vector, is_partner: bool) -> Identity {
    let identity = if is_partner { Identity::default() } else { Identity::merchant() };
    let field = |name: &str| vector.params[name].clone();
    Identity { appid: field("appid"), mch_id: field("mch_id"), api_key: vector.key.clone(), ..identity }
}

#[tokio::test]
async fn a_request_is_taken_with_the_signature_that_openssl_gives_and_with_no_other() {
    let requests = vectors().into_iter().filter(|vector| vector.name.contains("closeorder request"));
    let mut checked = 0;
    for vector in requests {
        let sandbox = Sandbox::start_as(identity(&vector, vector.params.contains_key("sub_mch_id"))).await.unwrap();
        let hmac = vector.hmac_sha256.as_ref().filter(|_| vector.params.contains_key("sign_type"));
        let signature = hmac.or(vector.md5.as_ref()).unwrap().clone();
        let mut request = vector.params.clone();
        for call in Call::ALL {
            request.insert("sign".to_owned(), signature.clone());
            assert_eq!(reply_to(&sandbox, call, &request).await["return_code"], "SUCCESS", "{}", vector.name);
            request.insert("sign".to_owned(), signature.to_lowercase());
            is_unsigned_fail(&reply_to(&sandbox, call, &request).await, "签名错误");
        }
        checked += 1;
    }
    assert_eq!(checked, 5);
}

#[tokio::test]
async fn replies_have_the_forms_and_signatures_of_the_vectors() {
    let vectors = vectors();
    for (name, call, state) in [
        ("reply, closed", Call::CloseOrder, Some(TradeState::NotPay)),
        ("ordinary merchant's close, empty sub_mch_id, no result_msg", Call::CloseOrder, Some(TradeState::NotPay)),
        ("ordinary merchant's ORDERPAID", Call::CloseOrder, Some(TradeState::Success)),
        ("partner's orderquery reply, NOTPAY", Call::OrderQuery, Some(TradeState::NotPay)),
        ("partner's orderquery reply, CLOSED", Call::OrderQuery, Some(TradeState::Closed)),
        ("orderquery reply, ORDERNOTEXIST", Call::OrderQuery, None),
    ] {
        let vector = vectors.iter().find(|vector| vector.name == name).unwrap();
        let sub_mch_id = vector.params.get("sub_mch_id").filter(|sub_mch_id| !sub_mch_id.is_empty());
        let is_partner = sub_mch_id.is_some();
        let number = "1217752501201407033233368018";
        for (sign_type, expected) in [("MD5", &vector.md5), ("HMAC-SHA256", &vector.hmac_sha256)] {
            let sandbox = Sandbox::start_as(identity(vector, is_partner)).await.unwrap();
            if let Some(state) = state {
                sandbox.gateway.put_order(number, state);
            }
            let mut request = order(number);
            request.insert("sign_type".to_owned(), sign_type.to_owned());
            for name in ["appid", "mch_id"] {
                request.insert(name.to_owned(), vector.params[name].clone());
            }
            request.remove("sub_mch_id");
            request.extend(sub_mch_id.map(|sub_mch_id| ("sub_mch_id".to_owned(), sub_mch_id.clone())));
            let mut reply = reply_to(&sandbox, call, &signed(request)).await;
            assert_eq!(reply.remove("sign").unwrap(), sign(&reply, &vector.key, sign_type), "{name}");
            // All but the nonce is the vector's, and with the vector's nonce so is the signature.
            reply.insert("nonce_str".to_owned(), vector.params["nonce_str"].clone());
            assert_eq!(reply, vector.params, "{name}");
            assert_eq!(&Some(sign(&reply, &vector.key, sign_type)), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn a_query_says_each_state_and_of_a_paid_order_how_it_was_paid() {
    let sandbox = Sandbox::start().await.unwrap();
    for state in TradeState::ALL {
        sandbox.gateway.put_order("1", Order { attach: "shop 7".to_owned(), total_fee: 250, ..state.into() });
        let reply = reply_to(&sandbox, Call::OrderQuery, &signed(order("1"))).await;
        assert_eq!(reply["sign"], sign(&reply, KEY, "MD5"));
        assert_eq!((&*reply["trade_state"], &*reply["out_trade_no"]), (state.name(), "1"));
        assert!(!reply["trade_state_desc"].is_empty());
        let paid = ["openid", "total_fee", "transaction_id", "attach", "fee_type", "time_end", "trade_type"]
            .map(|name| reply.get(name).map(String::as_str).unwrap_or_default());
        if state.is_paid() {
            let transaction_id = transaction_id("1");
            assert_eq!(paid, [OPENID, "250", &transaction_id, "shop 7", "CNY", "20261123081500", "JSAPI"]);
        } else {
            assert_eq!((paid[0], paid[2], paid[5]), ("", "", ""), "{reply:?}");
        }
        assert_eq!(sandbox.gateway.order("1"), Some(state), "a query changes nothing");
    }
    assert_ne!(transaction_id("1"), transaction_id("2"));
}

#[tokio::test]
async fn a_number_that_no_order_has_is_closed_and_does_not_exist() {
    let sandbox = Sandbox::start().await.unwrap();
    assert_eq!(said(&sandbox, Call::CloseOrder, "1").await, "SUCCESS");
    assert_eq!(said(&sandbox, Call::OrderQuery, "1").await, "ORDERNOTEXIST");
    assert_eq!(sandbox.gateway.order("1"), None);
}

#[tokio::test]
async fn closes_that_do_not_stick_or_are_limited_and_queries_that_lag_or_miss_the_order() {
    use Call::{CloseOrder, OrderQuery};

    let sandbox = Sandbox::start().await.unwrap();
    let not_pay = || Order::from(TradeState::NotPay);
    let limited = |state| Order { closes_limited: Times::Next(1), state_after_limit: state, ..not_pay() };
    for (number, order, expected) in [
        (
            "sticks late",
            Order { closes_not_sticking: Times::Next(1), ..not_pay() },
            [(CloseOrder, "SUCCESS"), (OrderQuery, "NOTPAY"), (CloseOrder, "SUCCESS"), (OrderQuery, "CLOSED")],
        ),
        (
            "never sticks",
            Order { closes_not_sticking: Times::Always, ..not_pay() },
            [(CloseOrder, "SUCCESS"), (OrderQuery, "NOTPAY"), (CloseOrder, "SUCCESS"), (OrderQuery, "NOTPAY")],
        ),
        (
            "paid late",
            Order { queries_lagging: Times::Next(1), ..TradeState::Success.into() },
            [(CloseOrder, "ORDERPAID"), (OrderQuery, "NOTPAY"), (CloseOrder, "ORDERPAID"), (OrderQuery, "SUCCESS")],
        ),
        (
            "missed once",
            Order { queries_missing: Times::Next(1), ..not_pay() },
            [
                (CloseOrder, "SUCCESS"),
                (OrderQuery, "ORDERNOTEXIST"),
                (CloseOrder, "ORDERCLOSED"),
                (OrderQuery, "CLOSED"),
            ],
        ),
        (
            "missed later",
            Order {
                closes_not_sticking: Times::Always,
                queries_finding: Times::Next(1),
                queries_missing: Times::Always,
                ..not_pay()
            },
            [(CloseOrder, "SUCCESS"), (OrderQuery, "NOTPAY"), (CloseOrder, "SUCCESS"), (OrderQuery, "ORDERNOTEXIST")],
        ),
        (
            "being paid and missed",
            Order { queries_missing: Times::Always, ..TradeState::UserPaying.into() },
            [
                (CloseOrder, "USERPAYING"),
                (OrderQuery, "ORDERNOTEXIST"),
                (CloseOrder, "USERPAYING"),
                (OrderQuery, "ORDERNOTEXIST"),
            ],
        ),
        (
            "limited",
            limited(None),
            [
                (CloseOrder, "FREQUENCY_LIMITED"),
                (OrderQuery, "NOTPAY"),
                (CloseOrder, "SUCCESS"),
                (OrderQuery, "CLOSED"),
            ],
        ),
        (
            "limited and paid",
            limited(Some(TradeState::Success)),
            [
                (CloseOrder, "FREQUENCY_LIMITED"),
                (OrderQuery, "SUCCESS"),
                (CloseOrder, "ORDERPAID"),
                (OrderQuery, "SUCCESS"),
            ],
        ),
    ] {
        sandbox.gateway.put_order(number, order);
        for (call, expected) in expected {
            assert_eq!(said(&sandbox, call, number).await, expected, "{number}");
        }
    }
}

#[tokio::test]
async fn of_two_closes_at_once_one_is_limited() {
    let sandbox = Sandbox::start().await.unwrap();
    let slow = Order { close_time: Duration::from_millis(300), ..TradeState::NotPay.into() };
    sandbox.gateway.put_order("1", slow);
    let close = || said(&sandbox, Call::CloseOrder, "1");
    let mut said: [String; 2] = tokio::join!(close(), close()).into();
    said.sort();
    assert_eq!(said, ["FREQUENCY_LIMITED", "SUCCESS"]);
    assert_eq!(sandbox.gateway.order("1"), Some(TradeState::Closed));
    assert_eq!(close().await, "ORDERCLOSED");
}

#[tokio::test]
async fn a_fault_can_be_one_calls_alone() {
    let sandbox = Sandbox::start().await.unwrap();
    let gateway = &sandbox.gateway;
    gateway.put_order("1", TradeState::NotPay);
    let down = Fault::Error("SYSTEMERROR");
    let ask = async || (said(&sandbox, Call::CloseOrder, "1").await, said(&sandbox, Call::OrderQuery, "1").await);
    let pair = |close: &str, query: &str| (close.to_owned(), query.to_owned());
    gateway.fault_on_order_call("1", Call::CloseOrder, Times::Next(1), down.clone());
    assert_eq!(ask().await, pair("SYSTEMERROR", "NOTPAY"));
    gateway.fault_on_call(Call::OrderQuery, Times::Always, down.clone());
    assert_eq!(ask().await, pair("SUCCESS", "SYSTEMERROR"));
    gateway.clear_faults();
    gateway.endpoints()[0].set_call_fault(Call::CloseOrder, Some(down.clone()));
    assert_eq!(ask().await, pair("SYSTEMERROR", "CLOSED"));
    gateway.endpoints()[0].set_fault(Some(down));
    assert_eq!(ask().await, pair("SYSTEMERROR", "SYSTEMERROR"));
    gateway.endpoints()[0].set_fault(None);
    assert_eq!(ask().await, pair("ORDERCLOSED", "CLOSED"));
    assert_eq!((gateway.count(Call::CloseOrder), gateway.count(Call::OrderQuery)), (5, 5));
}

#[tokio::test]
async fn genuine_replies_of_elsewhere_are_rightly_signed_and_touch_no_order() {
    let sandbox = Sandbox::start().await.unwrap();
    let gateway = &sandbox.gateway;
    gateway.put_order("1", TradeState::NotPay);
    gateway.put_order("2", TradeState::NotPay);
    let own = vec![("return_code", "SUCCESS".to_owned()), ("refund_id", "5".to_owned())];
    let first = |reply: &Fields| reply["nonce_str"].clone();
    let earlier = first(&fields_of(&sandbox, &signed(order("2"))).await);
    for (call, fault, name, value) in [
        (Call::CloseOrder, Fault::Replay, "nonce_str", &*earlier),
        (Call::OrderQuery, Fault::Replay, "out_trade_no", "ANOTHER_ORDER"),
        (Call::CloseOrder, Fault::OtherCall, "trade_state", "NOTPAY"),
        (Call::OrderQuery, Fault::OtherCall, "result_msg", "OK"),
        (Call::CloseOrder, Fault::UnifiedOrder, "trade_type", "JSAPI"),
        (Call::CloseOrder, Fault::SignedFields(own), "refund_id", "5"),
    ] {
        gateway.fault_on_order("1", Times::Next(1), fault.clone());
        let reply = reply_to(&sandbox, call, &signed(order("1"))).await;
        assert_eq!(reply.get(name).map(String::as_str), Some(value), "{fault:?}: {reply:?}");
        assert_eq!(reply["sign"], sign(&reply, KEY, "MD5"), "{fault:?}");
    }
    gateway.fault_on_order("1", Times::Next(1), Fault::UnsignedFail("系统繁忙"));
    is_unsigned_fail(&fields_of(&sandbox, &signed(order("1"))).await, "系统繁忙");
    assert_eq!(gateway.order("1"), Some(TradeState::NotPay));
}

#[tokio::test]
async fn a_kept_connection_can_die_at_its_second_request_while_a_new_one_lives() {
    let sandbox = Sandbox::start().await.unwrap();
    let endpoint = &sandbox.gateway.endpoints()[0];
    endpoint.set_fault(Some(Fault::ResetIfReused));
    let body = xml(&signed(order("1")));
    let request = format!("POST /pay/closeorder HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    for _ in 0..2 {
        let mut stream = TcpStream::connect(endpoint.address()).await.unwrap();
        let mut buffer = [0; 4096];
        stream.write_all(request.as_bytes()).await.unwrap();
        let read = soon(stream.read(&mut buffer)).await.unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"));
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(soon(stream.read(&mut buffer)).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_reply_can_be_lost_for_good_after_the_order_was_closed() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.put_order("1", TradeState::NotPay);
    sandbox.gateway.fault_on_order("1", Times::Next(1), Fault::HangAfter);
    assert!(timeout(Duration::from_millis(300), close(&sandbox, "1")).await.is_err());
    assert_eq!(sandbox.gateway.order("1"), Some(TradeState::Closed));
}

#[tokio::test]
async fn whoever_watches_hears_of_each_exchange_when_it_is_over() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut watch = sandbox.gateway.watch();
    sandbox.gateway.fault_on_order("dead", Times::Always, Fault::Hang);
    let _ = timeout(Duration::from_millis(50), close(&sandbox, "dead")).await;
    let dead: Received = soon(watch.recv()).await.unwrap();
    assert_eq!((&*dead.fields["out_trade_no"], dead.call, &dead.reply), ("dead", Some(Call::CloseOrder), &None));
    assert!(matches!(dead.fault, Some(Fault::Hang)));
    close(&sandbox, "1").await.unwrap();
    let closed = soon(watch.recv()).await.unwrap();
    assert!(closed.reply.unwrap().contains("SUCCESS"));
}

#[tokio::test]
async fn another_method_and_what_is_no_xml_have_their_documented_codes() {
    let sandbox = Sandbox::start().await.unwrap();
    let url = sandbox.gateway.endpoints()[0].url();
    for (line, body, code) in [
        ("GET /pay/closeorder", &b""[..], "REQUIRE_POST_METHOD"),
        ("POST /pay/closeorder", b"<xml><a></xml>", "XML_FORMAT_ERROR"),
        ("POST /pay/closeorder", b"\xff\xfe", "XML_FORMAT_ERROR"),
    ] {
        let reply = read_xml(body_of(&exchange(&url, line, "", body).await.unwrap())).unwrap();
        assert_eq!((&*reply["return_code"], &*reply["err_code"]), ("FAIL", code));
    }
}

#[tokio::test]
async fn another_path_is_not_closeorder_and_closes_nothing() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.put_order("1", TradeState::NotPay);
    let url = sandbox.gateway.endpoints()[0].url();
    let body = xml(&signed(order("1")));
    for line in ["POST /pay/closeorder/", "POST /pay/refundquery", "POST /"] {
        let reply = exchange(&url, line, "", body.as_bytes()).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 404"), "{line}: {reply}");
    }
    assert_eq!(sandbox.gateway.order("1"), Some(TradeState::NotPay));
    assert_eq!(sandbox.gateway.received().len(), 3);
}

#[tokio::test]
async fn each_error_code_comes_with_its_own_description() {
    let sandbox = Sandbox::start().await.unwrap();
    for (code, description) in [
        ("SYSTEMERROR", "系统错误"),
        ("SIGNERROR", "签名错误"),
        ("ORDERPAID", "order paid"),
        ("ORDERCLOSED", "order closed"),
        ("ORDERNOTEXIST", "order not exist"),
    ] {
        sandbox.gateway.fault_on_order("1", Times::Next(1), Fault::Error(code));
        let reply = fields_of(&sandbox, &signed(order("1"))).await;
        assert_eq!((&*reply["err_code"], &*reply["err_code_des"]), (code, description));
        // A system error knows nobody.
        assert_eq!(reply.contains_key("mch_id"), code != "SYSTEMERROR", "{reply:?}");
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_and_says_nothing_of_the_order() {
    let sandbox = Sandbox::start().await.unwrap();
    for (fault, after) in [(Fault::Reset, TradeState::NotPay), (Fault::ResetAfter, TradeState::Closed)] {
        sandbox.gateway.put_order("1", TradeState::NotPay);
        sandbox.gateway.fault_on_next_calls(Times::Next(1), fault);
        assert_eq!(close(&sandbox, "1").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(sandbox.gateway.order("1"), Some(after));
    }
}

#[tokio::test]
async fn a_close_instead_of_a_reply_is_an_orderly_end() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.put_order("1", TradeState::NotPay);
    sandbox.gateway.fault_on_next_calls(Times::Next(1), Fault::CloseAfter);
    assert_eq!(close(&sandbox, "1").await.unwrap(), "");
    assert_eq!(sandbox.gateway.order("1"), Some(TradeState::Closed));
}

/// Sends a request on a connection that stays open, and says what came back.
async fn said_on(connection: &mut TcpStream, call: Call, out_trade_no: &str) -> String {
    let body = xml(&signed(order(out_trade_no)));
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", call.path(), body.len());
    connection.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
    let mut reply = String::new();
    while !reply.contains("</xml>") {
        let mut buffer = [0; 4096];
        let read = soon(connection.read(&mut buffer)).await.unwrap();
        assert!(read > 0, "the connection ended after {reply}");
        reply.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    let fields = read_xml(body_of(&reply)).unwrap();
    assert_eq!(fields["sign"], sign(&fields, KEY, "MD5"));
    ["err_code", "trade_state", "result_code"].into_iter().find_map(|name| fields.get(name).cloned()).unwrap()
}

#[tokio::test]
async fn a_connection_out_of_step_is_a_reply_behind_until_it_ends_and_no_other_one_is() {
    use Call::{CloseOrder, OrderQuery};

    let sandbox = Sandbox::start().await.unwrap();
    for (fault, expected) in [
        (Fault::Surplus, ["SUCCESS", "ORDERPAID", "SUCCESS"]),
        (Fault::ReplyTwice, ["ORDERPAID", "ORDERPAID", "SUCCESS"]),
    ] {
        sandbox.gateway.put_order("paid", TradeState::Success);
        sandbox.gateway.put_order("open", TradeState::NotPay);
        sandbox.gateway.fault_on_order_call("paid", CloseOrder, Times::Always, fault);
        let address = sandbox.gateway.endpoints()[0].address();
        let mut connection = TcpStream::connect(address).await.unwrap();
        for (call, number, expected) in
            [(CloseOrder, "paid", expected[0]), (OrderQuery, "paid", expected[1]), (CloseOrder, "open", expected[2])]
        {
            assert_eq!(said_on(&mut connection, call, number).await, expected, "{call:?} {number}");
        }
        assert_eq!(sandbox.gateway.order("open"), Some(TradeState::Closed), "what is asked for is done");
        let mut other = TcpStream::connect(address).await.unwrap();
        assert_eq!(said_on(&mut other, OrderQuery, "open").await, "CLOSED");
        sandbox.gateway.clear_faults();
    }
}

#[tokio::test]
async fn each_merchant_may_make_so_many_requests_in_each_second_and_the_rest_are_an_unsigned_fail() {
    const LIMIT: u32 = 3;
    let sandbox = Sandbox::start().await.unwrap();
    let other = Identity { mch_id: "1230000110".to_owned(), ..Identity::default() };
    sandbox.gateway.set_identities(vec![sandbox.identity.clone(), other]);
    sandbox.gateway.set_rate_limit(Some(LIMIT));
    let start = Instant::now();
    let (mut taken, mut limited) = (0, 0);
    while start.elapsed() < Duration::from_millis(1200) {
        match &*said(&sandbox, Call::OrderQuery, "1").await {
            "ORDERNOTEXIST" => taken += 1,
            message => {
                assert!(message.contains("频率"), "{message}");
                limited += 1;
            }
        }
    }
    let seconds = u32::try_from(start.elapsed().as_secs()).unwrap();
    assert!(limited > 0 && taken > LIMIT && taken <= LIMIT * (seconds + 2), "{taken} in {seconds} s");
    let mut others = order("1");
    others.insert("mch_id".to_owned(), "1230000110".to_owned());
    assert_eq!(reply_to(&sandbox, Call::OrderQuery, &signed(others)).await["return_code"], "SUCCESS");
    sandbox.gateway.set_rate_limit(None);
    for _ in 0..=LIMIT {
        assert_eq!(said(&sandbox, Call::OrderQuery, "1").await, "ORDERNOTEXIST");
    }
}

#[tokio::test]
async fn a_fault_lasts_as_often_as_it_was_told() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.fault_on_order("1", Times::Next(2), Fault::Status(502));
    for expected in ["HTTP/1.1 502", "HTTP/1.1 502", "HTTP/1.1 200"] {
        assert!(close(&sandbox, "1").await.unwrap().starts_with(expected));
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_refuses_and_comes_back_on_the_same_port() {
    let sandbox = Sandbox::start().await.unwrap();
    let endpoint = &sandbox.gateway.endpoints()[0];
    close(&sandbox, "1").await.unwrap();
    endpoint.go_down().await;
    assert_eq!(close(&sandbox, "1").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    endpoint.come_up().await.unwrap();
    assert!(close(&sandbox, "1").await.unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(endpoint.connections(), 2);
}

#[tokio::test]
async fn an_idle_connection_can_be_closed_under_its_owner() {
    let sandbox = Sandbox::start().await.unwrap();
    let endpoint = &sandbox.gateway.endpoints()[0];
    let mut stream = TcpStream::connect(endpoint.url().trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"GET /pay/closeorder HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buffer = [0; 4096];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    endpoint.close_connections(Break::Close);
    assert_eq!(timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_reply_that_comes_after_the_record_was_cleared_is_not_put_to_another_request() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.fault_on_order("slow", Times::Always, Fault::Delay(Duration::from_millis(300)));
    sandbox.gateway.fault_on_order("dead", Times::Always, Fault::Hang);
    let slow = tokio::spawn({
        let sandbox = sandbox.clone();
        async move { close(&sandbox, "slow").await }
    });
    soon(async {
        while sandbox.gateway.received().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    sandbox.gateway.clear_received();
    let _ = timeout(Duration::from_millis(50), close(&sandbox, "dead")).await;
    slow.await.unwrap().unwrap();
    let received = sandbox.gateway.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].fields["out_trade_no"], "dead");
    assert_eq!(received[0].reply, None);
}
