//! The operation: key → signed request → verified reply → query where it is in doubt → answer. The only place that
//! decides.
//!
//! What follows an attempt is a table, `next_step`; when an order is queried and what that comes to are two more,
//! `decision`. The loops around them only send and pause. The deadline is theirs, too: each attempt is bounded by it, and
//! what is in hand when it comes is returned.

mod decision;
mod next_step;
mod order_log;

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    answer::Answer,
    fault::Fault,
    merchant::MerchantCache,
    order::{Age, Invalid, Order, Problem, TimeStart},
    outcome::Outcome,
    wechat_pay::{Connection, Endpoint, Endpoints, ExchangeError, Merchant, Reply, ReplyCode, Request, WechatPay},
};
use decision::{CloseResult, Decision, Form, QueryResult, decide, decide_again};
use next_step::{AttemptOutcome, MAX_ATTEMPTS, NextStep, attempt_limit, classify, is_endpoint_failure, next_step};
use order_log::OrderLog;

/// Mean pause after the first failed attempt; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// How many orderquery requests one query has at most.
const MAX_QUERY_ATTEMPTS: u32 = 2;

/// The least time that is left for a query to begin.
const MIN_TIME_TO_QUERY: Duration = Duration::from_secs(1);

/// The least time that is left for a second round to begin, and its mean pause.
const MIN_TIME_FOR_SECOND_ROUND: Duration = Duration::from_secs(3);
const PAUSE_BEFORE_SECOND_ROUND: Duration = Duration::from_secs(1);

/// Closes orders; one serves every invocation of a warm process.
#[derive(Debug)]
pub struct CloseOrder {
    merchants: MerchantCache,
    wechat_pay: WechatPay,
    endpoints: Endpoints,
    /// The longest that one attempt may take, connect to last byte.
    timeout: Duration,
}

/// Which invocation an order came with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Invocation<'a> {
    /// Lambda's request id, for the log.
    pub request_id: &'a str,
    /// The X-Ray trace, for the log.
    pub xray_trace_id: Option<&'a str>,
    /// The SQS message that the order came in, for the log.
    pub message_id: Option<&'a str>,
    /// Whether it is the first invocation of this process.
    pub is_cold_start: bool,
}

impl CloseOrder {
    /// Puts the parts together; nothing is read or sent yet.
    #[must_use]
    pub fn new(merchants: MerchantCache, wechat_pay: WechatPay, endpoints: Endpoints, timeout: Duration) -> Self {
        Self { merchants, wechat_pay, endpoints, timeout }
    }

    /// Reads the secret ahead of the first order, as far as that succeeds in time, and returns it. A failure is not
    /// final: the first order reads it again and says so.
    pub async fn prefetch(&self, within: Duration) -> Option<Arc<Merchant>> {
        let read = tokio::time::timeout(within, self.merchants.current()).await;
        read.ok().and_then(Result::ok)
    }

    /// Closes an order, and leaves one line in the log that says what became of it, or why it is none. It answers by the
    /// `deadline`. `confirm_by_default` is what an order that says nothing of it gets.
    pub async fn close(
        &self,
        order: Result<Order, Invalid>,
        confirm_by_default: bool,
        deadline: Instant,
        invocation: Invocation<'_>,
    ) -> Answer {
        let mut log = OrderLog::new(invocation);
        let answer = match order {
            Err(invalid) => Answer::fault(invalid.into()),
            Ok(order) => {
                log.order(&order);
                let confirm = order.confirm.unwrap_or(confirm_by_default);
                let operation = async {
                    match self.start(&order, deadline, &mut log).await {
                        Ok(mut operation) => operation.run(confirm).await,
                        Err(fault) => Answer::fault(fault),
                    }
                };
                without_panic(operation).await
            }
        };
        log.write(&answer);
        answer
    }

    /// Logs an event that can't be an order, as one that was not sent.
    pub fn log_rejection(&self, fault: Fault, invocation: Invocation<'_>) -> Answer {
        let answer = Answer::fault(fault);
        OrderLog::new(invocation).write(&answer);
        answer
    }

    /// Everything that comes before the first request.
    async fn start<'a, 'l>(
        &'a self,
        order: &'a Order,
        deadline: Instant,
        log: &'a mut OrderLog<'l>,
    ) -> Result<Operation<'a, 'l>, Fault> {
        match order.time_start.map(|time_start| time_start.age(SystemTime::now())) {
            None | Some(Age::OldEnough) => {}
            Some(Age::TooYoung(wait)) => {
                let retry_after_seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                return Err(Fault::TooYoung { retry_after_seconds });
            }
            Some(Age::FarFuture) => {
                let zh = "不能晚于当前北京时间24小时以上";
                let en = "must not be more than 24 hours in the future, Beijing time";
                return Err(order.invalid(TimeStart::NAME, Problem { zh, en }).into());
            }
        }
        // A batch can be longer than its time: what has not begun by then does not begin.
        if deadline <= Instant::now() {
            return Err(Fault::DeadlineExceeded { was_sent: false });
        }
        let merchant = timeout_at(deadline, self.merchants.current())
            .await
            .map_err(|_| Fault::CredentialsUnavailable { cause: "Secrets Manager did not answer in time".into() })??;
        log.merchant(&merchant);
        order.check_for(&merchant)?;
        Ok(Operation { context: self, order, merchant, deadline, log, endpoint: None, may_have_closed: false })
    }
}

