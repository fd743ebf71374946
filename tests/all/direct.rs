//! The direct call: the order in, the reply out.

use sandbox::{
    mock::gateway::{Fault, Times, TradeState},
    mock::identity::Identity,
    mock::signed_xml::sign,
};
use serde_json::{Value, json};

use crate::support::{ORDER, beijing_time, event, order, rfc3339, values, world, world_with};

#[tokio::test]
async fn an_unpaid_order_is_closed_and_the_reply_reads_in_both_spellings() {
    let mut world = world().await;
    let mut reply = world.function.invoke(&event("close-order")).await.json();
    assert_eq!(world.sandbox.gateway.order(ORDER), Some(TradeState::Closed));
    let [nonce, sign] = ["nonce_str", "sign"].map(|name| reply.as_object_mut().unwrap().remove(name).unwrap());
    assert_eq!(reply.as_object_mut().unwrap().remove("nonceStr"), Some(nonce));
    assert_eq!(sign.as_str().unwrap().len(), 32);
    let expected = json!({
        "returnCode": "SUCCESS", "returnMsg": "OK",
        "appid": "wxd678efh567hg6787",
        "mch_id": "1230000109", "mchId": "1230000109",
        "sub_mch_id": "1900000109", "subMchId": "1900000109",
        "result_code": "SUCCESS", "resultCode": "SUCCESS",
        "result_msg": "OK", "resultMsg": "OK",
        "errCode": 0, "errMsg": "cloudPay.closeOrder:ok",
        "outcome": "closed", "confirmed": false, "out_trade_no": ORDER, "outTradeNo": ORDER,
    });
    assert_eq!(reply, expected);
}

#[tokio::test]
async fn every_reply_of_wechat_pay_is_a_result_and_not_a_fault() {
    let mut world = world().await;
    let gateway = &world.sandbox.gateway;
    gateway.put_order("paid", TradeState::Success);
    gateway.put_order("closed", TradeState::Closed);
    gateway.put_order("paying", TradeState::UserPaying);
    for code in ["SIGNERROR", "ORDERNOTEXIST", "FREQUENCY_LIMITED", "SYSTEMERROR"] {
        gateway.put_order(code, TradeState::NotPay);
        gateway.fault_on_order(code, Times::Always, Fault::Error(code));
    }
    for (out_trade_no, result_code, err_code, outcome) in [
        ("never_made", "SUCCESS", Value::Null, "closed"),
        ("paid", "FAIL", json!("ORDERPAID"), "paid"),
        ("closed", "FAIL", json!("ORDERCLOSED"), "closed"),
        ("paying", "FAIL", json!("USERPAYING"), "open"),
        ("SIGNERROR", "FAIL", json!("SIGNERROR"), "rejected"),
        ("ORDERNOTEXIST", "FAIL", json!("ORDERNOTEXIST"), "not_found"),
        ("FREQUENCY_LIMITED", "FAIL", json!("FREQUENCY_LIMITED"), "unknown"),
        ("SYSTEMERROR", "FAIL", json!("SYSTEMERROR"), "unknown"),
    ] {
        let reply = world.function.invoke(&order(out_trade_no)).await.json();
        let expected = [json!("SUCCESS"), json!(result_code), json!(result_code), err_code, json!(0), json!(outcome)];
        let got = values(&reply, ["returnCode", "resultCode", "result_code", "err_code", "errCode", "outcome"]);
        assert_eq!(got, expected, "{out_trade_no}: {reply}");
    }
}

#[tokio::test]
async fn an_unsigned_fail_is_returned_with_its_reason_and_nothing_else() {
    let identity = Identity::default();
    let mut world = world_with(identity.clone(), |function| function).await;
    world.sandbox.gateway.set_identity(Identity { appid: "wx0000000000000000".to_owned(), ..identity });
    let reply = world.function.invoke(&order(ORDER)).await.json();
    let expected = json!({
        "returnCode": "FAIL", "returnMsg": "appid不存在", "errCode": 0, "errMsg": "cloudPay.closeOrder:ok",
        "outcome": "rejected", "confirmed": false, "out_trade_no": ORDER, "outTradeNo": ORDER,
    });
    assert_eq!(reply, expected);
}

