//! HTTP: API Gateway REST (payload 1.0), HTTP API and Function URL (2.0), and an ALB. The body is the order.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, Serializer, de::IgnoredAny, ser::SerializeMap};
use serde_json::{Value, value::RawValue};
use tokio::time::Instant;

use super::{Function, envelope};
use crate::{
    answer::Answer,
    close_order::Invocation,
    fault::Fault,
    order::{Invalid, Problem},
};

/// What an error about the whole body calls it.
pub(super) const BODY: &str = "body";

const NOT_POST: Problem = Problem { zh: "请使用post方法", en: "must be POST" };

const NOT_BASE64: Problem = Problem {
    zh: "不是有效的Base64编码UTF-8文本",
    en: "must be UTF-8 text in Base64, as isBase64Encoded says",
};

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

/// What is read of a proxied request; all else is skipped, whatever it holds.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HttpRequest<'a> {
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    http_method: Option<&'a RawValue>,
    #[serde(borrow)]
    request_context: Option<&'a RawValue>,
    headers: Option<IgnoredAny>,
    multi_value_headers: Option<IgnoredAny>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    is_base64_encoded: Option<&'a RawValue>,
}

/// The `requestContext` of payload 2.0.
#[derive(Deserialize)]
struct RequestContext<'a> {
    #[serde(borrow)]
    http: RequestContextHttp<'a>,
}

#[derive(Deserialize)]
struct RequestContextHttp<'a> {
    #[serde(borrow)]
    method: &'a RawValue,
}

/// Answers a request whose method is known.
pub(super) async fn answer(
    function: &Function,
    request: &HttpRequest<'_>,
    method: &str,
    deadline: Instant,
    invocation: Invocation<'_>,
) -> HttpResponse {
    let is_post = method == "POST";
    let order = if is_post {
        request.body().and_then(|body| envelope::order(&body, BODY))
    } else {
        Err(Invalid::new("httpMethod", NOT_POST))
    };
    let answer = function.close_order.close(order, false, deadline, invocation).await;
    HttpResponse { form: request.form(), is_post, answer }
}

impl<'a> HttpRequest<'a> {
    pub(super) fn parse(event: &'a str) -> Self {
        serde_json::from_str(event).unwrap_or_default()
    }

    fn form(&self) -> Form {
        if self.version.is_some_and(|version| version.get() == "\"2.0\"") {
            Form::Version2
        } else if self.multi_value_headers.is_some() && self.headers.is_none() {
            Form::MultiValue
        } else {
            Form::Plain
        }
    }

    /// The request's method; `None` for an event that is not an HTTP request.
    pub(super) fn method(&self) -> Option<String> {
        // Emulators of payload 2.0 leave a stray `httpMethod` at the top.
        let method = if self.form() == Form::Version2 {
            let context =
                self.request_context.and_then(|raw| serde_json::from_str::<RequestContext<'_>>(raw.get()).ok());
            context.map(|context| context.http.method)
        } else {
            self.http_method
        };
        method.and_then(|method| serde_json::from_str(method.get()).ok())
    }

    fn body(&self) -> Result<String, Invalid> {
        let not_an_object = || Invalid::new(BODY, Problem::NOT_AN_OBJECT);
        let body = self.body.ok_or_else(not_an_object)?;
        let body = serde_json::from_str::<String>(body.get()).map_err(|_| not_an_object())?;
        if self.is_base64_encoded.is_none_or(|is_encoded| is_encoded.get() != "true") {
            return Ok(body);
        }
        let decoded = STANDARD.decode(body).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.ok_or(Invalid::new(BODY, NOT_BASE64))
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
            Err(Fault::TooYoung { retry_after_seconds }) => Some(("retry-after", retry_after_seconds.to_string())),
            _ => None,
        };
        // A reply is about one order at one moment: nobody may cache it.
        let always = [("content-type", "application/json".to_owned()), ("cache-control", "no-store".to_owned())];
        always.into_iter().chain(special).map(|(name, value)| (name.to_owned(), form(value).into())).collect()
    }
}
