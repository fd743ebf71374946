//! What counts as a reply of WeChat Pay, and what does not.

use sandbox::{
    mock::gateway::{Call, Fault, Times, TradeState},
    mock::identity::Identity,
    mock::signed_xml::{Fields, sign, xml},
};
use serde_json::{Value, json};

use crate::support::{ORDER, order, values, world, world_with};

const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

fn closed() -> Fields {
    [
        ("return_code", "SUCCESS"),
        ("return_msg", "OK"),
        ("appid", "wxd678efh567hg6787"),
        ("mch_id", "1230000109"),
        ("sub_mch_id", "1900000109"),
        ("nonce_str", "BFK89FC6rxKCOjLX"),
        ("result_code", "SUCCESS"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn signed(mut fields: Fields, key: &str, sign_type: &str) -> Fields {
    let sign = sign(&fields, key, sign_type);
    fields.insert("sign".to_owned(), sign);
    fields
}

fn document() -> String {
    xml(&signed(closed(), KEY, "MD5"))
}

fn with(name: &str, value: &str) -> Fields {
    let mut fields = closed();
    fields.insert(name.to_owned(), value.to_owned());
    fields
}

#[tokio::test]
async fn a_verified_reply_counts_however_it_is_written() {
    let mut world = world().await;
    let plain = document().replace("<![CDATA[", "").replace("]]>", "");
    for body in [
        document(),
        plain.clone(),
        plain.replace('\n', ""),
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{plain}\n"),
        document().replace("</xml>", "<sub_appid></sub_appid><device_info/><attach><![CDATA[]]></attach></xml>"),
        xml(&signed(with("future_field", "x"), KEY, "MD5")),
        xml(&signed(with("sub_appid", "wxofthesuborder"), KEY, "MD5")),
        xml(&signed(with("return_msg", "x".repeat(60_000).as_str()), KEY, "MD5")),
    ] {
        world.sandbox.gateway.fault_on_next_calls(Times::Next(1), Fault::Body(body.clone().into_bytes()));
        let invocation = world.function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.json()["resultCode"], "SUCCESS", "{body}: {invocation:?}");
    }
    let reply = world.function.invoke(&order(ORDER)).await.json();
    assert!(reply.get("device_info").is_none(), "empty fields are left out");
}

#[tokio::test]
async fn a_field_of_the_future_is_passed_on_in_both_spellings() {
    let mut world = world().await;
    let edit = vec![("coupon_id_0", Some("c".to_owned())), ("future_field", Some("未来".to_owned()))];
    world.sandbox.gateway.fault_on_next_calls(Times::Next(1), Fault::Edit(edit));
    let reply = world.function.invoke(&order(ORDER)).await.json();
    for (name, value) in [("coupon_id_0", "c"), ("couponId_0", "c"), ("future_field", "未来"), ("futureField", "未来")]
    {
        assert_eq!(reply[name], value, "{reply}");
    }
}

#[tokio::test]
async fn what_is_not_verified_does_not_count() {
    let mut world = world().await;
    let document = document();
    let unsigned = xml(&closed());
    let long = "x".repeat(70_000);
    for (why, body) in [
        ("no signature", unsigned.clone()),
        ("an empty signature", unsigned.replace("</xml>", "<sign></sign></xml>")),
        ("a made-up signature", unsigned.replace("</xml>", "<sign>C380BEC2BFD727A4B6845133519F3AD6</sign></xml>")),
        ("another key", xml(&signed(closed(), "00000000000000000000000000000000", "MD5"))),
        ("another algorithm than requested", xml(&signed(closed(), KEY, "HMAC-SHA256"))),
        ("an algorithm of its own", xml(&signed(with("sign_type", "HMAC-SHA256"), KEY, "HMAC-SHA256"))),
        ("another appid", xml(&signed(with("appid", "wx1"), KEY, "MD5"))),
        ("another mch_id", xml(&signed(with("mch_id", "1"), KEY, "MD5"))),
        ("another sub_mch_id", xml(&signed(with("sub_mch_id", "1"), KEY, "MD5"))),
        ("no appid", xml(&signed(with("appid", ""), KEY, "MD5"))),
        ("no mch_id", xml(&signed(with("mch_id", ""), KEY, "MD5"))),
        ("no sub_mch_id", xml(&signed(with("sub_mch_id", ""), KEY, "MD5"))),
        ("another out_trade_no", xml(&signed(with("out_trade_no", "1"), KEY, "MD5"))),
        ("a SUCCESS with an err_code", xml(&signed(with("err_code", "ORDERPAID"), KEY, "MD5"))),
        ("an orderquery's reply", xml(&signed(with("trade_state", "SUCCESS"), KEY, "MD5"))),
        ("a unifiedorder's reply", xml(&signed(with("prepay_id", "wx2"), KEY, "MD5"))),
        ("no result_code", xml(&signed(with("result_code", ""), KEY, "MD5"))),
        ("a strange result_code", xml(&signed(with("result_code", "OK"), KEY, "MD5"))),
        ("a strange return_code", xml(&signed(with("return_code", "OK"), KEY, "MD5"))),
        ("no return_code", xml(&signed(with("return_code", ""), KEY, "MD5"))),
        ("FAIL without a reason", "<xml><return_code>FAIL</return_code></xml>".to_owned()),
        ("a changed value", document.replace("OK", "KO")),
        ("a field more", document.replace("</xml>", "<err_code>X</err_code></xml>")),
        ("a repeated field", document.replace("</xml>", "<result_code>SUCCESS</result_code></xml>")),
        ("a repeated empty field", document.replace("</xml>", "<appid></appid></xml>")),
        ("a DOCTYPE", format!("<!DOCTYPE xml>{document}")),
        ("nesting", document.replace("<appid>", "<appid><b/>")),
        ("a nested document", format!("<xml>{document}</xml>")),
        ("two documents", format!("{document}{document}")),
        ("another root", document.replace("<xml>", "<root>").replace("</xml>", "</root>")),
        ("a cut document", document[..document.len() - 10].to_owned()),
        ("too long a document", xml(&signed(with("return_msg", &long), KEY, "MD5"))),
        ("nothing", String::new()),
        ("a web page", "<html><body>502 Bad Gateway</body></html>".to_owned()),
        ("JSON", json!({"return_code": "SUCCESS", "result_code": "SUCCESS"}).to_string()),
    ] {
        world.sandbox.gateway.fault_on_call(Call::CloseOrder, Times::Always, Fault::Body(body.clone().into_bytes()));
        world.sandbox.gateway.fault_on_call(Call::OrderQuery, Times::Always, Fault::Status(503));
        let invocation = world.function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "{why}: {invocation:?}");
        assert!(invocation.text().contains("the order may be closed, call again"), "{why}: {invocation:?}");
        world.sandbox.gateway.clear_faults();
    }
    let latin1 = document.replace("OK", "\u{1}").into_bytes().iter().map(|&b| if b == 1 { 0xe9 } else { b }).collect();
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Body(latin1));
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "not UTF-8: {invocation:?}");
}

