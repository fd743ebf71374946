//! One order under way: attempts, query, perhaps a second round. The loops only send and pause; what follows what is in
//! the tables beside this file. The deadline is theirs, too: each attempt is bounded by it, and what is in hand when it
//! comes is returned.

use std::{borrow::Cow, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

use super::{
    CloseOrder,
    backoff::{RateLimitBackoff, after_failure, jittered},
    decision::{AnswerForm, CloseResult, Decision, QueryResult, decide, decide_again},
    merchant_rules,
    next_step::{
        AttemptOutcome, MAX_ATTEMPTS, MAX_QUERY_ATTEMPTS, NextStep, attempt_limit, classify, is_endpoint_failure,
        next_query_step, next_step,
    },
    order_log::OrderLog,
};
use crate::{
    answer::{Answer, BuiltReply},
    fault::{Fault, InvalidReply},
    http_client::SendError,
    order::Order,
    outcome::Outcome,
    wechat_pay::{Account, Call, Connection, Endpoint, ExchangeError, Exchanger, Reply, ReplyCode, Request},
};

/// The least time that is left for a query to begin, and behind a pause for the rate limit.
const MIN_TIME: Duration = Duration::from_secs(1);

/// The least time that is left for a second round to begin, and its mean pause.
const MIN_TIME_FOR_SECOND_ROUND: Duration = Duration::from_secs(3);
const PAUSE_BEFORE_SECOND_ROUND: Duration = Duration::from_secs(1);

/// Why a query's ORDERNOTEXIST proves nothing.
const ALTHOUGH_IT_EXISTS: &str = "ORDERNOTEXIST, although another reply shows that the order exists";

/// One order under way.
pub(super) struct Operation<'a, 'l, E> {
    context: &'a CloseOrder<E>,
    order: &'a Order,
    account: Arc<Account>,
    deadline: Instant,
    log: &'a mut OrderLog<'l>,
    /// Whether the rate limit is waited out: nobody waits for the answer.
    waits_for_rate_limit: bool,
    /// New for the rest of the order once a connection was lost or out of step: the pool's others may have died with it.
    connection: Connection,
    /// The endpoint that the last verified reply to closeorder came from.
    answered_by: Option<&'a Endpoint>,
    /// How many of its closeorder requests are counted.
    attempts: u32,
    /// Whether an attempt of this order was sent and came to anything but a rejection or the rate limit.
    may_have_closed: bool,
    /// Whether the last request met the rate limit.
    is_rate_limited: bool,
}

/// What one attempt came to.
struct Attempt {
    result: Result<Reply, ExchangeError>,
    outcome: AttemptOutcome,
    /// Whether the deadline ended it, and not its own timeout.
    is_cut_short: bool,
}

/// What a query brought.
struct Query {
    result: QueryResult,
    /// The reply that shows it.
    reply: Option<Reply>,
}

impl<'a, 'l, E: Exchanger> Operation<'a, 'l, E> {
    pub(super) fn new(
        context: &'a CloseOrder<E>,
        order: &'a Order,
        account: Arc<Account>,
        deadline: Instant,
        log: &'a mut OrderLog<'l>,
    ) -> Self {
        let waits_for_rate_limit = log.is_in_a_batch() && !context.not_waited_for.contains(account.merchant().mch_id());
        Self {
            context,
            order,
            account,
            deadline,
            waits_for_rate_limit,
            log,
            connection: Connection::Pooled,
            answered_by: None,
            attempts: 0,
            may_have_closed: false,
            is_rate_limited: false,
        }
    }

    pub(super) async fn run(&mut self, confirm: bool) -> Answer {
        let (closed, query) = self.first_round(confirm).await;
        let close = CloseResult::of(&closed, self.may_have_closed);
        let decision = decide(close, query.result, confirm);
        let did_not_stick = decision.outcome == Outcome::Open && close.outcome() == Outcome::Closed;
        if !did_not_stick || self.attempts >= MAX_ATTEMPTS || self.left() < MIN_TIME_FOR_SECOND_ROUND {
            return self.answer(closed, close, decision, &query);
        }
        sleep(jittered(PAUSE_BEFORE_SECOND_ROUND)).await;
        let closed_again = self.close().await;
        let is_called_paid = matches!(&closed_again, Ok(reply) if reply.code() == ReplyCode::OrderPaid);
        let second_query = self.query().await;
        if is_limited(&closed_again) && second_query.result == QueryResult::Nothing {
            self.note_rate_limit(true);
        }
        // The last signed reply is kept: the first one, unless the second close brought another.
        let closed = if matches!(&closed_again, Ok(reply) if reply.is_signed()) { closed_again } else { closed };
        let close = CloseResult::of(&closed, self.may_have_closed);
        let decision = decide_again(close, is_called_paid, second_query.result);
        if second_query.result == QueryResult::NotFound {
            self.log.query_cause = Some(ALTHOUGH_IT_EXISTS.into());
        }
        // Without a later state, the first query is the proof.
        let proof = if matches!(second_query.result, QueryResult::State(_)) { second_query } else { query };
        self.answer(closed, close, decision, &proof)
    }

    /// Closes and queries; once more after a pause while the close meets the rate limit and the query brings nothing.
    async fn first_round(&mut self, confirm: bool) -> (Result<Reply, Fault>, Query) {
        let mut best_so_far = None;
        let mut backoff = RateLimitBackoff::new();
        loop {
            let closed = self.close().await;
            let is_limited = is_limited(&closed);
            let closed = prefer(best_so_far.take(), closed);
            let is_queried = CloseResult::of(&closed, self.may_have_closed).is_queried(confirm);
            let query =
                if is_queried { self.query().await } else { Query { result: QueryResult::Nothing, reply: None } };
            if !is_limited || query.result != QueryResult::Nothing {
                return (closed, query);
            }
            self.note_rate_limit(true);
            if !self.back_off(&mut backoff).await {
                return (closed, query);
            }
            self.attempts = self.attempts.saturating_sub(1);
            best_so_far = Some(closed);
        }
    }

    /// Sends closeorder requests until one brings something final, none is left, or the time runs out.
    async fn close(&mut self) -> Result<Reply, Fault> {
        let context = self.context;
        let mut endpoint = context.endpoints.first();
        let mut best_so_far = None;
        let mut backoff = RateLimitBackoff::new();
        loop {
            if self.left().is_zero() {
                return best_so_far.unwrap_or(Err(Fault::DeadlineExceeded { was_sent: self.may_have_closed }));
            }
            self.attempts += 1;
            let is_last = self.attempts >= MAX_ATTEMPTS;
            let Attempt { result, outcome, is_cut_short } = self.send(Call::CloseOrder, endpoint, is_last).await;
            self.may_have_closed |= may_have_closed(&result);
            if is_cut_short && best_so_far.is_none() {
                return Err(Fault::DeadlineExceeded { was_sent: self.may_have_closed });
            }
            let result = prefer(best_so_far.take(), result.map_err(Fault::from));
            match next_step(outcome, self.connection, self.attempts) {
                NextStep::Return => return result,
                NextStep::NewConnection => self.connection = Connection::New,
                NextStep::NextEndpoint => {
                    let pause = after_failure(self.attempts);
                    if pause >= self.left() {
                        return result;
                    }
                    sleep(pause).await;
                    endpoint = context.endpoints.after(endpoint);
                }
                NextStep::RereadSecret => {
                    // A key that comes after the last attempt still signs the query.
                    if !self.reread_secret().await || is_last {
                        return result;
                    }
                }
                NextStep::BackOff => {
                    if !self.back_off(&mut backoff).await {
                        return result;
                    }
                    self.attempts = self.attempts.saturating_sub(1);
                }
            }
            best_so_far = Some(result);
        }
    }

    /// Asks for the order's state, and notes in the log why no verified reply has shown it.
    async fn query(&mut self) -> Query {
        let context = self.context;
        let mut endpoint = self.answered_by.unwrap_or_else(|| context.endpoints.first());
        let mut cause: Cow<'static, str> = "no time was left for a query".into();
        let mut attempts = 0;
        let mut backoff = RateLimitBackoff::new();
        while if attempts == 0 { self.left() >= MIN_TIME } else { !self.left().is_zero() } {
            attempts += 1;
            let is_last = attempts >= MAX_QUERY_ATTEMPTS;
            let Attempt { result, outcome, .. } = self.send(Call::OrderQuery, endpoint, is_last).await;
            cause = match result {
                Ok(reply) => match QueryResult::of(&reply) {
                    QueryResult::Nothing => self.log.code_of(&reply),
                    result => {
                        self.log.query_cause = None;
                        return Query { result, reply: Some(reply) };
                    }
                },
                Err(error) => error.to_string().into(),
            };
            match next_query_step(outcome, attempts) {
                NextStep::Return => break,
                NextStep::NewConnection => self.connection = Connection::New,
                NextStep::NextEndpoint => {
                    self.connection = Connection::New;
                    endpoint = context.endpoints.another(endpoint);
                }
                NextStep::RereadSecret => {
                    if !self.reread_secret().await || is_last {
                        break;
                    }
                }
                NextStep::BackOff => {
                    if !self.back_off(&mut backoff).await {
                        break;
                    }
                    attempts -= 1;
                }
            }
        }
        self.log.query_cause = Some(cause);
        Query { result: QueryResult::Nothing, reply: None }
    }

    /// Sends one request, and remembers an endpoint that failed.
    async fn send(&mut self, call: Call, endpoint: &'a Endpoint, is_last: bool) -> Attempt {
        let (context, connection) = (self.context, self.connection);
        let left = self.left();
        let limit = attempt_limit(left, context.timeout, is_last);
        let request = Request { call, order: self.order, account: &self.account };
        self.log.sends(call);
        let exchange = context.wechat_pay.exchange(endpoint, request, connection, limit).await;
        self.log.exchange(call, endpoint, &exchange);
        if call == Call::CloseOrder && exchange.result.is_ok() {
            self.answered_by = Some(endpoint);
        }
        let outcome = classify(call, &exchange.result);
        let is_cut_short =
            limit == left && matches!(exchange.result, Err(ExchangeError::Send(error)) if error.is_timeout());
        if is_endpoint_failure(outcome, connection, is_cut_short.then_some(limit)) {
            context.endpoints.failed(endpoint);
        }
        // Whether a signed one of a close is the rate limit, its query tells.
        if outcome == AttemptOutcome::RateLimited || !is_limited(&exchange.result) {
            self.note_rate_limit(outcome == AttemptOutcome::RateLimited);
        }
        if outcome == AttemptOutcome::OutOfStep {
            self.connection = Connection::New;
        }
        Attempt { result: exchange.result, outcome, is_cut_short }
    }

    /// Has the secret read anew, and goes on with what it holds if that is another key of the same merchant.
    async fn reread_secret(&mut self) -> bool {
        let reread = timeout_at(self.deadline, self.context.merchants.reread_if_changed(&self.account)).await;
        let is_ours = |account: &Arc<Account>| {
            account.merchant().mch_id() == self.account.merchant().mch_id()
                && merchant_rules::check(self.order, account.merchant()).is_ok()
        };
        match reread.ok().flatten().filter(is_ours) {
            Some(changed) => {
                self.account = changed;
                true
            }
            None => false,
        }
    }

    fn note_rate_limit(&mut self, met_rate_limit: bool) {
        self.is_rate_limited = met_rate_limit;
        self.log.sent(self.account.merchant().mch_id(), met_rate_limit);
    }

    /// Pauses for the rate limit, unless somebody waits for the answer or too little time is left behind the pause.
    async fn back_off(&mut self, backoff: &mut RateLimitBackoff) -> bool {
        let pause = backoff.pause();
        let can_wait = self.waits_for_rate_limit && self.left() >= pause + MIN_TIME;
        if can_wait {
            sleep(pause).await;
        }
        can_wait
    }

    fn answer(
        &mut self,
        closed: Result<Reply, Fault>,
        close: CloseResult,
        decision: Decision,
        query: &Query,
    ) -> Answer {
        let Decision { outcome, confirmed, form } = decision;
        let proof = query.reply.as_ref().filter(|_| form != AnswerForm::CloseReply);
        if let Some(proof) = proof {
            self.log.proof(proof.payment());
        }
        if query.result == QueryResult::NotFound && !confirmed {
            self.log.query_cause = Some(ALTHOUGH_IT_EXISTS.into());
        }
        let ids = Request::close(self.order, &self.account).ids();
        let payment = proof.map(|reply| reply.payment().clone()).unwrap_or_default();
        let answer = match (form, closed) {
            (AnswerForm::FromQuery(shown), _) => Answer::built(outcome, &BuiltReply::shown(shown), payment, ids),
            (AnswerForm::NotConfirmed, _) => {
                let built = BuiltReply::not_confirmed(close.said(), query.result == QueryResult::NotFound, &payment);
                Answer::built(outcome, &built, payment, ids)
            }
            (AnswerForm::CloseReply | AnswerForm::CloseReplyWithQuery, Ok(reply)) => {
                Answer::reply(outcome, &reply, payment, ids)
            }
            (AnswerForm::CloseReply | AnswerForm::CloseReplyWithQuery, Err(fault)) => {
                Answer { outcome, ..Answer::fault(fault) }
            }
        };
        Answer { confirmed, is_rate_limited: self.is_rate_limited, ..answer }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Whether a signed reply says that the rate limit is met.
fn is_limited<E>(result: &Result<Reply, E>) -> bool {
    matches!(result, Ok(reply) if reply.code() == ReplyCode::FrequencyLimited)
}

/// Whether an attempt may have closed the order: it was sent, and came to anything but a rejection or the rate limit. A signed
/// `FREQUENCY_LIMITED` is followed by another attempt only where its query has brought nothing, and it was the rate limit.
fn may_have_closed(result: &Result<Reply, ExchangeError>) -> bool {
    match result {
        Ok(reply) => !matches!(
            reply.code(),
            ReplyCode::Rejected | ReplyCode::SignatureRejected | ReplyCode::RateLimited | ReplyCode::FrequencyLimited
        ),
        Err(ExchangeError::Send(error)) => error.was_sent(),
        Err(ExchangeError::Reply(_)) => true,
    }
}

/// Of several attempts the one of the highest rank counts: a verified reply, then a reply that could not be verified, then no
/// reply to what was sent, then no connection; among equals the last.
fn prefer(best_so_far: Option<Result<Reply, Fault>>, result: Result<Reply, Fault>) -> Result<Reply, Fault> {
    let rank = |result: &Result<Reply, Fault>| match result {
        Ok(_) => 3,
        Err(Fault::ReplyInvalid(_)) => 2,
        Err(Fault::GatewayUnreachable(error)) if error.was_sent() => 1,
        Err(_) => 0,
    };
    match best_so_far {
        Some(best) if rank(&best) > rank(&result) => best,
        _ => result,
    }
}

impl From<ExchangeError> for Fault {
    fn from(error: ExchangeError) -> Self {
        match error {
            // Something answered, be it a proxy or another service's port.
            ExchangeError::Send(SendError::NotHttp) => Self::ReplyInvalid(InvalidReply::NotHttp),
            ExchangeError::Send(error) => Self::GatewayUnreachable(error),
            ExchangeError::Reply(error) => Self::ReplyInvalid(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat_pay::{ReplyError, VerifyError};

    #[test]
    fn of_several_attempts_the_one_of_the_highest_rank_counts_and_among_equals_the_last() {
        let unsent = || Err(Fault::GatewayUnreachable(SendError::Refused));
        let unresolved = || Err(Fault::GatewayUnreachable(SendError::Unresolved));
        let sent = || Err(Fault::GatewayUnreachable(SendError::TimedOut));
        let lost = || Err(Fault::GatewayUnreachable(SendError::ConnectionLost));
        let invalid =
            |status| Err(Fault::ReplyInvalid(ReplyError { status, error: Some(VerifyError::Signature) }.into()));
        let fault = |result: Result<Reply, Fault>| result.unwrap_err();
        for (best_so_far, result, expected) in [
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
            assert_eq!(fault(prefer(best_so_far, result)), fault(expected));
        }
    }
}