/// One order under way.
struct Operation<'a, 'l> {
    context: &'a CloseOrder,
    order: &'a Order,
    merchant: Arc<Merchant>,
    deadline: Instant,
    log: &'a mut OrderLog<'l>,
    /// Where the last closeorder request went.
    endpoint: Option<&'a Endpoint>,
    /// Whether an attempt of this order was sent and came to anything but a rejection.
    may_have_closed: bool,
}

impl Operation<'_, '_> {
    async fn run(&mut self, confirm: bool) -> Answer {
        let closed = self.close().await;
        let close = CloseResult::of(&closed, self.may_have_closed);
        let (query, reply) = self.query_if(close.is_queried(confirm)).await;
        let decision = decide(close, query);
        let is_stuck = decision.outcome == Outcome::Open && close.outcome() == Outcome::Closed;
        if !is_stuck || self.log.attempts >= MAX_ATTEMPTS || self.left() < MIN_TIME_FOR_SECOND_ROUND {
            return self.answer(closed, decision, reply.as_ref());
        }
        sleep(jittered(PAUSE_BEFORE_SECOND_ROUND)).await;
        let closed = self.close().await;
        let close = CloseResult::of(&closed, self.may_have_closed);
        let (query, second_reply) = self.query_if(close.is_queried(true)).await;
        // What the first query has shown is proof still, if the second brought nothing.
        self.answer(closed, decide_again(close, query), second_reply.or(reply).as_ref())
    }

    /// Sends closeorder requests until one brings something final, none is left, or the time runs out.
    async fn close(&mut self) -> Result<Reply, Fault> {
        let context = self.context;
        let mut endpoint = context.endpoints.first();
        let mut connection = Connection::Pooled;
        let mut in_hand = None;
        loop {
            let left = self.left();
            if left.is_zero() {
                return in_hand.unwrap_or(Err(Fault::DeadlineExceeded { was_sent: self.may_have_closed }));
            }
            self.log.attempt(endpoint);
            self.endpoint = Some(endpoint);
            let limit = attempt_limit(left, context.timeout, self.log.attempts >= MAX_ATTEMPTS);
            let request = Request::close(self.order, &self.merchant);
            let exchange = context.wechat_pay.exchange(endpoint, &request, connection, limit).await;
            self.log.closed(&exchange);
            let attempt = classify(&exchange.result);
            let is_cut_short =
                limit == left && matches!(exchange.result, Err(ExchangeError::Send(error)) if error.is_timeout());
            if is_endpoint_failure(attempt, connection, is_cut_short.then_some(limit)) {
                context.endpoints.failed(endpoint);
            }
            self.may_have_closed |= may_have_closed(&exchange.result);
            if is_cut_short && in_hand.is_none() {
                return Err(Fault::DeadlineExceeded { was_sent: self.may_have_closed });
            }
            let result = combine(in_hand.take(), exchange.result.map_err(Fault::from));
            match next_step(attempt, connection, self.log.attempts) {
                NextStep::Return => return result,
                NextStep::NewConnection => connection = Connection::New,
                NextStep::NextEndpoint => {
                    let pause = jittered(PAUSE * 2_u32.saturating_pow(self.log.attempts - 1));
                    if pause >= self.left() {
                        return result;
                    }
                    sleep(pause).await;
                    (endpoint, connection) = (context.endpoints.after(endpoint), Connection::Pooled);
                }
                NextStep::RereadSecret => {
                    let reread = context.merchants.reread_if_changed(&self.merchant);
                    match timeout_at(self.deadline, reread).await {
                        Ok(Some(changed))
                            if self.log.attempts < MAX_ATTEMPTS && self.order.check_for(&changed).is_ok() =>
                        {
                            self.log.merchant(&changed);
                            self.merchant = changed;
                        }
                        _ => return result,
                    }
                }
            }
            in_hand = Some(result);
        }
    }

    async fn query_if(&mut self, is_queried: bool) -> (QueryResult, Option<Reply>) {
        let reply = if is_queried { self.query().await } else { None };
        (reply.as_ref().map_or(QueryResult::Nothing, QueryResult::of), reply)
    }

    /// Asks for the order's state: `None` without a verified reply that shows it.
    async fn query(&mut self) -> Option<Reply> {
        let context = self.context;
        if self.left() < MIN_TIME_TO_QUERY {
            return None;
        }
        let mut endpoint = self.endpoint.unwrap_or_else(|| context.endpoints.first());
        let mut connection = Connection::Pooled;
        for attempt in 1..=MAX_QUERY_ATTEMPTS {
            let left = self.left();
            if left.is_zero() {
                return None;
            }
            self.log.query();
            let limit = attempt_limit(left, context.timeout, attempt == MAX_QUERY_ATTEMPTS);
            let request = Request::query(self.order, &self.merchant);
            let exchange = context.wechat_pay.exchange(endpoint, &request, connection, limit).await;
            self.log.queried(&exchange);
            match classify(&exchange.result) {
                AttemptOutcome::NoConnection | AttemptOutcome::ConnectionLost | AttemptOutcome::NoReply => {
                    (endpoint, connection) = (context.endpoints.after(endpoint), Connection::New);
                }
                AttemptOutcome::SystemError | AttemptOutcome::SignatureFailure | AttemptOutcome::Final => {
                    return exchange.result.ok().filter(|reply| QueryResult::of(reply) != QueryResult::Nothing);
                }
            }
        }
        None
    }

