//! Secrets Manager and EventBridge: that they are strict. How they fail is met by the function's own tests.

use sandbox::{
    Sandbox,
    mock::{event_bus::Failure, secrets::SECRET_ID},
};
use serde_json::{Value, json};

use crate::support::{authorization, body_of, exchange};

const GET: &str = "secretsmanager.GetSecretValue";

const PUT: &str = "AWSEvents.PutEvents";

/// Makes a call; the response, and its body.
async fn call(url: &str, target: &str, authorization: &str, body: &Value) -> std::io::Result<(String, Value)> {
    let headers = format!("x-amz-target: {target}\r\n{authorization}");
    let reply = exchange(url, "POST /", &headers, body.to_string().as_bytes()).await?;
    let json = serde_json::from_str(body_of(&reply)).unwrap_or_default();
    Ok((reply, json))
}

fn entry(number: usize) -> Value {
    let detail = json!({"outcome": "closed", "out_trade_no": number.to_string()}).to_string();
    json!({"EventBusName": "shop", "Source": "close-order", "DetailType": "Order Outcome", "Detail": detail})
}

#[tokio::test]
async fn a_request_that_is_wrong_in_itself_is_rejected_as_aws_does() {
    let sandbox = Sandbox::start().await.unwrap();
    let (secrets, events) = (sandbox.secrets.url(), sandbox.events.url());
    let [for_secrets, for_events] = ["secretsmanager", "events"].map(authorization);
    let secret = |id| json!({"SecretId": id});
    let entries = |count| json!({"Entries": vec![entry(1); count]});
    let missing = "MissingAuthenticationTokenException";
    for (url, target, authorization, body, name) in [
        (&secrets, GET, "", secret(SECRET_ID), missing),
        (&secrets, GET, &*for_events, secret(SECRET_ID), missing),
        (&secrets, GET, &*for_secrets, secret("another"), "ResourceNotFoundException"),
        (&events, PUT, "", entries(1), missing),
        (&events, PUT, &*for_secrets, entries(1), missing),
        (&events, PUT, &*for_events, entries(0), "ValidationException"),
        (&events, PUT, &*for_events, entries(11), "ValidationException"),
    ] {
        let (reply, error) = call(url, target, authorization, &body).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
        assert!(reply.contains(&format!("x-amzn-errortype: {name}")), "{reply}");
        assert_eq!(error["__type"], name);
    }
    assert!(sandbox.events.events().is_empty());
}

#[tokio::test]
async fn entries_that_are_wrong_in_themselves_fail_alone_and_what_is_lost_on_the_way_back_is_taken() {
    let bus = Sandbox::start().await.unwrap().events;
    let mut entries = vec![entry(0)];
    for (name, value) in [("Source", json!("")), ("DetailType", json!(null)), ("Detail", json!("no JSON"))] {
        let mut wrong = entry(1);
        wrong[name] = value;
        entries.push(wrong);
    }
    let put = async |entries| call(&bus.url(), PUT, &authorization("events"), &json!({"Entries": entries})).await;
    let (_, answer) = put(entries).await.unwrap();
    assert_eq!(answer["FailedEntryCount"], 3);
    let codes = answer["Entries"].as_array().unwrap().iter().map(|entry| entry["ErrorCode"].as_str());
    let expected = [None, Some("InvalidArgument"), Some("InvalidArgument"), Some("MalformedDetail")];
    assert_eq!(codes.collect::<Vec<_>>(), expected);
    bus.set_failure(Some(Failure::ResetAfter));
    assert!(put(vec![entry(2)]).await.is_err());
    let taken = bus.events().into_iter().map(|event| event.detail["out_trade_no"].clone());
    assert_eq!(taken.collect::<Vec<_>>(), ["0", "2"]);
}
