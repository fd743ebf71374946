//! What an attempt came to → what comes next, and how long an attempt may take.

use std::time::Duration;

use crate::{
    http_client::SendError,
    wechat_pay::{Connection, ExchangeError, Reply, ReplyCode, ReplyError, VerifyError},
};

/// How many closeorder requests one order gets at most, whatever they are sent for.
pub(super) const MAX_ATTEMPTS: u32 = 3;

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
    /// SIGNERROR, an unsigned FAIL about the signature, or a signature that does not match ours: a changed key looks
    /// like each of them.
    SignatureFailure,
    /// Any other verified reply, and a signed reply about something else.
    Final,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// The caller gets what is in hand.
    Return,
    /// At once the same endpoint, on a new connection.
    NewConnection,
    /// A pause, then the next endpoint.
    NextEndpoint,
    /// The secret is read anew; if it changed, and an attempt is left, the same endpoint once more, else the caller gets
    /// what is in hand.
    RereadSecret,
}

pub(super) fn classify(result: &Result<Reply, ExchangeError>) -> AttemptOutcome {
    match result {
        Err(ExchangeError::Send(SendError::ConnectionLost)) => AttemptOutcome::ConnectionLost,
        Err(
            ExchangeError::Send(SendError::TimedOut | SendError::NotHttp)
            | ExchangeError::Reply(ReplyError {
                error: None | Some(VerifyError::NotAReply(_) | VerifyError::Xml(_)),
                ..
            }),
        ) => AttemptOutcome::NoReply,
        Err(ExchangeError::Send(_)) => AttemptOutcome::NoConnection,
        Err(ExchangeError::Reply(ReplyError { error: Some(VerifyError::Signature), .. })) => {
            AttemptOutcome::SignatureFailure
        }
        Err(ExchangeError::Reply(_)) => AttemptOutcome::Final,
        Ok(reply) => match reply.code() {
            ReplyCode::SystemError => AttemptOutcome::SystemError,
            ReplyCode::SignatureRejected => AttemptOutcome::SignatureFailure,
            _ => AttemptOutcome::Final,
        },
    }
}

/// The decision after `attempts` attempts, this one on `connection` included.
pub(super) fn next_step(attempt: AttemptOutcome, connection: Connection, attempts: u32) -> NextStep {
    match attempt {
        // Also after the last attempt, for the sake of the next order.
        AttemptOutcome::SignatureFailure => NextStep::RereadSecret,
        _ if attempts >= MAX_ATTEMPTS => NextStep::Return,
        AttemptOutcome::ConnectionLost if connection == Connection::Pooled => NextStep::NewConnection,
        AttemptOutcome::NoConnection
        | AttemptOutcome::ConnectionLost
        | AttemptOutcome::NoReply
        | AttemptOutcome::SystemError => NextStep::NextEndpoint,
        AttemptOutcome::Final => NextStep::Return,
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
        AttemptOutcome::SystemError | AttemptOutcome::SignatureFailure | AttemptOutcome::Final => false,
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
        AttemptOutcome::{ConnectionLost, Final, NoConnection, NoReply, SignatureFailure, SystemError},
        NextStep::{NewConnection, NextEndpoint, RereadSecret, Return},
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
            (Final, Pooled, Return, Return, Return),
        ] {
            for (attempts, expected) in [(1, after_one), (2, after_two), (3, after_three)] {
                assert_eq!(next_step(attempt, connection, attempts), expected, "{attempt:?} {connection:?} {attempts}");
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
            (Final, Pooled, None, false),
        ] {
            assert_eq!(is_endpoint_failure(attempt, connection, cut_after), expected, "{attempt:?} {connection:?}");
        }
    }
}
