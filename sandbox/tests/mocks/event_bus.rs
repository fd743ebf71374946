//! EventBridge.

use std::io::ErrorKind;

use sandbox::mock::event_bus::{EventBus, Failure};
use serde_json::{Value, json};

use crate::support::{authorization, body_of, exchange, soon};

async fn bus() -> EventBus {
    EventBus::start(None, ([127, 0, 0, 1], 0).into()).await.unwrap()
}

fn entry(number: usize) -> Value {
    let detail = json!({"outcome": "closed", "out_trade_no": number.to_string()}).to_string();
    json!({"EventBusName": "shop", "Source": "close-order", "DetailType": "Order Outcome", "Detail": detail})
}

async fn put_as(bus: &EventBus, entries: &[Value], authorization: &str) -> std::io::Result<(String, Value)> {
    let headers = format!("x-amz-target: AWSEvents.PutEvents\r\n{authorization}");
    let body = json!({"Entries": entries}).to_string();
    let reply = exchange(&bus.url(), "POST /", &headers, body.as_bytes()).await?;
    let json = serde_json::from_str(body_of(&reply)).unwrap_or_default();
    Ok((reply, json))
}

async fn put(bus: &EventBus, entries: &[Value]) -> std::io::Result<(String, Value)> {
    put_as(bus, entries, &authorization("events")).await
}

#[tokio::test]
async fn what_is_taken_is_on_record_and_reported() {
    let bus = bus().await;
    let mut watch = bus.watch();
    let mut without_bus = entry(2);
    without_bus.as_object_mut().unwrap().remove("EventBusName");
    let (_, answer) = put(&bus, &[entry(1), without_bus]).await.unwrap();
    assert_eq!(answer["FailedEntryCount"], 0);
    assert!(answer["Entries"].as_array().unwrap().iter().all(|entry| entry["EventId"].is_string()), "{answer}");
    let events = bus.events();
    assert_eq!((&*events[0].bus, &*events[1].bus), ("shop", "default"));
    assert_eq!((&*events[0].source, &*events[0].detail_type), ("close-order", "Order Outcome"));
    assert_eq!(events[0].detail, json!({"outcome": "closed", "out_trade_no": "1"}));
    assert_eq!(soon(watch.recv()).await.as_ref(), Some(&events[0]));
    assert_eq!(bus.calls(), [2]);
}

#[tokio::test]
async fn entries_that_are_wrong_in_themselves_fail_alone() {
    let bus = bus().await;
    let mut entries = vec![entry(0)];
    for (name, value) in [("Source", json!("")), ("DetailType", json!(null)), ("Detail", json!("no JSON"))] {
        let mut wrong = entry(1);
        wrong[name] = value;
        entries.push(wrong);
    }
    let (_, answer) = put(&bus, &entries).await.unwrap();
    assert_eq!(answer["FailedEntryCount"], 3);
    let codes = answer["Entries"].as_array().unwrap().iter().map(|entry| entry["ErrorCode"].as_str());
    let expected = [None, Some("InvalidArgument"), Some("InvalidArgument"), Some("MalformedDetail")];
    assert_eq!(codes.collect::<Vec<_>>(), expected);
    assert_eq!(bus.events().len(), 1);
}

#[tokio::test]
async fn every_nth_entry_can_fail_counted_over_all_calls() {
    let bus = bus().await;
    bus.set_failure(Some(Failure::EveryNth(3)));
    for (entries, failed) in [([entry(1), entry(2)], 0), ([entry(3), entry(4)], 1)] {
        assert_eq!(put(&bus, &entries).await.unwrap().1["FailedEntryCount"], failed);
    }
    let taken = bus.events().into_iter().map(|event| event.detail["out_trade_no"].clone());
    assert_eq!(taken.collect::<Vec<_>>(), ["1", "2", "4"]);
}

#[tokio::test]
async fn a_call_that_fails_fails_as_aws_does_and_takes_nothing() {
    let bus = bus().await;
    let missing = "MissingAuthenticationTokenException";
    let mut failures = vec![
        (put_as(&bus, &[entry(1)], "").await.unwrap(), 400, missing),
        (put_as(&bus, &[entry(1)], &authorization("secretsmanager")).await.unwrap(), 400, missing),
        (put(&bus, &[]).await.unwrap(), 400, "ValidationException"),
        (put(&bus, &vec![entry(1); 11]).await.unwrap(), 400, "ValidationException"),
    ];
    for (failure, status, name) in [
        (Failure::InternalError, 500, "InternalException"),
        (Failure::AccessDenied, 400, "AccessDeniedException"),
        (Failure::Throttled, 400, "ThrottlingException"),
    ] {
        bus.set_failure(Some(failure));
        failures.push((put(&bus, &[entry(1)]).await.unwrap(), status, name));
    }
    for ((reply, error), status, name) in failures {
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{reply}");
        assert!(reply.contains(&format!("x-amzn-errortype: {name}")), "{reply}");
        assert_eq!(error["__type"], name);
    }
    bus.set_failure(Some(Failure::Reset));
    assert_eq!(put(&bus, &[entry(1)]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(bus.events().is_empty());
    bus.set_failure(Some(Failure::ResetAfter));
    assert_eq!(put(&bus, &[entry(1)]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(bus.events().len(), 1);
}
