//! HTTP: API Gateway REST (payload 1.0), HTTP API and Function URL (2.0), and an ALB. The body is the order.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, value::RawValue};
use tokio::time::Instant;

use super::{
    Function,
    event::{BODY, Fields, order_in_body, read},
};
use crate::{
    answer::Answer,
    close_order::Invocation,
    fault::Fault,
    order::{Invalid, Problem},
};

const NOT_POST: Problem = Problem::new("请使用post方法", "must be POST");

const NOT_BASE64: Problem =
    Problem::new("不是有效的Base64编码UTF-8文本", "must be UTF-8 text in Base64, as isBase64Encoded says");

/// The answer to an HTTP request, in the form that the service which sent it takes.
#[derive(Debug)]
pub struct HttpResponse {
    form: Form,
    is_post: bool,
    answer: Answer,
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

/// A proxied request, as far as it is looked at.
#[derive(Debug)]
pub(super) struct HttpRequest<'a> {
    form: Form,
    method: String,
    body: Option<&'a RawValue>,
    is_base64_encoded: bool,
}

/// The `requestContext` of payload 2.0.
#[derive(Deserialize)]
struct RequestContext {
    http: RequestContextHttp,
}

#[derive(Deserialize)]
struct RequestContextHttp {
    method: String,
}

/// Handles a request, whose body is the order.
pub(super) async fn handle(
    function: &Function,
    request: &HttpRequest<'_>,
    deadline: Instant,
    invocation: Invocation<'_>,
) -> HttpResponse {
    let is_post = request.method == "POST";
    let order = if is_post {
        request.body().and_then(|body| order_in_body(&body))
    } else {
        Err(Invalid::no_order("httpMethod", NOT_POST))
    };
    let answer = function.close(order.as_ref(), false, deadline, invocation).await;
    HttpResponse { form: request.form, is_post, answer }
}

impl<'a> HttpRequest<'a> {
    /// The request that an event is; `None` if it has no `requestContext`, or no method where its form has it.
    pub(super) fn of(event: &Fields<'a>) -> Option<Self> {
        let form = if event.version.is_some_and(|version| version.get() == "\"2.0\"") {
            Form::Version2
        } else if event.multi_value_headers.is_some() && event.headers.is_none() {
            Form::MultiValue
        } else {
            Form::Plain
        };
        // Emulators of payload 2.0 leave a stray `httpMethod` at the top.
        let method = match form {
            Form::Version2 => read(event.request_context).map(|RequestContext { http }| http.method),
            Form::Plain | Form::MultiValue => event.request_context.and_then(|_| read::<String>(event.http_method)),
        };
        Some(Self {
            form,
            method: method?,
            body: event.body,
            is_base64_encoded: event.is_base64_encoded.is_some_and(|value| value.get() == "true"),
        })
    }

    fn body(&self) -> Result<String, Invalid> {
        let body = self.body.and_then(|body| serde_json::from_str::<String>(body.get()).ok());
        let body = body.ok_or_else(|| Invalid::no_order(BODY, Problem::NOT_AN_OBJECT))?;
        if !self.is_base64_encoded {
            return Ok(body);
        }
        let decoded = STANDARD.decode(body).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.ok_or_else(|| Invalid::no_order(BODY, NOT_BASE64))
    }
}

impl Serialize for HttpResponse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let status = match &self.answer.result {
            _ if !self.is_post => 405,
            Ok(_) => 200,
            Err(fault) => fault.http_status(),
        };
        let body = serde_json::to_string(&self.answer).map_err(serde::ser::Error::custom)?;
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

impl HttpResponse {
    fn headers<V: Into<Value>>(&self, form: impl Fn(String) -> V) -> serde_json::Map<String, Value> {
        let special = match &self.answer.result {
            _ if !self.is_post => Some(("allow", "POST".to_owned())),
            Err(Fault::TooEarly(wait)) => Some(("retry-after", wait.seconds().to_string())),
            _ => None,
        };
        // A reply is about one order at one moment: nobody may cache it.
        let always = [("content-type", "application/json".to_owned()), ("cache-control", "no-store".to_owned())];
        always.into_iter().chain(special).map(|(name, value)| (name.to_owned(), form(value).into())).collect()
    }
}
