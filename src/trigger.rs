//! One event in, one answer out: which trigger is it, and how does it want its answer?
//!
//! Triggers are told apart by the event's own shape. Raw orders never look like an HTTP or SQS event and the other way
//! round, so one look at the top level is enough; what is none of them is a direct call.

mod direct;
mod http;
mod sqs;

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::FutureExt;
use lambda_runtime::{Context, LambdaEvent, LambdaInvocation};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::{
    close_order::{CloseOrder, Invocation},
    fault::Fault,
};

/// What an answer takes on its way out, even on the smallest function.
const TIME_TO_ANSWER: Duration = Duration::from_millis(250);

/// A deadline that passed longer ago than this is no time at all: emulators send constants.
const LONG_PAST: Duration = Duration::from_mins(1);

/// How long an invocation has whose deadline is no time at all.
const WITHOUT_DEADLINE: Duration = Duration::from_secs(10);

/// The longest that a Lambda function runs.
const LONGEST_INVOCATION: Duration = Duration::from_mins(15);

/// An answer in the form of its trigger.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To a direct call.
    Direct(direct::Answer),
    /// To API Gateway, a Function URL or an ALB.
    Http(http::Answer),
    /// To SQS.
    Sqs(sqs::Answer),
}

/// The top level of an event, as far as it tells triggers apart.
#[derive(Default, Deserialize)]
struct Shape<'a> {
    #[serde(borrow, rename = "requestContext")]
    request_context: Option<&'a RawValue>,
    #[serde(borrow, rename = "Records")]
    records: Option<&'a RawValue>,
}

/// Lets only JSON through to [`answer`]: what is none is answered as `null` is, where the runtime would raise its own
/// error, with a Rust type's path in it. Lambda itself lets nothing else in; emulators do.
#[must_use]
pub fn json_only(mut invocation: LambdaInvocation) -> LambdaInvocation {
    if serde_json::from_slice::<&RawValue>(&invocation.body).is_err() {
        invocation.body = "null".into();
    }
    invocation
}

/// Answers one invocation.
///
/// # Errors
/// [`Fault`], which the runtime raises as a function error: only a direct call's, and never a refusal.
pub async fn answer(close_order: &CloseOrder, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, Fault> {
    let invocation = Invocation { request_id: &event.context.request_id, deadline: deadline(&event.context) };
    let answered = dispatch(close_order, event.payload.get(), invocation);
    // The lints leave no panic in this code, and one in a library's must not show its text to the caller.
    let panicked = |_| Err(Fault::ReplyInvalid { cause: "the function panicked".into() });
    AssertUnwindSafe(answered).catch_unwind().await.unwrap_or_else(panicked)
}

async fn dispatch(close_order: &CloseOrder, event: &str, invocation: Invocation<'_>) -> Result<Answer, Fault> {
    // A derived struct can be read from a list too, which no event is.
    let shape = event.trim_ascii_start().starts_with('{').then(|| serde_json::from_str::<Shape<'_>>(event));
    let shape = shape.and_then(Result::ok).unwrap_or_default();
    if shape.request_context.is_some() {
        return Ok(Answer::Http(http::answer(close_order, event, invocation).await));
    }
    match shape.records.and_then(sqs::Batch::parse) {
        Some(batch) => sqs::answer(close_order, &batch, invocation).await.map(Answer::Sqs),
        None => direct::answer(close_order, event, invocation).await.map(Answer::Direct),
    }
}

/// When the answer must be on its way.
fn deadline(context: &Context) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::now() + time_to_work(Duration::from_millis(context.deadline), now)
}

/// The time from `now` until the answer must be on its way, both since the epoch.
fn time_to_work(deadline: Duration, now: Duration) -> Duration {
    let left = if deadline + LONG_PAST < now { WITHOUT_DEADLINE } else { deadline.saturating_sub(now) };
    left.min(LONGEST_INVOCATION).saturating_sub(TIME_TO_ANSWER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_on_its_way_before_the_deadline() {
        let at = Duration::from_millis;
        let now = 1_795_392_000_000;
        let margin = u64::try_from(TIME_TO_ANSWER.as_millis()).unwrap();
        for (deadline, expected) in [
            (now + 3000, 3000 - margin),
            (now + margin / 2, 0),
            (now, 0),
            (now - 59_000, 0),
            (now - 61_000, 10_000 - margin),
            (600_000, 10_000 - margin),
            (0, 10_000 - margin),
            (u64::MAX, 900_000 - margin),
        ] {
            assert_eq!(time_to_work(at(deadline), at(now)), at(expected), "{deadline}");
        }
    }
}
