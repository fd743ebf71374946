//! One event in, one answer out: which trigger is it, and how does it want its answer?
//!
//! Triggers are told apart by the event's own shape, with one look at its outside. What carries no order is raised, but for
//! what can be the mistake of a caller who waits for the answer.

mod direct;
mod event;
mod further_in;
mod http;
mod sqs;

use std::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::FutureExt;
use lambda_runtime::{Context, Diagnostic, LambdaEvent, LambdaInvocation};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use tokio::time::Instant;

use self::event::Event;
use crate::{
    answer::Answer,
    close_order::{self, CloseOrder, Invocation},
    fault::Fault,
    order::{Invalid, Order},
    outcome_events::OutcomeEvents,
    queue::Queue,
};

/// What an answer takes on its way out, even on the smallest function.
const TIME_TO_ANSWER: Duration = Duration::from_millis(250);

/// How long an invocation has whose deadline has passed on arrival: emulators send constants, and clocks differ.
const DEFAULT_TIME: Duration = Duration::from_secs(10);

/// Longest text of an invoker's in the log, in characters.
const MAX_TEXT: usize = 128;

/// The longest that a Lambda function runs.
const LONGEST_INVOCATION: Duration = Duration::from_mins(15);

/// The function: one serves every invocation of a warm process.
#[derive(Debug)]
pub struct Function {
    close_order: CloseOrder,
    outcome_events: Option<OutcomeEvents>,
    queue: Option<Queue>,
    is_warm: AtomicBool,
}

/// An answer in the form of its trigger.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Output {
    /// To a direct call.
    Direct(Answer),
    /// To API Gateway, a Function URL or an ALB.
    Http(http::HttpResponse),
    /// To SQS.
    Sqs(sqs::BatchResponse),
}

/// Lets only JSON through to [`Function::handle`]: other text becomes a JSON string and is rejected as that, where the
/// runtime would raise its own error, with a Rust type's path in it. Lambda itself lets nothing else in; emulators do.
#[must_use]
pub fn json_only(mut invocation: LambdaInvocation) -> LambdaInvocation {
    if serde_json::from_slice::<&RawValue>(&invocation.body).is_err() {
        invocation.body = Value::from(String::from_utf8_lossy(&invocation.body)).to_string().into();
    }
    invocation
}

impl Function {
    /// Puts the parts together. Without `outcome_events` a batch's outcomes are in the log only; without a `queue` a record
    /// that would wait or go aside is delivered again.
    #[must_use]
    pub fn new(close_order: CloseOrder, outcome_events: Option<OutcomeEvents>, queue: Option<Queue>) -> Self {
        Self { close_order, outcome_events, queue, is_warm: AtomicBool::new(false) }
    }

