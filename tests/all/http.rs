//! API Gateway REST and HTTP, Function URL and ALB: the body is the order.

use sandbox::{
    mock::gateway::{Call, Fault, Times, TradeState},
    mock::identity::Identity,
};
use serde_json::{Value, json};

use crate::support::{ORDER, beijing_time, event, ms, rfc3339, values, world, world_with};

const CALLERS: [&str; 4] = ["api-gateway-rest", "api-gateway-http", "function-url", "alb"];

fn with_body(caller: &str, body: &Value) -> Value {
    let mut event = event(caller);
    event["body"] = body.clone();
    event["isBase64Encoded"] = json!(false);
    event
}

fn with_method(caller: &str, method: &str) -> Value {
    let mut event = event(caller);
    if event["version"] == "2.0" {
        event["requestContext"]["http"]["method"] = json!(method);
    } else {
        event["httpMethod"] = json!(method);
    }
    event
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

/// Everything but the body is as the caller takes it.
fn assert_form(caller: &str, answer: &Value, status: u16, more_headers: &Value) {
    let mut headers = json!({"content-type": "application/json", "cache-control": "no-store"});
    headers.as_object_mut().unwrap().extend(more_headers.as_object().unwrap().clone());
    let mut expected = json!({"statusCode": status, "headers": headers, "isBase64Encoded": false});
    if matches!(caller, "api-gateway-http" | "function-url") {
        expected["cookies"] = json!([]);
    }
    let mut form = answer.clone();
    form.as_object_mut().unwrap().remove("body").unwrap();
    assert_eq!(form, expected, "{caller}: {answer}");
}

#[tokio::test]
async fn every_caller_closes_an_order_and_gets_an_answer_of_its_own_form() {
    let mut world = world().await;
    for caller in CALLERS {
        world.sandbox.gateway.put_order(ORDER, TradeState::NotPay);
        let answer = world.function.invoke(&event(caller)).await.json();
        assert_form(caller, &answer, 200, &json!({}));
        let reply = body(&answer);
        assert_eq!(
            values(&reply, ["returnCode", "resultCode", "result_code", "errMsg"]),
            ["SUCCESS", "SUCCESS", "SUCCESS", "cloudPay.closeOrder:ok"].map(Value::from)
        );
        assert_eq!(world.sandbox.gateway.order(ORDER), Some(TradeState::Closed), "{caller}");
    }
}

#[tokio::test]
async fn an_error_of_wechat_pay_is_still_a_200() {
    let mut world = world().await;
    world.sandbox.gateway.put_order(ORDER, TradeState::Success);
    for caller in CALLERS {
        let answer = world.function.invoke(&event(caller)).await.json();
        assert_form(caller, &answer, 200, &json!({}));
        assert_eq!(body(&answer)["err_code"], "ORDERPAID");
    }
}

#[tokio::test]
async fn an_invalid_body_is_a_400() {
    let mut world = world().await;
    for caller in CALLERS {
        let mut not_base64 = event(caller);
        not_base64["body"] = json!("not base64!");
        not_base64["isBase64Encoded"] = json!(true);
        let mut not_utf8 = not_base64.clone();
        not_utf8["body"] = json!("//79");
        let mut absent = event(caller);
        absent.as_object_mut().unwrap().remove("body");
        for (event, field) in [
            (not_base64, "body"),
            (not_utf8, "body"),
            (absent, "body"),
            (with_body(caller, &json!(null)), "body"),
            (with_body(caller, &json!("")), "body"),
            (with_body(caller, &json!("not JSON")), "body"),
            (with_body(caller, &json!("[]")), "body"),
            (with_body(caller, &json!("sub_mch_id=1900000109&out_trade_no=1")), "body"),
            (with_body(caller, &json!("{}")), "out_trade_no"),
            (with_body(caller, &json!("{\"sub_mch_id\":\"1\",\"out_trade_no\":1}")), "out_trade_no"),
        ] {
            let answer = world.function.invoke(&event).await.json();
            assert_form(caller, &answer, 400, &json!({}));
            let rejection = body(&answer);
            assert_eq!(values(&rejection, ["returnCode", "errCode"]), [json!("FAIL"), json!(-501_007)]);
            assert_eq!(rejection["outcome"], "not_sent");
            let return_msg = rejection["returnMsg"].as_str().unwrap();
            assert!(return_msg.starts_with(&format!("参数格式校验错误: {field} ")), "{return_msg}");
        }
    }
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn another_method_is_a_405() {
    let mut world = world().await;
    for caller in CALLERS {
        for method in ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "post"] {
            let answer = world.function.invoke(&with_method(caller, method)).await.json();
            assert_form(caller, &answer, 405, &json!({"allow": "POST"}));
            assert_eq!(body(&answer)["returnCode"], "FAIL");
        }
    }
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn an_order_too_young_is_a_409_that_says_when_to_come_back() {
    let mut world = world().await;
    for caller in CALLERS {
        let order = json!({"sub_mch_id": "1", "out_trade_no": "1", "time_start": beijing_time(-100)});
        let answer = world.function.invoke(&with_body(caller, &json!(order.to_string()))).await.json();
        let retry_after: u64 = answer["headers"]["retry-after"].as_str().unwrap().parse().unwrap();
        assert!((190..=200).contains(&retry_after), "{answer}");
        assert_form(caller, &answer, 409, &json!({"retry-after": retry_after.to_string()}));
        assert_eq!(body(&answer)["returnMsg"], "订单生成后不能马上调用关单接口,最短调用时间间隔为5分钟");
    }
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn an_order_that_is_not_due_is_a_409_that_says_when_it_is() {
    let mut world = world().await;
    for caller in CALLERS {
        let close_at = rfc3339(600);
        let order =
            json!({"sub_mch_id": "1", "out_trade_no": "1", "close_at": close_at, "time_start": beijing_time(-100)});
        let answer = world.function.invoke(&with_body(caller, &json!(order.to_string()))).await.json();
        let retry_after: u64 = answer["headers"]["retry-after"].as_str().unwrap().parse().unwrap();
        assert!((590..=600).contains(&retry_after), "{answer}");
        assert_form(caller, &answer, 409, &json!({"retry-after": retry_after.to_string()}));
        let body = body(&answer);
        assert_eq!(values(&body, ["outcome", "errCode"]), [json!("not_sent"), json!(-501_007)], "{body}");
        assert!(body["returnMsg"].as_str().unwrap().contains(&close_at), "{body}");
    }
    for line in world.function.wait_for_order_lines(CALLERS.len()).await {
        assert_eq!(values(&line, ["level", "reason"]), ["WARN", "not_due"], "{line}");
    }
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn what_carries_no_order_has_a_line_that_no_share_of_orders_counts() {
    let mut world = world().await;
    let envelope = json!({"detail": {"out_trade_no": "1"}}).to_string();
    for caller in CALLERS {
        world.function.invoke(&with_method(caller, "GET")).await;
        let answer = world.function.invoke(&with_body(caller, &json!(envelope))).await.json();
        let body = body(&answer);
        assert!(body["returnMsg"].as_str().unwrap().contains("$.detail"), "{body}");
        assert!(body["errMsg"].as_str().unwrap().contains("it was found at $.detail"), "{body}");
        world.function.invoke(&with_body(caller, &json!("not JSON"))).await;
    }
    for line in world.function.wait_for_lines("no order", 3 * CALLERS.len()).await {
        assert_eq!(values(&line, ["level", "outcome", "reason"]), ["WARN", "not_sent", "invalid_input"], "{line}");
    }
    assert!(world.function.lines("order").is_empty());
}

#[tokio::test]
async fn every_fault_has_its_status_and_its_err_code() {
    let quick = |function: sandbox::mock::function::FunctionBuilder| function.env("WECHAT_PAY_TIMEOUT_MS", "200");
    let mut world = world_with(Identity::default(), quick).await;
    for (fault, time, status, err_code) in [
        (Fault::Reset, 10_000, 504, -501_002),
        (Fault::Hang, 10_000, 504, -501_002),
        (Fault::Status(503), 10_000, 502, -601_001),
        (Fault::Forge, 10_000, 502, -601_001),
        (Fault::Hang, 400, 504, -501_002),
    ] {
        for caller in CALLERS {
            world.sandbox.gateway.fault_on_next_calls(Times::Always, fault.clone());
            let answer = world.function.invoke_within(&event(caller), ms(time)).await.json();
            assert_form(caller, &answer, status, &json!({}));
            let body = body(&answer);
            let expected = [json!("FAIL"), json!(err_code), json!("unknown")];
            assert_eq!(values(&body, ["returnCode", "errCode", "outcome"]), expected, "{fault:?}");
            assert!(body["returnMsg"].as_str().unwrap().contains("关单结果未知,请查单或重新调用"), "{body}");
            world.sandbox.gateway.clear_faults();
        }
    }
}

#[tokio::test]
async fn a_fault_of_an_order_that_a_query_shows_open_says_so() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_call(Call::CloseOrder, Times::Always, Fault::Forge);
    let answer = world.function.invoke(&event("function-url")).await.json();
    assert_form("function-url", &answer, 502, &json!({}));
    let body = body(&answer);
    assert_eq!(values(&body, ["returnCode", "outcome"]), ["FAIL", "open"], "{body}");
    assert!(body["returnMsg"].as_str().unwrap().contains("订单未关闭,仍可支付"), "{body}");
    assert!(body["errMsg"].as_str().unwrap().contains("still open"), "{body}");
}

#[tokio::test]
async fn a_body_with_a_byte_order_mark_is_read() {
    let mut world = world().await;
    for caller in CALLERS {
        let body_text = format!("\u{feff}{}", json!({"sub_mch_id": "1900000109", "out_trade_no": ORDER}));
        let answer = world.function.invoke(&with_body(caller, &json!(body_text))).await.json();
        assert_eq!(body(&answer)["outcome"], "closed", "{answer}");
    }
}

#[tokio::test]
async fn without_a_key_it_is_a_503() {
    let mut world = world_with(Identity::default(), |function| function.env("WECHAT_PAY_SECRET_ID", "another")).await;
    for caller in CALLERS {
        let answer = world.function.invoke(&event(caller)).await.json();
        assert_form(caller, &answer, 503, &json!({}));
        let body = body(&answer);
        let expected = [json!("FAIL"), json!(-501_001), json!("not_sent")];
        assert_eq!(values(&body, ["returnCode", "errCode", "outcome"]), expected);
        assert_eq!(body["returnMsg"], "读取密钥失败,请求未发送,请检查密钥(Secret)后重试");
    }
}

#[tokio::test]
async fn an_alb_with_multi_value_headers_gets_multi_value_headers() {
    let mut world = world().await;
    let mut event = event("alb");
    let headers = event.as_object_mut().unwrap().remove("headers").unwrap();
    let headers = headers.as_object().unwrap().iter().map(|(name, value)| (name.clone(), json!([value])));
    event["multiValueHeaders"] = Value::Object(headers.collect());
    let answer = world.function.invoke(&event).await.json();
    let expected = json!({"content-type": ["application/json"], "cache-control": ["no-store"]});
    assert_eq!(answer["multiValueHeaders"], expected);
    assert!(answer.get("headers").is_none());
}

#[tokio::test]
async fn an_emulators_stray_fields_do_not_matter() {
    let mut world = world().await;
    let mut event = event("api-gateway-http");
    event["httpMethod"] = json!("GET");
    event["multiValueHeaders"] = json!(null);
    event["path"] = json!(null);
    let answer = world.function.invoke(&event).await.json();
    assert_form("api-gateway-http", &answer, 200, &json!({}));
}

#[tokio::test]
async fn what_is_not_looked_at_may_hold_anything() {
    let mut world = world().await;
    for caller in CALLERS {
        world.sandbox.gateway.put_order(ORDER, TradeState::NotPay);
        let mut event = event(caller);
        event["headers"]["odd"] = json!("ODD");
        event["requestContext"]["deep"] = json!("DEEP");
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let text = event.to_string().replace("ODD", "\\ud800").replace("\"DEEP\"", &deep);
        let deadline = sandbox::mock::runtime::Deadline::After(ms(10_000));
        let answer = world.function.invoke_text(text, deadline).await.json();
        assert_form(caller, &answer, 200, &json!({}));
    }
}