#[tokio::test]
async fn a_fifty_megabyte_reply_is_not_read_to_its_end() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Flood(50 * 1024 * 1024));
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "{invocation:?}");
    let peak = world.function.memory_kib("VmHWM").unwrap();
    assert!(peak < 40 * 1024, "{peak} KiB");
}

#[tokio::test]
async fn an_unsigned_fail_never_says_that_the_order_is_closed() {
    let mut world = world().await;
    let body = "<xml><return_code>FAIL</return_code><return_msg>no</return_msg><result_code>SUCCESS</result_code>\
                <resultCode>SUCCESS</resultCode><RESULT_CODE>SUCCESS</RESULT_CODE><resultcode>SUCCESS</resultcode>\
                <err_code>ORDERCLOSED</err_code><trade_state>CLOSED</trade_state><outcome>closed</outcome></xml>";
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Body(body.into()));
    let reply = world.function.invoke(&order(ORDER)).await.json();
    let expected = json!({
        "returnCode": "FAIL", "returnMsg": "no", "errCode": 0, "errMsg": "cloudPay.closeOrder:ok",
        "outcome": "rejected", "confirmed": false, "out_trade_no": ORDER, "outTradeNo": ORDER,
    });
    assert_eq!(reply, expected);
}

#[tokio::test]
async fn an_error_reply_that_settles_nothing_may_leave_out_who_asked_but_not_name_another() {
    let mut world = world().await;
    let gateway = &world.sandbox.gateway;
    gateway.put_order(ORDER, TradeState::Success);
    let leave_out = vec![("appid", None), ("mch_id", None), ("sub_mch_id", None)];
    let name_another = vec![("mch_id", Some("1230000110".to_owned()))];
    gateway.fault_on_call(Call::OrderQuery, Times::Always, Fault::Status(503));
    for (edit, err_code, expected) in [
        (leave_out.clone(), "FREQUENCY_LIMITED", json!("FREQUENCY_LIMITED")),
        (leave_out, "ORDERPAID", json!(null)),
        (name_another, "FREQUENCY_LIMITED", json!(null)),
    ] {
        let edit = [edit, vec![("err_code", Some(err_code.to_owned()))]].concat();
        world.sandbox.gateway.fault_on_call(Call::CloseOrder, Times::Next(1), Fault::Edit(edit));
        let invocation = world.function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.json()["err_code"], expected, "{err_code}: {invocation:?}");
        let is_invalid = invocation.error_type().as_deref() == Some("ReplyInvalid");
        assert_eq!(is_invalid, expected.is_null(), "{err_code}: {invocation:?}");
    }
}

