//! HTTP: API Gateway REST (payload 1.0), HTTP API and Function URL (2.0), and an ALB. The body is the order.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{
    close_order::{CloseOrder, Invocation},
    fault::Fault,
    order::{Invalid, Order, Problem},
    wechat_pay::Reply,
};

/// The answer to an HTTP request, in the form that the service which sent it takes.
#[derive(Debug)]
pub struct Answer {
    form: Form,
    result: Result<Reply, Fault>,
}

/// What differs between the services that speak HTTP to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Payload 1.0 of API Gateway REST, and an ALB.
    Plain,
    /// An ALB whose target group has multi-value headers: it sends and takes no others
    /// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html>).
    MultiValue,
    /// Payload 2.0 of HTTP API and Function URL.
    Version2,
}

pub(super) async fn answer(close_order: &CloseOrder, event: &str, invocation: Invocation<'_>) -> Answer {
    let event: Value = serde_json::from_str(event).unwrap_or_default();
    let is_there = |name| event.get(name).is_some_and(|value| !value.is_null());
    let form = match event.get("version") {
        Some(version) if version == "2.0" => Form::Version2,
        _ if is_there("multiValueHeaders") && !is_there("headers") => Form::MultiValue,
        _ => Form::Plain,
    };
    // Emulators of payload 2.0 leave a stray `httpMethod` at the top.
    let method = event.pointer(if form == Form::Version2 { "/requestContext/http/method" } else { "/httpMethod" });
    let result = if method.is_some_and(|method| method == "POST") {
        close_order.close(body(&event).and_then(|body| Order::from_json(&body, BODY)), invocation).await
    } else {
        Err(Fault::BadInput(Invalid::new("httpMethod", Problem::NotPost)))
    };
    Answer { form, result }
}

/// What a refusal of the whole body calls it.
pub(super) const BODY: &str = "body";

fn body(event: &Value) -> Result<String, Invalid> {
    match (event.get("body"), event.get("isBase64Encoded")) {
        (Some(Value::String(body)), Some(Value::Bool(true))) => STANDARD
            .decode(body)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or(Invalid::new(BODY, Problem::NotBase64)),
        (Some(Value::String(body)), _) => Ok(body.clone()),
        _ => Err(Invalid::new(BODY, Problem::NotAnObject)),
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (status, body) = match &self.result {
            Ok(reply) => (200, reply.json().get().to_owned()),
            Err(fault) => (fault.http_status(), serde_json::to_string(fault).map_err(serde::ser::Error::custom)?),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("statusCode", &status)?;
        match self.form {
            Form::Plain | Form::Version2 => map.serialize_entry("headers", &self.headers(|value| value))?,
            Form::MultiValue => map.serialize_entry("multiValueHeaders", &self.headers(|value| [value]))?,
        }
        if self.form == Form::Version2 {
            // Optional to AWS; cargo-lambda's emulator insists on it.
            map.serialize_entry::<_, [&str; 0]>("cookies", &[])?;
        }
        map.serialize_entry("body", &body)?;
        map.serialize_entry("isBase64Encoded", &false)?;
        map.end()
    }
}

impl Answer {
    fn headers<V: Into<Value>>(&self, form: impl Fn(String) -> V) -> serde_json::Map<String, Value> {
        let special = match &self.result {
            Err(Fault::BadInput(Invalid { problem: Problem::NotPost, .. })) => Some(("allow", "POST".to_owned())),
            Err(Fault::TooYoung { retry_after_seconds }) => Some(("retry-after", retry_after_seconds.to_string())),
            _ => None,
        };
        // A reply is about one order at one moment: nobody may keep it.
        let always = [("content-type", "application/json".to_owned()), ("cache-control", "no-store".to_owned())];
        always.into_iter().chain(special).map(|(name, value)| (name.to_owned(), form(value).into())).collect()
    }
}