    /// Handles one invocation.
    ///
    /// # Errors
    /// What the runtime raises as a function error: a direct call's [`Fault`], unless the function itself rejects the
    /// order; a batch that can't be answered; an event that carries no order.
    pub async fn handle(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Output, Diagnostic> {
        let context = &event.context;
        let invocation = Invocation {
            request_id: &context.request_id,
            xray_trace_id: context.xray_trace_id.as_deref().map(|header| shown(trace_root(header))),
            message_id: None,
            receipt: None,
            is_cold_start: !self.is_warm.swap(true, Ordering::Relaxed),
            batch: None,
        };
        let answered = AssertUnwindSafe(self.dispatch(event.payload.get(), deadline(context), invocation));
        // An order's own panic is caught with its log line; the runtime would show the text of any other to the caller.
        answered.catch_unwind().await.unwrap_or_else(|_| {
            Err(raise(&Fault::InternalError, &close_order::log_fault(Fault::InternalError, invocation)))
        })
    }

    async fn dispatch(&self, event: &str, deadline: Instant, invocation: Invocation<'_>) -> Result<Output, Diagnostic> {
        let order = match Event::look(event.trim_ascii()) {
            Event::Http(request) => {
                return Ok(Output::Http(http::handle(self, &request, deadline, invocation).await));
            }
            Event::Batch(batch) => {
                return match sqs::handle(self, &batch, deadline, invocation).await {
                    Ok(response) => Ok(Output::Sqs(response)),
                    Err(fault) => Err(raise(&fault, &Answer::fault(fault.clone()))),
                };
            }
            Event::Unsupported(invalid) => {
                let fault = Fault::UnsupportedEvent(invalid);
                return Err(raise(&fault, &close_order::log_fault(fault.clone(), invocation)));
            }
            Event::Order(order) => order,
            Event::Mistake(invalid) => Err(invalid),
        };
        match direct::handle(self, order, deadline, invocation).await {
            Ok(answer) => Ok(Output::Direct(answer)),
            Err((fault, answer)) => Err(raise(&fault, &answer)),
        }
    }
}

impl Function {
    /// Closes an order, or logs why there is none.
    async fn close(
        &self,
        order: Result<&Order, &Invalid>,
        confirm_by_default: bool,
        deadline: Instant,
        invocation: Invocation<'_>,
    ) -> Answer {
        match order {
            Ok(order) => self.close_order.close(order, confirm_by_default, deadline, invocation).await,
            Err(invalid) => close_order::log_fault(invalid.clone().into(), invocation),
        }
    }
}

/// The function error that Lambda passes on.
fn raise(fault: &Fault, answer: &Answer) -> Diagnostic {
    Diagnostic { error_type: fault.error_type().to_owned(), error_message: fault.error_message(answer.outcome) }
}

/// The id of a trace: the `Root` of Lambda's header `Root=1-…;Parent=…;Sampled=…`.
fn trace_root(header: &str) -> &str {
    let root = header.split(';').find_map(|part| part.strip_prefix("Root="));
    root.unwrap_or(header)
}

/// A text that whoever invokes the function can set, as far as the log shows it.
fn shown(text: &str) -> &str {
    text.char_indices().nth(MAX_TEXT).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// When the answer must be on its way.
fn deadline(context: &Context) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::now() + time_to_work(Duration::from_millis(context.deadline), now)
}

/// The time from `now` until the answer must be on its way, both since the epoch.
fn time_to_work(deadline: Duration, now: Duration) -> Duration {
    let left = if deadline <= now { DEFAULT_TIME } else { deadline.saturating_sub(now) };
    left.min(LONGEST_INVOCATION).saturating_sub(TIME_TO_ANSWER)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::json;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::{
        aws, http_client,
        merchants::{Merchants, SecretId},
        wechat_pay::{Endpoint, Endpoints, WechatPay},
    };

    /// What was logged.
    #[derive(Clone, Default)]
    pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        pub(super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Log {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// A function whose clock panics, as a bug in a library would.
    fn function_that_panics() -> Function {
        let http = http_client::new(rustls::RootCertStore::empty()).unwrap();
        let settings = aws::settings(aws::Service::SecretsManager, http.clone(), |_| None);
        let secret_id = SecretId::One("secret".to_owned());
        let now = || panic!("quotes what it choked on");
        let merchants = Merchants::with_clock(secret_id, settings, Duration::ZERO, now);
        let endpoints = Endpoints::new(Endpoint::parse("http://127.0.0.1:9").unwrap(), []);
        Function::new(CloseOrder::new(merchants, WechatPay::new(http), endpoints, DEFAULT_TIME), None, None)
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_in_every_trigger_and_the_order_has_its_line() {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
        let _logged = tracing::subscriber::set_default(subscriber);
        let function = function_that_panics();
        let answer = async |event: &str| {
            let payload = RawValue::from_string(event.to_owned()).unwrap();
            let answer = function.handle(LambdaEvent::new(payload, Context::default())).await;
            answer.map(|output| serde_json::to_value(output).unwrap())
        };

        let raised = answer(r#"{"sub_mch_id":"1900000109","out_trade_no":"1"}"#).await.unwrap_err();
        assert_eq!(raised.error_type, "InternalError");
        let http = answer(include_str!("../events/api-gateway-http.json")).await.unwrap();
        assert_eq!(http["statusCode"], 500);
        let body: Value = serde_json::from_str(http["body"].as_str().unwrap()).unwrap();
        assert_eq!((&body["errCode"], &body["outcome"]), (&json!(-601_001), &json!("unknown")));
        let batch = answer(include_str!("../events/sqs.json")).await.unwrap();
        assert_eq!(batch["batchItemFailures"].as_array().unwrap().len(), 2);

        let log = log.text();
        let lines =
            log.lines().filter(|line| line.contains("outcome=\"unknown\" confirmed=false reason=\"InternalError\""));
        assert_eq!(lines.filter(|line| line.contains("ERROR")).count(), 4, "{log}");
        for text in [raised.error_message, body.to_string(), log] {
            assert!(!text.contains("choked"), "{text}");
        }
    }

    #[test]
    fn a_text_of_an_invokers_has_128_characters_in_the_log() {
        assert_eq!(shown(&"订".repeat(129)), "订".repeat(128));
        assert_eq!(shown(&"订".repeat(128)), "订".repeat(128));
        assert_eq!(shown(""), "");
    }

    #[test]
    fn the_answer_is_on_its_way_before_the_deadline() {
        let at = Duration::from_millis;
        let now = 1_795_392_000_000;
        let margin = u64::try_from(TIME_TO_ANSWER.as_millis()).unwrap();
        for (deadline, expected) in [
            (now + 3000, 3000 - margin),
            (now + margin / 2, 0),
            (now, 10_000 - margin),
            (now - 1, 10_000 - margin),
            (now - 61_000, 10_000 - margin),
            (600_000, 10_000 - margin),
            (0, 10_000 - margin),
            (u64::MAX, 900_000 - margin),
        ] {
            assert_eq!(time_to_work(at(deadline), at(now)), at(expected), "{deadline}");
        }
    }
}
