//! Events of services that are not supported are raised: answered, their source would take the order for done.

use serde_json::{Value, json};

use crate::support::{event, order, values, world};

#[tokio::test]
async fn an_event_of_a_service_that_is_not_supported_is_raised_by_its_name() {
    let mut world = world().await;
    let body = order("1").to_string();
    for (event, named) in [
        (json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": body}}]}), "raw message delivery"),
        (json!({"Records": [{"eventSource": "aws:kinesis", "kinesis": {"data": "e30="}}]}), "kinesis"),
        (json!({"Records": [{"eventSource": "aws:dynamodb", "dynamodb": {}}]}), "dynamodb"),
        (json!({"Records": [{"eventSource": "aws:s3", "s3": {}}]}), "s3"),
        (json!({"Records": [1]}), "Records"),
        (json!({"version": "0", "source": "shop", "detail-type": "Timed Out", "detail": order("1")}), "EventBridge"),
        (json!([{"messageId": "m", "body": body, "eventSource": "aws:sqs"}]), "Pipes"),
        (json!([{"eventSource": "aws:kinesis", "data": "e30="}]), "Pipes"),
        (json!({"eventSource": "aws:kafka", "records": {}}), "kafka"),
        (
            json!({
                "version": "1.0", "requestContext": {"functionArn": "arn", "condition": "Success"},
                "requestPayload": order("1"), "responsePayload": {},
            }),
            "Lambda destinations",
        ),
        (json!({"requestPayload": order("1"), "responsePayload": {}}), "Lambda destinations"),
        (
            json!({
                "version": "2.0", "path": "/", "method": "POST", "headers": {}, "body": body, "isBase64Encoded": false,
                "requestContext": {"serviceNetworkArn": "arn", "serviceArn": "arn", "targetGroupArn": "arn"},
            }),
            "VPC Lattice",
        ),
        (
            json!({"raw_path": "/", "method": "POST", "headers": {}, "body": body, "is_base64_encoded": false}),
            "VPC Lattice",
        ),
        (json!({"requestContext": {"connectionId": "c", "eventType": "MESSAGE"}, "body": body}), "WebSocket"),
        (json!({"requestContext": {}, "body": body}), "no HTTP method"),
        (json!({"awslogs": {"data": "H4sI"}}), "CloudWatch Logs"),
        (json!({"deliveryStreamArn": "arn", "records": []}), "Firehose"),
    ] {
        let invocation = world.function.invoke(&event).await;
        assert_eq!(invocation.error_type().as_deref(), Some("UnsupportedEvent"), "{event}: {invocation:?}");
        assert!(invocation.text().contains(named), "{named}: {invocation:?}");
        assert!(invocation.text().contains("nothing was sent"), "{named}: {invocation:?}");
    }
    for line in world.function.wait_for_order_lines(17).await {
        assert_eq!(values(&line, ["level", "outcome", "reason"]), ["ERROR", "not_sent", "UnsupportedEvent"], "{line}");
    }
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn any_other_json_is_answered_as_invalid_input() {
    let mut world = world().await;
    for event in [
        json!(null),
        json!(5),
        json!("text"),
        json!([]),
        json!([1, null]),
        json!([order("1")]),
        json!({}),
        json!({"Records": 5}),
        json!({"Records": {}}),
        json!({"source": "shop"}),
    ] {
        let reply = world.function.invoke(&event).await.json();
        let expected = [json!("FAIL"), json!(-501_007), json!("not_sent")];
        assert_eq!(values(&reply, ["returnCode", "errCode", "outcome"]), expected, "{event}: {reply}");
    }
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn every_event_of_the_collection_is_supported() {
    let mut world = world().await;
    for entry in std::fs::read_dir(format!("{}/events", env!("CARGO_MANIFEST_DIR"))).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let invocation = world.function.invoke(&event(&name)).await;
        assert_ne!(invocation.error_type().as_deref(), Some("UnsupportedEvent"), "{name}: {invocation:?}");
        assert_ne!(invocation.json(), Value::Null, "{name}: {invocation:?}");
    }
}
