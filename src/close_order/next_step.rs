//! What happened to a try → what comes next.

/// How often one order is sent at most, whatever happens.
pub(super) const MAX_TRIES: u32 = 3;

/// What one try came to, as far as the next step depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// No connection: nothing was sent.
    NoConnection,
    /// A lost connection, a timeout, HTTP 5xx, or a body that is no reply.
    NoReply,
    /// `err_code` SYSTEMERROR: WeChat Pay asks for another call.
    SystemError,
    /// SIGNERROR, an unsigned FAIL that speaks of the sign, or a sign that does not match ours: a changed key looks
    /// like each of them.
    SignTrouble,
    /// Anything else that was believed, and a signed reply about something else.
    Final,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// The caller gets what there is.
    Answer,
    /// A pause, then the next endpoint.
    NextEndpoint,
    /// The secret is read anew; if it changed, and a try is left, the same endpoint once more, else the caller gets what
    /// there is.
    NewSecret,
}

/// The decision after `tries` tries, this one included.
pub(super) fn next_step(happened: Happened, tries: u32) -> NextStep {
    match happened {
        Happened::SignTrouble => NextStep::NewSecret,
        _ if tries >= MAX_TRIES => NextStep::Answer,
        Happened::NoConnection | Happened::NoReply | Happened::SystemError => NextStep::NextEndpoint,
        Happened::Final => NextStep::Answer,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Happened::{Final, NoConnection, NoReply, SignTrouble, SystemError},
        NextStep::{Answer, NewSecret, NextEndpoint},
        *,
    };

    #[test]
    fn what_happened_decides_what_comes_next() {
        for (happened, after_one, after_two, after_three) in [
            (NoConnection, NextEndpoint, NextEndpoint, Answer),
            (NoReply, NextEndpoint, NextEndpoint, Answer),
            (SystemError, NextEndpoint, NextEndpoint, Answer),
            (SignTrouble, NewSecret, NewSecret, NewSecret),
            (Final, Answer, Answer, Answer),
        ] {
            assert_eq!(next_step(happened, 1), after_one, "{happened:?}");
            assert_eq!(next_step(happened, 2), after_two, "{happened:?}");
            assert_eq!(next_step(happened, 3), after_three, "{happened:?}");
        }
    }
}
