//! One order under way: attempts, query, perhaps a second round. The loops only send and pause; what follows what is in
//! the tables beside this file. The deadline is theirs, too: each attempt is bounded by it, and what is in hand when it
//! comes is returned.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

use super::{
    CloseOrder,
    decision::{AnswerForm, CloseResult, Decision, QueryResult, decide, decide_again},
    merchant_rules,
    next_step::{AttemptOutcome, MAX_ATTEMPTS, NextStep, attempt_limit, classify, is_endpoint_failure, next_step},
    order_log::OrderLog,
};
use crate::{
    answer::Answer,
    fault::Fault,
    order::Order,
    outcome::Outcome,
    wechat_pay::{Call, Connection, Endpoint, ExchangeError, Merchant, Reply, ReplyCode, Request},
};

/// Mean pause after the first failed attempt; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// How many orderquery requests one query has at most.
const MAX_QUERY_ATTEMPTS: u32 = 2;

/// The least time that is left for a query to begin.
const MIN_TIME_TO_QUERY: Duration = Duration::from_secs(1);

/// The least time that is left for a second round to begin, and its mean pause.
const MIN_TIME_FOR_SECOND_ROUND: Duration = Duration::from_secs(3);
const PAUSE_BEFORE_SECOND_ROUND: Duration = Duration::from_secs(1);

/// One order under way.
pub(super) struct Operation<'a, 'l> {
    context: &'a CloseOrder,
    order: &'a Order,
    merchant: Arc<Merchant>,
    deadline: Instant,
    log: &'a mut OrderLog<'l>,
    /// New for the rest of the order once a connection was lost: the pool's others may have died with it.
    connection: Connection,
    /// The endpoint that the last verified reply to closeorder came from.
    answered_by: Option<&'a Endpoint>,
    /// Whether an attempt of this order was sent and came to anything but a rejection.
    may_have_closed: bool,
}

/// What one attempt came to.
struct Attempt {
    result: Result<Reply, ExchangeError>,
    outcome: AttemptOutcome,
    /// Whether the deadline ended it, and not its own timeout.
    is_cut_short: bool,
}

impl<'a, 'l> Operation<'a, 'l> {
    pub(super) fn new(
        context: &'a CloseOrder,
        order: &'a Order,
        merchant: Arc<Merchant>,
        deadline: Instant,
        log: &'a mut OrderLog<'l>,
    ) -> Self {
        let connection = Connection::Pooled;
        Self { context, order, merchant, deadline, log, connection, answered_by: None, may_have_closed: false }
    }

    pub(super) async fn run(&mut self, confirm: bool) -> Answer {
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
        let decision = decide_again(close, query);
        // Where the order stays open for lack of a better proof, the first query is the proof.
        let is_shown_by_first = decision.outcome == Outcome::Open && query != QueryResult::Open;
        let proof = if is_shown_by_first { reply } else { second_reply };
        self.answer(closed, decision, proof.as_ref())
    }

