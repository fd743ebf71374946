//! What an attempt came to → what comes next, of a close and of a query, and how long an attempt may take.

use std::time::Duration;

use crate::{
    http_client::SendError,
    wechat_pay::{Call, Connection, ExchangeError, Reply, ReplyCode, ReplyError, VerifyError},
};

/// How many closeorder requests one order gets at most, whatever they are sent for; those that met the rate limit and were
/// retried for that are not counted.
pub(super) const MAX_ATTEMPTS: u32 = 3;

/// How many orderquery requests one query has at most, likewise.
pub(super) const MAX_QUERY_ATTEMPTS: u32 = 2;

/// The least that an attempt gets of the time that is left.
pub(super) const MIN_SHARE: Duration = Duration::from_secs(1);

/// What one attempt came to, as far as the next step depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptOutcome {
    /// No connection: nothing was sent.
    NoConnection,
    /// The connection was lost between request and reply.
    ConnectionLost,
    /// A timeout, HTTP 5xx, or a body that is not a reply.
    NoReply,
    /// WeChat Pay asks for another call.
    SystemError,
    /// SIGNERROR, an unsigned reply about the signature, or a signature that does not match ours: a changed key looks
    /// like each of them.
    SignatureFailure,
    /// The rate limit: it did nothing about the order.
    RateLimited,
    /// A verified reply to something else than was asked: to another order or call. The connection may be out of step with
    /// its requests.
    OutOfStep,
    /// Any other verified reply, and a signed one that proves nothing.
    Final,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// The caller gets the best so far.
    Return,
    /// At once the same endpoint, on a new connection.
    NewConnection,
    /// A pause, then the next endpoint.
    NextEndpoint,
    /// The secret is read anew; if it changed, and an attempt is left, the same endpoint once more, else the caller gets
    /// the best so far.
    RereadSecret,
    /// The rate limit is waited out where nobody waits for the answer, else the caller gets the best so far.
    BackOff,
}

pub(super) fn classify(call: Call, result: &Result<Reply, ExchangeError>) -> AttemptOutcome {
    let reply = match result {
        Ok(reply) => reply,
        Err(ExchangeError::Send(SendError::ConnectionLost)) => return AttemptOutcome::ConnectionLost,
        Err(ExchangeError::Send(SendError::TimedOut | SendError::NotHttp)) => return AttemptOutcome::NoReply,
        Err(ExchangeError::Send(_)) => return AttemptOutcome::NoConnection,
        Err(ExchangeError::Reply(ReplyError { error, .. })) => {
            return match error {
                None | Some(VerifyError::NotAReply(_)) => AttemptOutcome::NoReply,
                Some(VerifyError::Signature | VerifyError::UnknownSerial(_)) => AttemptOutcome::SignatureFailure,
                Some(VerifyError::Missing("trade_state" | "out_trade_no")) if call == Call::OrderQuery => {
                    AttemptOutcome::OutOfStep
                }
                Some(VerifyError::NotOurs(_) | VerifyError::NotThisCall(_) | VerifyError::Replayed) => {
                    AttemptOutcome::OutOfStep
                }
                Some(VerifyError::Missing(_) | VerifyError::Ambiguous(_)) => AttemptOutcome::Final,
            };
        }
    };
    match (reply.code(), call) {
        (ReplyCode::SystemError, Call::CloseOrder) => AttemptOutcome::SystemError,
        (ReplyCode::SignatureRejected, _) => AttemptOutcome::SignatureFailure,
        // Signed, a close's may be a payment under way: the query tells.
        (ReplyCode::RateLimited, _) | (ReplyCode::FrequencyLimited, Call::OrderQuery) => AttemptOutcome::RateLimited,
        (ReplyCode::OrderPaid | ReplyCode::OrderClosed, Call::OrderQuery) => AttemptOutcome::OutOfStep,
        _ => AttemptOutcome::Final,
    }
}

/// The decision after `attempts` closeorder requests, this one on `connection` included.
pub(super) fn next_step(attempt: AttemptOutcome, connection: Connection, attempts: u32) -> NextStep {
    match attempt {
        // Also after the last attempt, for the sake of the query and of the next order.
        AttemptOutcome::SignatureFailure => NextStep::RereadSecret,
        AttemptOutcome::RateLimited => NextStep::BackOff,
        _ if attempts >= MAX_ATTEMPTS => NextStep::Return,
        AttemptOutcome::ConnectionLost if connection == Connection::Pooled => NextStep::NewConnection,
        AttemptOutcome::NoConnection
        | AttemptOutcome::ConnectionLost
        | AttemptOutcome::NoReply
        | AttemptOutcome::SystemError => NextStep::NextEndpoint,
        AttemptOutcome::OutOfStep | AttemptOutcome::Final => NextStep::Return,
    }
}

/// The decision after `attempts` orderquery requests of one query.
pub(super) fn next_query_step(attempt: AttemptOutcome, attempts: u32) -> NextStep {
    match attempt {
        AttemptOutcome::SignatureFailure => NextStep::RereadSecret,
        AttemptOutcome::RateLimited => NextStep::BackOff,
        _ if attempts >= MAX_QUERY_ATTEMPTS => NextStep::Return,
        AttemptOutcome::NoConnection | AttemptOutcome::ConnectionLost | AttemptOutcome::NoReply => {
            NextStep::NextEndpoint
        }
        AttemptOutcome::OutOfStep => NextStep::NewConnection,
        AttemptOutcome::SystemError | AttemptOutcome::Final => NextStep::Return,
    }
}