#[tokio::test]
async fn a_genuine_reply_to_another_order_or_of_another_call_closes_nothing() {
    let mut world = world().await;
    let gateway = world.sandbox.gateway.clone();
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["outcome"], "closed");
    for fault in [Fault::Replay, Fault::OtherCall, Fault::UnifiedOrder] {
        gateway.put_order("another", TradeState::NotPay);
        gateway.fault_on_call(Call::CloseOrder, Times::Next(1), fault.clone());
        let reply = world.function.invoke(&order("another")).await.json();
        assert_eq!(values(&reply, ["outcome", "trade_state"]), [Value::Null, Value::Null], "{fault:?}: {reply}");
        let line = world.function.wait_for_order_lines(1).await.pop().unwrap();
        assert_eq!(values(&line, ["outcome", "reason", "trade_state"]), ["open", "ReplyInvalid", "NOTPAY"], "{line}");
    }
}

#[tokio::test]
async fn no_field_of_the_wire_sets_what_an_answer_says_by_itself_and_no_key_is_there_twice() {
    let mut world = world().await;
    let edit = [
        "errCode",
        "errMsg",
        "err_msg",
        "returnCode",
        "return_Code",
        "outcome",
        "outTradeNo",
        "a_b_c",
        "a_bC",
        "resultCode",
    ];
    let edit = edit.map(|name| (name, Some(format!("wire's {name}")))).to_vec();
    world.sandbox.gateway.fault_on_next_calls(Times::Next(1), Fault::Edit(edit));
    let invocation = world.function.invoke(&order(ORDER)).await;
    let reply = invocation.json();
    for (name, expected) in [
        ("errCode", json!(0)),
        ("errMsg", json!("cloudPay.closeOrder:ok")),
        ("returnCode", json!("SUCCESS")),
        ("outcome", json!("closed")),
        ("out_trade_no", json!(ORDER)),
        ("outTradeNo", json!(ORDER)),
        ("result_code", json!("SUCCESS")),
        ("resultCode", json!("wire's resultCode")),
        ("aBC", json!("wire's a_bC")),
    ] {
        assert_eq!(reply[name], expected, "{name}: {reply}");
    }
    for name in reply.as_object().unwrap().keys() {
        assert_eq!(invocation.text().matches(&format!("\"{name}\":")).count(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Status(307));
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "{invocation:?}");
}

#[tokio::test]
async fn the_status_of_a_response_whose_body_does_not_arrive_is_told() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    for status in [503, 403] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let head = format!("HTTP/1.1 {status} No\r\ncontent-length: 100\r\n\r\n<htm");
                let _ = stream.write_all(head.as_bytes()).await;
                open.push(stream);
            }
        });
        let adapt = |function: sandbox::mock::function::FunctionBuilder| {
            function.env("WECHAT_PAY_ENDPOINTS", &endpoint).env("WECHAT_PAY_TIMEOUT_MS", "300")
        };
        let mut world = world_with(Identity::default(), adapt).await;
        let invocation = world.function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "{status}: {invocation:?}");
        let line = world.function.wait_for_order_lines(1).await.remove(0);
        assert!(line["cause"].as_str().unwrap().starts_with(&format!("HTTP status {status}")), "{line}");
    }
}