    fn answer(&self, closed: Result<Reply, Fault>, decision: Decision, query: Option<&Reply>) -> Answer {
        let request = Request::close(self.order, &self.merchant);
        let Decision { outcome, form } = decision;
        match (form, closed) {
            (Form::Shown(shown), _) => Answer::shown_by_query(outcome, shown, query, &request),
            (Form::Alone, Ok(reply)) => Answer::reply(outcome, &reply, None, &request),
            (Form::WithQuery, Ok(reply)) => Answer::reply(outcome, &reply, query, &request),
            (Form::Alone | Form::WithQuery, Err(fault)) => Answer { outcome, result: Err(fault) },
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Runs the operation; a panic in a library (the lints leave none in this code) becomes a fault, without its text, which
/// could quote what it choked on.
async fn without_panic(operation: impl Future<Output = Answer>) -> Answer {
    let answered = AssertUnwindSafe(operation).catch_unwind().await;
    answered.unwrap_or_else(|_| Answer::fault(Fault::InternalError))
}

/// Whether an attempt may have closed the order: it was sent, and came to anything but a rejection.
fn may_have_closed(result: &Result<Reply, ExchangeError>) -> bool {
    match result {
        Ok(reply) => !matches!(reply.code(), ReplyCode::Rejected | ReplyCode::SignatureRefused),
        Err(ExchangeError::Send(error)) => error.was_sent(),
        Err(ExchangeError::Reply(_)) => true,
    }
}

/// Of several attempts the weightiest counts: a verified reply, then a reply that could not be verified, then no reply to
/// what was sent, then no connection; among equals the last.
fn combine(in_hand: Option<Result<Reply, Fault>>, result: Result<Reply, Fault>) -> Result<Reply, Fault> {
    let weight = |result: &Result<Reply, Fault>| match result {
        Ok(_) => 3,
        Err(Fault::ReplyInvalid(_)) => 2,
        Err(Fault::GatewayUnreachable(error)) if error.was_sent() => 1,
        Err(_) => 0,
    };
    match in_hand {
        Some(in_hand) if weight(&in_hand) > weight(&result) => in_hand,
        _ => result,
    }
}

impl From<ExchangeError> for Fault {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Send(error) => Self::GatewayUnreachable(error),
            ExchangeError::Reply(error) => Self::ReplyInvalid(error),
        }
    }
}

/// Half to one and a half times the mean, lest all functions come back at once.
fn jittered(mean: Duration) -> Duration {
    let random = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    mean.mul_f64(0.5 + random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http_client::SendError,
        wechat_pay::{ReplyError, VerifyError},
    };

    #[test]
    fn of_several_attempts_the_weightiest_counts_and_among_equals_the_last() {
        let unsent = || Err(Fault::GatewayUnreachable(SendError::Refused));
        let unresolved = || Err(Fault::GatewayUnreachable(SendError::Unresolved));
        let sent = || Err(Fault::GatewayUnreachable(SendError::TimedOut));
        let lost = || Err(Fault::GatewayUnreachable(SendError::ConnectionLost));
        let invalid = |status| Err(Fault::ReplyInvalid(ReplyError { status, error: Some(VerifyError::Signature) }));
        let fault = |result: Result<Reply, Fault>| result.unwrap_err();
        for (in_hand, result, expected) in [
            (None, unsent(), unsent()),
            (Some(unsent()), unresolved(), unresolved()),
            (Some(unsent()), sent(), sent()),
            (Some(sent()), unsent(), sent()),
            (Some(sent()), lost(), lost()),
            (Some(sent()), invalid(200), invalid(200)),
            (Some(invalid(200)), sent(), invalid(200)),
            (Some(invalid(200)), unsent(), invalid(200)),
            (Some(invalid(200)), invalid(403), invalid(403)),
        ] {
            assert_eq!(fault(combine(in_hand, result)), fault(expected));
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_of_its_own() {
        let answer = without_panic(async { panic!("quotes a secret") }).await;
        assert_eq!((answer.outcome, answer.reason()), (Outcome::Unknown, Some("InternalError")));
        assert!(!answer.to_json()["errMsg"].to_string().contains("quotes"));
    }

    #[test]
    fn a_pause_is_half_to_one_and_a_half_of_its_mean() {
        for _ in 0..1000 {
            assert!((50..=150).contains(&jittered(PAUSE).as_millis()));
        }
        assert!((0..100).any(|_| jittered(PAUSE) != jittered(PAUSE)));
    }
}