/// Whether the endpoint is second choice from then on, given the attempt's `limit` if the deadline cut it short.
pub(super) fn is_endpoint_failure(
    attempt: AttemptOutcome,
    connection: Connection,
    cut_after: Option<Duration>,
) -> bool {
    match attempt {
        // A connection of the pool may have died while Lambda froze the process.
        AttemptOutcome::ConnectionLost => connection == Connection::New,
        AttemptOutcome::NoConnection | AttemptOutcome::NoReply => cut_after.is_none_or(|limit| limit >= MIN_SHARE),
        AttemptOutcome::SystemError
        | AttemptOutcome::SignatureFailure
        | AttemptOutcome::RateLimited
        | AttemptOutcome::OutOfStep
        | AttemptOutcome::Final => false,
    }
}

/// How long an attempt may take when so much time is `left`: a hanging endpoint must not use up a short invocation while
/// another attempt is possible.
pub(super) fn attempt_limit(left: Duration, timeout: Duration, is_last: bool) -> Duration {
    let share = if is_last { left } else { MIN_SHARE.max(left / 2) };
    timeout.min(share).min(left)
}

#[cfg(test)]
mod tests {
    use super::{
        AttemptOutcome::{
            ConnectionLost, Final, NoConnection, NoReply, OutOfStep, RateLimited, SignatureFailure, SystemError,
        },
        NextStep::{BackOff, NewConnection, NextEndpoint, RereadSecret, Return},
        *,
    };
    use crate::wechat_pay::Connection::{New, Pooled};

    #[test]
    fn what_an_attempt_came_to_decides_what_comes_next() {
        for (attempt, connection, after_one, after_two, after_three) in [
            (NoConnection, Pooled, NextEndpoint, NextEndpoint, Return),
            (ConnectionLost, Pooled, NewConnection, NewConnection, Return),
            (ConnectionLost, New, NextEndpoint, NextEndpoint, Return),
            (NoReply, Pooled, NextEndpoint, NextEndpoint, Return),
            (NoReply, New, NextEndpoint, NextEndpoint, Return),
            (SystemError, Pooled, NextEndpoint, NextEndpoint, Return),
            (SignatureFailure, Pooled, RereadSecret, RereadSecret, RereadSecret),
            (RateLimited, Pooled, BackOff, BackOff, BackOff),
            (OutOfStep, Pooled, Return, Return, Return),
            (Final, Pooled, Return, Return, Return),
        ] {
            for (attempts, expected) in [(1, after_one), (2, after_two), (3, after_three)] {
                assert_eq!(next_step(attempt, connection, attempts), expected, "{attempt:?} {connection:?} {attempts}");
            }
        }
    }

    #[test]
    fn what_a_query_came_to_decides_what_comes_next() {
        for (attempt, after_one, after_two) in [
            (NoConnection, NextEndpoint, Return),
            (ConnectionLost, NextEndpoint, Return),
            (NoReply, NextEndpoint, Return),
            (OutOfStep, NewConnection, Return),
            (SignatureFailure, RereadSecret, RereadSecret),
            (RateLimited, BackOff, BackOff),
            (SystemError, Return, Return),
            (Final, Return, Return),
        ] {
            assert_eq!(
                [1, 2].map(|attempts| next_query_step(attempt, attempts)),
                [after_one, after_two],
                "{attempt:?}"
            );
        }
    }

    #[test]
    fn a_serial_that_the_secret_does_not_have_is_as_a_signature_that_does_not_match() {
        for error in [VerifyError::Signature, VerifyError::UnknownSerial("PUB_KEY_ID_1".to_owned())] {
            for call in [Call::CloseOrder, Call::OrderQuery] {
                let result = Err(ReplyError { status: 204, error: Some(error.clone()) }.into());
                assert_eq!(classify(call, &result), SignatureFailure, "{error:?}");
            }
        }
    }

    #[test]
    fn an_attempt_has_its_share_of_the_time_that_is_left() {
        let ms = Duration::from_millis;
        for (left, timeout, is_last, expected) in [
            (60_000, 5000, false, 5000),
            (8000, 5000, false, 4000),
            (2750, 5000, false, 1375),
            (1700, 5000, false, 1000),
            (700, 5000, false, 700),
            (8000, 5000, true, 5000),
            (2750, 5000, true, 2750),
            (8000, 300, false, 300),
            (0, 5000, false, 0),
        ] {
            assert_eq!(attempt_limit(ms(left), ms(timeout), is_last), ms(expected), "{left} {timeout} {is_last}");
        }
    }

    #[test]
    fn an_endpoint_fails_by_what_it_does_and_not_by_a_pooled_connection_or_a_short_time() {
        let ms = Duration::from_millis;
        for (attempt, connection, cut_after, expected) in [
            (NoConnection, Pooled, None, true),
            (NoReply, Pooled, None, true),
            (NoReply, Pooled, Some(ms(1000)), true),
            (NoReply, Pooled, Some(ms(999)), false),
            (NoConnection, Pooled, Some(ms(999)), false),
            (ConnectionLost, Pooled, None, false),
            (ConnectionLost, New, None, true),
            (SystemError, Pooled, None, false),
            (SignatureFailure, Pooled, None, false),
            (RateLimited, Pooled, None, false),
            (OutOfStep, Pooled, None, false),
            (Final, Pooled, None, false),
        ] {
            assert_eq!(is_endpoint_failure(attempt, connection, cut_after), expected, "{attempt:?} {connection:?}");
        }
    }
}