#[tokio::test]
async fn the_request_is_what_the_gateway_asks_for() {
    let mut world = world().await;
    world.function.invoke(&event("close-order")).await;
    let received = &world.sandbox.gateway.received()[0];
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/pay/closeorder"));
    assert!(received.headers["content-type"].contains("xml"), "{:?}", received.headers);
    let mut fields = received.fields.clone();
    let key = Identity::default().api_key;
    assert_eq!(fields.remove("sign"), Some(sign(&fields, &key, "MD5")));
    let expected = [
        ("appid", "wxd678efh567hg6787"),
        ("mch_id", "1230000109"),
        ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
        ("out_trade_no", ORDER),
        ("sub_mch_id", "1900000109"),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[tokio::test]
async fn hmac_sha256_is_named_in_the_request_and_required_of_the_reply() {
    let identity = Identity { sign_type: Some("HMAC-SHA256".to_owned()), ..Identity::default() };
    let mut world = world_with(identity, |function| function).await;
    let reply = world.function.invoke(&order(ORDER)).await.json();
    assert_eq!(reply["resultCode"], "SUCCESS");
    assert_eq!(reply["sign"].as_str().unwrap().len(), 64);
    assert_eq!(world.sandbox.gateway.received()[0].fields["sign_type"], "HMAC-SHA256");
}

#[tokio::test]
async fn the_sub_appid_is_the_orders_else_the_secrets_else_none() {
    let identity = Identity { sub_appid: Some("wxofthesecret".to_owned()), ..Identity::default() };
    let mut worlds = [world_with(identity, |function| function).await, world().await];
    let mut named = order(ORDER);
    named["subAppid"] = json!("wxoftheorder");
    for (place, event, expected) in [
        (0, order(ORDER), Some("wxofthesecret")),
        (0, named.clone(), Some("wxoftheorder")),
        (1, named, Some("wxoftheorder")),
        (1, order(ORDER), None),
    ] {
        let world = &mut worlds[place];
        world.sandbox.gateway.clear_received();
        let reply = world.function.invoke(&event).await.json();
        assert_eq!(reply["returnCode"], "SUCCESS", "{reply}");
        let sent = &world.sandbox.gateway.received()[0].fields;
        assert_eq!(sent.get("sub_appid").map(String::as_str), expected);
        assert_eq!(reply["sub_appid"].as_str(), expected);
    }
}

#[tokio::test]
async fn a_mini_programs_own_spelling_and_extra_fields_are_taken_and_a_nonce_is_made() {
    let mut world = world().await;
    let reply = world.function.invoke(&event("mini-program")).await.json();
    assert_eq!(reply["resultCode"], "SUCCESS", "{reply}");
    let fields = &world.sandbox.gateway.received()[0].fields;
    assert_eq!(fields["out_trade_no"], "1217752501201407033233368019");
    assert_eq!(fields["nonce_str"].len(), 32);
    world.function.invoke(&event("mini-program")).await;
    assert_ne!(fields["nonce_str"], world.sandbox.gateway.received()[1].fields["nonce_str"]);
}

#[tokio::test]
async fn a_nonce_that_needs_escaping_arrives_as_it_was() {
    let mut world = world().await;
    let mut event = order(ORDER);
    event["nonce_str"] = json!("<>]]>\"';%20");
    let reply = world.function.invoke(&event).await.json();
    assert_eq!(reply["resultCode"], "SUCCESS", "{reply}");
    assert_eq!(world.sandbox.gateway.received()[0].fields["nonce_str"], "<>]]>\"';%20");
}

#[tokio::test]
async fn invalid_input_is_rejected_by_field_in_two_languages_and_nothing_is_sent() {
    let mut world = world().await;
    let with = |name: &str, value: Value| {
        let mut event = order(ORDER);
        event[name] = value;
        event
    };
    let without = |name: &str| {
        let mut event = order(ORDER);
        event.as_object_mut().unwrap().remove(name);
        event
    };
    for (event, field) in [
        (without("sub_mch_id"), "sub_mch_id"),
        (without("out_trade_no"), "out_trade_no"),
        (with("sub_mch_id", json!("")), "sub_mch_id"),
        (with("sub_mch_id", json!("1".repeat(33))), "sub_mch_id"),
        (with("sub_mch_id", json!("19000O0109")), "sub_mch_id"),
        (with("sub_mch_id", json!(1_900_000_109)), "sub_mch_id"),
        (with("out_trade_no", json!("")), "out_trade_no"),
        (with("out_trade_no", json!("a".repeat(33))), "out_trade_no"),
        (with("out_trade_no", json!("a b")), "out_trade_no"),
        (with("out_trade_no", json!("订单")), "out_trade_no"),
        (with("out_trade_no", json!(1_217_752_501)), "out_trade_no"),
        (with("outTradeNo", json!("another")), "out_trade_no"),
        (with("mch_id", json!("1")), "mch_id"),
        (with("mchId", json!(1_230_000_109)), "mch_id"),
        (with("nonce_str", json!("a&b")), "nonce_str"),
        (with("nonce_str", json!("a=b")), "nonce_str"),
        (with("nonce_str", json!("a".repeat(33))), "nonce_str"),
        (with("nonce_str", json!("a b")), "nonce_str"),
        (with("out_trade_no", json!(null)), "out_trade_no"),
        (with("confirm", json!("true")), "confirm"),
        (with("time_start", json!(beijing_time(605))), "time_start"),
        (with("close_at", json!("2026-11-28 12:30:00+08:00")), "close_at"),
        (with("close_at", json!("2026-11-28T12:30:00")), "close_at"),
        (with("closeAt", json!(rfc3339(24 * 3600 + 305))), "close_at"),
        (with("sub_appid", json!("wx-1")), "sub_appid"),
        (with("time_start", json!("2026-11-23")), "time_start"),
        (with("time_start", json!("20260230000000")), "time_start"),
        (event("bad-input"), "out_trade_no"),
        (json!({}), "out_trade_no"),
        (json!({"outcome": "closed", "message_id": "m", "out_trade_no": "1"}), "event"),
    ] {
        let reply = world.function.invoke(&event).await.json();
        assert_eq!(values(&reply, ["returnCode", "errCode"]), [json!("FAIL"), json!(-501_007)], "{event}");
        let [return_msg, err_msg] = ["returnMsg", "errMsg"].map(|name| reply[name].as_str().unwrap());
        assert!(return_msg.starts_with(&format!("参数格式校验错误: {field} ")), "{event}: {return_msg}");
        assert!(err_msg.starts_with("cloudPay.closeOrder:fail "), "{err_msg}");
        assert!(err_msg.is_ascii() && err_msg.contains(field), "{err_msg}");
        assert_eq!(values(&reply, ["outcome", "confirmed"]), [json!("not_sent"), json!(false)]);
        assert_eq!(reply.as_object().unwrap().len(), 6, "{reply}");
    }
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn both_spellings_at_once_are_fine_if_they_say_the_same() {
    let mut world = world().await;
    let mut event = order(ORDER);
    event["subMchId"] = event["sub_mch_id"].clone();
    event["outTradeNo"] = event["out_trade_no"].clone();
    assert_eq!(world.function.invoke(&event).await.json()["resultCode"], "SUCCESS");
}

#[tokio::test]
async fn an_order_may_have_fields_that_events_of_services_have() {
    let mut world = world().await;
    for (name, value) in [
        ("Records", json!([])),
        ("Records", json!([{"id": 1}])),
        ("requestContext", json!({})),
        ("requestContext", json!({"connectionId": "c"})),
        ("detail-type", json!("t")),
        ("TopicArn", json!("t")),
        ("requestPayload", json!({})),
        ("eventSource", json!("aws:s3")),
    ] {
        for number in ["out_trade_no", "outTradeNo"] {
            let mut event = json!({"sub_mch_id": order(ORDER)["sub_mch_id"], number: ORDER, "source": "s"});
            event[name] = value.clone();
            assert_eq!(world.function.invoke(&event).await.json()["outcome"], "closed", "{event}");
        }
    }
}

#[tokio::test]
async fn an_outcome_event_is_not_closed_again_however_it_names_the_order() {
    let mut world = world().await;
    let mut event = order(ORDER);
    event["outcome"] = json!("closed");
    event["message_id"] = json!("m");
    event["outTradeNo"] = json!(ORDER);
    let answer = world.function.invoke(&event).await.json();
    assert_eq!(answer["outcome"], "not_sent", "{answer}");
    let line = world.function.wait_for_order_lines(1).await.remove(0);
    assert_eq!(values(&line, ["reason", "out_trade_no"]), ["invalid_input", ORDER], "{line}");
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn every_character_of_an_order_number_may_be_used() {
    let mut world = world().await;
    for out_trade_no in ["_-|*@", "0", "ABCXYZabcxyz0123456789_-|*@"] {
        world.sandbox.gateway.put_order(out_trade_no, TradeState::NotPay);
        let reply = world.function.invoke(&order(out_trade_no)).await.json();
        assert_eq!(reply["resultCode"], "SUCCESS", "{reply}");
        assert_eq!(world.sandbox.gateway.order(out_trade_no), Some(TradeState::Closed));
    }
}

#[tokio::test]
async fn what_is_not_json_is_raised_with_the_parsers_position() {
    use sandbox::mock::runtime::Deadline;

    let mut world = world().await;
    for text in ["", "{", "not json", "\u{1}"] {
        let reply =
            world.function.invoke_text(text.to_owned(), Deadline::After(std::time::Duration::from_secs(5))).await;
        assert_eq!(reply.error_type().as_deref(), Some("UnsupportedEvent"), "{text}: {reply:?}");
        assert!(reply.text().contains("(line 1 column "), "{text}: {reply:?}");
    }
}

#[tokio::test]
async fn any_event_is_answered_or_raised_as_what_carries_no_order() {
    use proptest::{
        strategy::{Strategy, ValueTree},
        test_runner::TestRunner,
    };

    let mut world = world().await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..200 {
        let event = crate::properties::any_json().new_tree(&mut runner).unwrap().current();
        let reply = world.function.invoke(&event).await;
        let json = reply.json();
        let is_answered = json["returnCode"].is_string() && json["outcome"].is_string();
        assert!(is_answered || reply.error_type().as_deref() == Some("UnsupportedEvent"), "{event}: {reply:?}");
    }
}

#[tokio::test]
async fn an_ordinary_merchant_closes_its_own_orders_and_may_name_itself() {
    let merchant = Identity::merchant();
    let mut world = world_with(merchant.clone(), |function| function).await;
    let own = json!({
        "sub_mch_id": merchant.mch_id, "sub_appid": merchant.appid, "out_trade_no": ORDER, "nonce_str": "n", "confirm": true,
    });
    for event in [json!({"out_trade_no": ORDER, "nonce_str": "n", "confirm": true}), own] {
        world.sandbox.gateway.put_order(ORDER, TradeState::NotPay);
        world.sandbox.gateway.clear_received();
        let reply = world.function.invoke(&event).await.json();
        assert_eq!(values(&reply, ["outcome", "trade_state"]), ["closed", "CLOSED"], "{reply}");
        assert_eq!((reply.get("sub_mch_id"), reply.get("result_msg")), (None, None), "{reply}");
        let sent = world.sandbox.gateway.received();
        let names: Vec<_> = sent[0].fields.keys().map(String::as_str).collect();
        assert_eq!(names, ["appid", "mch_id", "nonce_str", "out_trade_no", "sign"]);
        assert_eq!((sent[0].fields["nonce_str"].as_str(), sent.len()), ("n", 2));
        assert_ne!(sent[1].fields["nonce_str"], "n", "a query has a nonce of its own");
    }
}

#[tokio::test]
async fn an_ordinary_merchant_closes_nobody_else_s_orders() {
    let mut world = world_with(Identity::merchant(), |function| function).await;
    for (field, value, rule) in [
        ("sub_mch_id", "1900000110", "sub_mch_id 普通商户请不填,或填本商户的mch_id"),
        ("subAppid", "wx0000000000000000", "sub_appid 普通商户请不填,或填本商户的appid"),
    ] {
        let mut event = json!({"out_trade_no": ORDER});
        event[field] = json!(value);
        let reply = world.function.invoke(&event).await.json();
        let expected = [format!("参数格式校验错误: {rule}"), "not_sent".to_owned()];
        assert_eq!(values(&reply, ["returnMsg", "outcome"]), expected, "{reply}");
    }
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn a_partner_s_order_needs_a_sub_merchant() {
    let mut world = world().await;
    for event in [json!({"out_trade_no": ORDER}), json!({"out_trade_no": ORDER, "sub_mch_id": null})] {
        let reply = world.function.invoke(&event).await.json();
        assert_eq!(values(&reply, ["errCode", "outcome"]), [json!(-501_007), json!("not_sent")], "{reply}");
        assert!(reply["returnMsg"].as_str().unwrap().starts_with("参数格式校验错误: sub_mch_id 必填"), "{reply}");
        for message in ["returnMsg", "errMsg"] {
            assert!(reply[message].as_str().unwrap().contains(r#""mch_type": "merchant""#), "{reply}");
        }
    }
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn empty_optional_fields_count_as_absent() {
    let mut world = world().await;
    let mut event = order(ORDER);
    for name in ["mch_id", "nonce_str", "sub_appid", "time_start", "close_at"] {
        event[name] = json!("");
    }
    let reply = world.function.invoke(&event).await.json();
    assert_eq!(reply["outcome"], "closed", "{reply}");
    assert_eq!(world.sandbox.gateway.received()[0].fields["nonce_str"].len(), 32);
}

#[tokio::test]
async fn an_order_may_name_the_secrets_merchant() {
    let mut world = world().await;
    for name in ["mch_id", "mchId"] {
        let mut event = order(ORDER);
        event[name] = json!(world.sandbox.identity.mch_id);
        assert_eq!(world.function.invoke(&event).await.json()["outcome"], "closed");
    }
}

#[tokio::test]
async fn a_young_order_is_answered_and_one_that_is_not_due_is_raised_for_the_queue() {
    let mut world = world().await;
    let with = |fields: &[(&str, String)]| {
        let mut event = order(ORDER);
        event.as_object_mut().unwrap().extend(fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
        event
    };
    let young = ("time_start", beijing_time(-100));
    let later = rfc3339(3600);
    for event in [with(std::slice::from_ref(&young)), with(&[young.clone(), ("close_at", rfc3339(60))])] {
        let reply = world.function.invoke(&event).await.json();
        assert_eq!(reply["returnMsg"], "订单生成后不能马上调用关单接口,最短调用时间间隔为5分钟", "{reply}");
        assert_eq!(values(&reply, ["outcome", "errCode"]), [json!("not_sent"), json!(-501_007)], "{reply}");
    }
    for event in [with(&[("close_at", later.clone())]), with(&[("closeAt", later.clone()), young])] {
        let invocation = world.function.invoke(&event).await;
        assert_eq!(invocation.error_type().as_deref(), Some("NotDue"), "{invocation:?}");
        let raised: Value = serde_json::from_str(invocation.text()).unwrap();
        let message = raised["errorMessage"].as_str().unwrap();
        assert!(message.starts_with("[not_sent] close_at"), "{message}");
        for part in [&later, "nothing was sent", "queue", "队列"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    let lines = world.function.wait_for_order_lines(4).await;
    let reasons: Vec<_> = lines.iter().map(|line| values(line, ["level", "reason"])).collect();
    assert_eq!(reasons, [["WARN", "too_young"], ["WARN", "too_young"], ["WARN", "not_due"], ["WARN", "not_due"]]);
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn a_time_that_is_ahead_by_less_than_clocks_differ_has_come() {
    let mut world = world().await;
    for (name, value) in [("close_at", rfc3339(4)), ("close_at", rfc3339(-9)), ("time_start", beijing_time(-297))] {
        let mut event = order(ORDER);
        event[name] = json!(value);
        assert_eq!(world.function.invoke(&event).await.json()["outcome"], "closed", "{event}");
    }
}
