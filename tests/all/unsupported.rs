//! What carries no order is raised: answered, its source would take the order for done.

use std::time::Duration;

use sandbox::mock::runtime::Deadline;
use serde_json::{Value, json};

use crate::support::{event, order, values, world};

#[tokio::test]
async fn what_carries_no_order_is_raised_with_what_came_and_where_the_order_stands() {
    let mut world = world().await;
    let body = order("1").to_string();
    let raised = [
        (json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": body}}]}), "raw message delivery"),
        (json!({"Records": [{"eventSource": "aws:kinesis", "kinesis": {"data": "e30="}}]}), "kinesis"),
        (json!({"version": "0", "source": "shop", "detail-type": "Timed Out", "detail": order("1")}), "EventBridge"),
        (json!({"version": "0", "source": "shop", "detail-type": "Timed Out", "detail": order("1")}), "$.detail"),
        (json!([{"messageId": "m", "body": body, "eventSource": "aws:sqs"}]), "Pipes"),
        (json!([order("1")]), "$[0]"),
        (json!({"requestContext": {"functionArn": "arn"}, "requestPayload": order("1")}), "Lambda destination"),
        (json!({"requestContext": {"connectionId": "c"}, "body": body}), "$.body"),
        (json!(body), "string"),
        (json!("text"), "line 1 column 2"),
        (json!(5), "number"),
        (json!(null), "null"),
        (json!([]), "list"),
        (json!({"source": "shop"}), "out_trade_no is required"),
        (json!({"Records": 5}), "Records"),
    ];
    for (event, named) in &raised {
        let invocation = world.function.invoke(event).await;
        assert_eq!(invocation.error_type().as_deref(), Some("UnsupportedEvent"), "{event}: {invocation:?}");
        let raised: Value = serde_json::from_str(invocation.text()).unwrap();
        let message = raised["errorMessage"].as_str().unwrap();
        assert!(message.starts_with("[not_sent] "), "{message}");
        for part in [named, "; nothing was sent. ", "请求未发送"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    for line in world.function.wait_for_lines("no order", raised.len()).await {
        assert_eq!(values(&line, ["level", "outcome", "reason"]), ["ERROR", "not_sent", "UnsupportedEvent"], "{line}");
    }
    assert!(world.function.lines("order").is_empty(), "no share of orders is diluted");
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn a_callers_mistake_is_answered() {
    let mut world = world().await;
    for event in [json!({}), json!({"sub_mch_id": "1"}), json!({"confirm": null, "userInfo": {}})] {
        let reply = world.function.invoke(&event).await.json();
        let expected = [json!("FAIL"), json!(-501_007), json!("not_sent")];
        assert_eq!(values(&reply, ["returnCode", "errCode", "outcome"]), expected, "{event}: {reply}");
        assert!(reply["returnMsg"].as_str().unwrap().starts_with("参数格式校验错误: out_trade_no "), "{reply}");
    }
    for line in world.function.wait_for_lines("no order", 3).await {
        assert_eq!(values(&line, ["level", "outcome", "reason"]), ["WARN", "not_sent", "invalid_input"], "{line}");
    }
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn an_event_with_very_many_fields_takes_no_memory_for_them() {
    let mut world = world().await;
    world.function.invoke(&order("1")).await;
    let before = world.function.memory_kib("VmHWM").unwrap();
    let fields = (0..660_000).map(|n| format!("\"{n:x}\":1,")).collect::<Vec<_>>().concat();
    for event in [format!("{{{fields}\"a\":1}}"), format!("{{{fields}\"sub_mch_id\":\"1\",\"out_trade_no\":\"1\"}}")] {
        let size = u64::try_from(event.len()).unwrap() / 1024;
        let invocation = world.function.invoke_text(event, Deadline::After(Duration::from_mins(1))).await;
        assert_ne!(invocation.text(), "", "{:?}: {}", invocation.outcome, world.function.logs());
        let grown = world.function.memory_kib("VmHWM").unwrap() - before;
        assert!(grown < 4 * size, "{grown} KiB for an event of {size} KiB");
    }
}

#[tokio::test]
async fn every_event_of_the_collection_carries_an_order() {
    let mut world = world().await;
    for entry in std::fs::read_dir(format!("{}/events", env!("CARGO_MANIFEST_DIR"))).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let invocation = world.function.invoke(&event(&name)).await;
        assert_ne!(invocation.error_type().as_deref(), Some("UnsupportedEvent"), "{name}: {invocation:?}");
        assert_ne!(invocation.json(), Value::Null, "{name}: {invocation:?}");
    }
}