    /// Sends closeorder requests until one brings something final, none is left, or the time runs out.
    async fn close(&mut self) -> Result<Reply, Fault> {
        let context = self.context;
        let mut endpoint = context.endpoints.first();
        let mut in_hand = None;
        loop {
            if self.left().is_zero() {
                return in_hand.unwrap_or(Err(Fault::DeadlineExceeded { was_sent: self.may_have_closed }));
            }
            self.log.attempts += 1;
            let is_last = self.log.attempts >= MAX_ATTEMPTS;
            let Attempt { result, outcome, is_cut_short } = self.send(Call::CloseOrder, endpoint, is_last).await;
            self.may_have_closed |= may_have_closed(&result);
            if is_cut_short && in_hand.is_none() {
                return Err(Fault::DeadlineExceeded { was_sent: self.may_have_closed });
            }
            let result = combine(in_hand.take(), result.map_err(Fault::from));
            match next_step(outcome, self.connection, self.log.attempts) {
                NextStep::Return => return result,
                NextStep::NewConnection => self.connection = Connection::New,
                NextStep::NextEndpoint => {
                    let pause = jittered(PAUSE * 2_u32.saturating_pow(self.log.attempts - 1));
                    if pause >= self.left() {
                        return result;
                    }
                    sleep(pause).await;
                    endpoint = context.endpoints.after(endpoint);
                }
                NextStep::RereadSecret => {
                    let reread = context.merchants.reread_if_changed(&self.merchant);
                    match timeout_at(self.deadline, reread).await {
                        Ok(Some(changed)) if !is_last && merchant_rules::check(self.order, &changed).is_ok() => {
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
        let mut endpoint = self.answered_by.unwrap_or_else(|| context.endpoints.first());
        for attempt in 1..=MAX_QUERY_ATTEMPTS {
            if self.left().is_zero() {
                return None;
            }
            self.log.queries += 1;
            let is_last = attempt == MAX_QUERY_ATTEMPTS;
            let Attempt { result, outcome, .. } = self.send(Call::OrderQuery, endpoint, is_last).await;
            match outcome {
                AttemptOutcome::NoConnection | AttemptOutcome::ConnectionLost | AttemptOutcome::NoReply => {
                    self.connection = Connection::New;
                    endpoint = context.endpoints.another(endpoint);
                }
                AttemptOutcome::SystemError | AttemptOutcome::SignatureFailure | AttemptOutcome::Final => {
                    return result.ok().filter(|reply| QueryResult::of(reply) != QueryResult::Nothing);
                }
            }
        }
        None
    }

    /// Sends one request, and remembers an endpoint that failed.
    async fn send(&mut self, call: Call, endpoint: &'a Endpoint, is_last: bool) -> Attempt {
        let (context, connection) = (self.context, self.connection);
        let left = self.left();
        let limit = attempt_limit(left, context.timeout, is_last);
        let request = match call {
            Call::CloseOrder => Request::close(self.order, &self.merchant),
            Call::OrderQuery => Request::query(self.order, &self.merchant),
        };
        let exchange = context.wechat_pay.exchange(endpoint, &request, connection, limit).await;
        self.log.exchange(call, endpoint, &exchange);
        if call == Call::CloseOrder && exchange.result.is_ok() {
            self.answered_by = Some(endpoint);
        }
        let outcome = classify(&exchange.result);
        let is_cut_short =
            limit == left && matches!(exchange.result, Err(ExchangeError::Send(error)) if error.is_timeout());
        if is_endpoint_failure(outcome, connection, is_cut_short.then_some(limit)) {
            context.endpoints.failed(endpoint);
        }
        Attempt { result: exchange.result, outcome, is_cut_short }
    }

    fn answer(&mut self, closed: Result<Reply, Fault>, decision: Decision, query: Option<&Reply>) -> Answer {
        let Decision { outcome, form } = decision;
        let query = query.filter(|_| form != AnswerForm::Alone);
        if let Some(query) = query {
            self.log.proof(query);
        }
        let request = Request::close(self.order, &self.merchant);
        match (form, closed) {
            (AnswerForm::Shown(shown), _) => Answer::shown_by_query(outcome, shown, query, &request),
            (AnswerForm::Alone | AnswerForm::WithQuery, Ok(reply)) => Answer::reply(outcome, &reply, query, &request),
            (AnswerForm::Alone | AnswerForm::WithQuery, Err(fault)) => Answer { outcome, result: Err(fault) },
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Whether an attempt may have closed the order: it was sent, and came to anything but a rejection.
fn may_have_closed(result: &Result<Reply, ExchangeError>) -> bool {
    match result {
        Ok(reply) => !matches!(reply.code(), ReplyCode::Rejected | ReplyCode::SignatureRejected),
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
            ExchangeError::Reply(error) => Self::ReplyInvalid(error.into()),
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
        let invalid =
            |status| Err(Fault::ReplyInvalid(ReplyError { status, error: Some(VerifyError::Signature) }.into()));
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

    #[test]
    fn a_pause_is_half_to_one_and_a_half_of_its_mean() {
        for _ in 0..1000 {
            assert!((50..=150).contains(&jittered(PAUSE).as_millis()));
        }
        assert!((0..100).any(|_| jittered(PAUSE) != jittered(PAUSE)));
    }
}
