//! The two tables that decide: when an order is queried, and what closeorder and the query come to together.

use crate::{
    answer::ShownByQuery,
    fault::Fault,
    outcome::Outcome,
    wechat_pay::{OrderState, Reply, ReplyCode},
};

/// What closeorder came to, all attempts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseResult {
    Success,
    OrderClosed,
    OrderPaid,
    OrderNotExist,
    UserPaying,
    TradeStateError,
    /// A signed `FREQUENCY_LIMITED`: the rate limit, or a payment under way.
    FrequencyLimited,
    /// Any other code of unknown meaning.
    OtherCode,
    SystemError,
    /// [`Fault::GatewayUnreachable`] after something may have been sent, or [`Fault::ReplyInvalid`].
    NoReply,
    /// Nothing else happened: the order was not touched.
    Rejected,
    /// An unsigned reply about the call rate, and nothing else happened.
    RateLimited,
    /// A rejection or the rate limit after another attempt of this order, which was sent and may have closed it.
    RejectedAfterUnknown,
    /// No connection at all, no key, no order.
    NotSent,
    /// The time ran out after something may have been sent, without a reply.
    DeadlineExceeded,
}

/// What a query came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueryResult {
    /// The order's state.
    State(OrderState),
    /// ORDERNOTEXIST: the one reply of a query that names no order.
    NotFound,
    /// Another `err_code`, not verified, no answer, no time, or no query.
    Nothing,
}

/// What the caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) outcome: Outcome,
    /// Whether a verified query of this invocation said this outcome.
    pub(super) confirmed: bool,
    pub(super) form: AnswerForm,
}

/// From what the answer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerForm {
    /// Closeorder's reply or fault: the query brought nothing that counts.
    CloseReply,
    /// Closeorder's reply or fault, with the query's fields.
    CloseReplyWithQuery,
    /// The answer that closeorder gives for what the query has shown.
    FromQuery(ShownByQuery),
    /// An answer that says neither closed nor paid nor not found, since no query has proved it.
    NotConfirmed,
}

impl CloseResult {
    /// `may_have_closed`: whether an attempt of this order was sent and came to anything but a rejection or the rate limit.
    pub(super) fn of(result: &Result<Reply, Fault>, may_have_closed: bool) -> Self {
        match result {
            Ok(reply) => match reply.code() {
                ReplyCode::Success => Self::Success,
                ReplyCode::OrderClosed => Self::OrderClosed,
                ReplyCode::OrderPaid => Self::OrderPaid,
                ReplyCode::OrderNotExist => Self::OrderNotExist,
                ReplyCode::UserPaying => Self::UserPaying,
                ReplyCode::TradeStateError => Self::TradeStateError,
                ReplyCode::FrequencyLimited => Self::FrequencyLimited,
                ReplyCode::Other | ReplyCode::UnsignedOther => Self::OtherCode,
                ReplyCode::SystemError => Self::SystemError,
                ReplyCode::SignatureRejected | ReplyCode::Rejected | ReplyCode::RateLimited if may_have_closed => {
                    Self::RejectedAfterUnknown
                }
                ReplyCode::RateLimited => Self::RateLimited,
                ReplyCode::SignatureRejected | ReplyCode::Rejected => Self::Rejected,
            },
            Err(Fault::DeadlineExceeded { was_sent: true }) => Self::DeadlineExceeded,
            Err(_) if may_have_closed => Self::NoReply,
            Err(_) => Self::NotSent,
        }
    }

    /// Closeorder's own outcome.
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::Success | Self::OrderClosed => Outcome::Closed,
            Self::OrderPaid => Outcome::Paid,
            Self::OrderNotExist => Outcome::NotFound,
            Self::UserPaying => Outcome::Open,
            Self::TradeStateError
            | Self::FrequencyLimited
            | Self::OtherCode
            | Self::SystemError
            | Self::NoReply
            | Self::RateLimited
            | Self::RejectedAfterUnknown
            | Self::DeadlineExceeded => Outcome::Unknown,
            Self::Rejected => Outcome::Rejected,
            Self::NotSent => Outcome::NotSent,
        }
    }

    /// Whether the order is queried.
    pub(super) fn is_queried(self, confirm: bool) -> bool {
        match self {
            Self::Success | Self::OrderClosed | Self::OrderPaid | Self::OrderNotExist => confirm,
            Self::UserPaying
            | Self::TradeStateError
            | Self::FrequencyLimited
            | Self::OtherCode
            | Self::SystemError
            | Self::NoReply
            | Self::RejectedAfterUnknown => true,
            Self::Rejected | Self::RateLimited | Self::NotSent | Self::DeadlineExceeded => false,
        }
    }

    /// The code of a reply that says that the order is closed, paid or not there.
    pub(super) fn said(self) -> &'static str {
        match self {
            Self::OrderClosed => "ORDERCLOSED",
            Self::OrderPaid => "ORDERPAID",
            Self::OrderNotExist => "ORDERNOTEXIST",
            _ => "SUCCESS",
        }
    }

    /// Whether the reply can only be about an order that exists.
    fn shows_that_the_order_exists(self) -> bool {
        matches!(self, Self::OrderPaid | Self::OrderClosed | Self::UserPaying | Self::TradeStateError)
    }
}

impl QueryResult {
    /// What a verified reply shows.
    pub(super) fn of(reply: &Reply) -> Self {
        match (reply.code(), reply.state()) {
            (ReplyCode::Success, Some(state)) => Self::State(state),
            (ReplyCode::OrderNotExist, _) => Self::NotFound,
            _ => Self::Nothing,
        }
    }
}

/// What closeorder and the query come to together. With `confirm`, only what the query has proved is said.
pub(super) fn decide(close: CloseResult, query: QueryResult, confirm: bool) -> Decision {
    let (outcome, shown) = match query {
        QueryResult::State(OrderState::Closed) => (Outcome::Closed, ShownByQuery::Closed),
        QueryResult::State(OrderState::Paid) => (Outcome::Paid, ShownByQuery::Paid),
        QueryResult::State(OrderState::Open) => (Outcome::Open, ShownByQuery::Open),
        QueryResult::NotFound if !close.shows_that_the_order_exists() => (Outcome::NotFound, ShownByQuery::NotFound),
        QueryResult::NotFound | QueryResult::Nothing => return unconfirmed(close, confirm),
    };
    // Queries lag behind payments, so an order that is called paid is neither open nor closed for certain.
    if close == CloseResult::OrderPaid && outcome != Outcome::Paid {
        return NOT_CONFIRMED;
    }
    let is_kept = if outcome == Outcome::Open {
        !matches!(close, CloseResult::Success | CloseResult::OrderClosed | CloseResult::OrderNotExist)
    } else {
        outcome == close.outcome()
    };
    let form = if is_kept { AnswerForm::CloseReplyWithQuery } else { AnswerForm::FromQuery(shown) };
    Decision { outcome, confirmed: true, form }
}

/// What the second round comes to, after a query that showed the order open: only a later query that shows a state changes
/// that. `close` is what closeorder came to in both rounds together, `is_called_paid` whether its second reply is ORDERPAID.
pub(super) fn decide_again(close: CloseResult, is_called_paid: bool, query: QueryResult) -> Decision {
    match query {
        QueryResult::State(_) => decide(close, query, true),
        QueryResult::NotFound | QueryResult::Nothing if is_called_paid => NOT_CONFIRMED,
        QueryResult::NotFound | QueryResult::Nothing => {
            Decision { outcome: Outcome::Open, confirmed: true, form: AnswerForm::FromQuery(ShownByQuery::Open) }
        }
    }
}

const NOT_CONFIRMED: Decision =
    Decision { outcome: Outcome::Unknown, confirmed: false, form: AnswerForm::NotConfirmed };

/// Closeorder's own outcome, which no query has proved.
fn unconfirmed(close: CloseResult, confirm: bool) -> Decision {
    let outcome = close.outcome();
    if confirm && outcome.is_terminal() {
        NOT_CONFIRMED
    } else {
        Decision { outcome, confirmed: false, form: AnswerForm::CloseReply }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        AnswerForm::{CloseReply, CloseReplyWithQuery, FromQuery},
        CloseResult::*,
        *,
    };

    const CLOSE_RESULTS: [CloseResult; 15] = [
        Success,
        OrderClosed,
        OrderPaid,
        OrderNotExist,
        UserPaying,
        TradeStateError,
        FrequencyLimited,
        OtherCode,
        SystemError,
        NoReply,
        Rejected,
        RateLimited,
        RejectedAfterUnknown,
        NotSent,
        DeadlineExceeded,
    ];
    const CLOSED: QueryResult = QueryResult::State(OrderState::Closed);
    const PAID: QueryResult = QueryResult::State(OrderState::Paid);
    const OPEN: QueryResult = QueryResult::State(OrderState::Open);
    const NOT_FOUND: QueryResult = QueryResult::NotFound;
    const NOTHING: QueryResult = QueryResult::Nothing;

    fn confirmed(outcome: Outcome, form: AnswerForm) -> Decision {
        Decision { outcome, confirmed: true, form }
    }

    fn own(close: CloseResult) -> Decision {
        Decision { outcome: close.outcome(), confirmed: false, form: CloseReply }
    }

    #[test]
    fn what_closeorder_came_to_decides_whether_the_order_is_queried() {
        for (close, outcome, without_confirm, with_confirm) in [
            (Success, Outcome::Closed, false, true),
            (OrderClosed, Outcome::Closed, false, true),
            (OrderPaid, Outcome::Paid, false, true),
            (OrderNotExist, Outcome::NotFound, false, true),
            (UserPaying, Outcome::Open, true, true),
            (TradeStateError, Outcome::Unknown, true, true),
            (FrequencyLimited, Outcome::Unknown, true, true),
            (OtherCode, Outcome::Unknown, true, true),
            (SystemError, Outcome::Unknown, true, true),
            (NoReply, Outcome::Unknown, true, true),
            (Rejected, Outcome::Rejected, false, false),
            (RateLimited, Outcome::Unknown, false, false),
            (RejectedAfterUnknown, Outcome::Unknown, true, true),
            (NotSent, Outcome::NotSent, false, false),
            (DeadlineExceeded, Outcome::Unknown, false, false),
        ] {
            assert_eq!(close.outcome(), outcome, "{close:?}");
            assert_eq!((close.is_queried(false), close.is_queried(true)), (without_confirm, with_confirm), "{close:?}");
        }
    }

    #[test]
    fn what_the_query_says_decides_the_outcome() {
        let from_query = |outcome, shown| confirmed(outcome, FromQuery(shown));
        let closed = from_query(Outcome::Closed, ShownByQuery::Closed);
        let paid = from_query(Outcome::Paid, ShownByQuery::Paid);
        let not_found = from_query(Outcome::NotFound, ShownByQuery::NotFound);
        let open = from_query(Outcome::Open, ShownByQuery::Open);
        let with_query = |outcome| confirmed(outcome, CloseReplyWithQuery);
        let still_open = with_query(Outcome::Open);
        for (close, when_closed, when_paid, when_not_found, when_open) in [
            (Success, with_query(Outcome::Closed), paid, not_found, open),
            (OrderClosed, with_query(Outcome::Closed), paid, NOT_CONFIRMED, open),
            (OrderPaid, NOT_CONFIRMED, with_query(Outcome::Paid), NOT_CONFIRMED, NOT_CONFIRMED),
            (OrderNotExist, closed, paid, with_query(Outcome::NotFound), open),
            (UserPaying, closed, paid, own(UserPaying), still_open),
            (TradeStateError, closed, paid, own(TradeStateError), still_open),
            (FrequencyLimited, closed, paid, not_found, still_open),
            (OtherCode, closed, paid, not_found, still_open),
            (SystemError, closed, paid, not_found, still_open),
            (NoReply, closed, paid, not_found, still_open),
            (RejectedAfterUnknown, closed, paid, not_found, still_open),
        ] {
            for (query, expected) in
                [(CLOSED, when_closed), (PAID, when_paid), (NOT_FOUND, when_not_found), (OPEN, when_open)]
            {
                assert_eq!(decide(close, query, true), expected, "{close:?} {query:?}");
            }
        }
    }

    #[test]
    fn without_a_query_s_proof_only_a_caller_that_asks_for_none_gets_a_terminal_outcome() {
        for close in CLOSE_RESULTS {
            let is_terminal = matches!(close, Success | OrderClosed | OrderPaid | OrderNotExist);
            let expected = if is_terminal { NOT_CONFIRMED } else { own(close) };
            assert_eq!(decide(close, NOTHING, true), expected, "{close:?}");
            assert_eq!(decide(close, NOTHING, false), own(close), "{close:?}");
        }
    }

    #[test]
    fn an_outcome_is_confirmed_exactly_if_the_query_said_it() {
        for close in CLOSE_RESULTS {
            for query in [CLOSED, PAID, NOT_FOUND, OPEN, NOTHING] {
                for confirm in [false, true] {
                    let Decision { outcome, confirmed, .. } = decide(close, query, confirm);
                    let said = match query {
                        CLOSED => Some(Outcome::Closed),
                        PAID => Some(Outcome::Paid),
                        OPEN => Some(Outcome::Open),
                        QueryResult::NotFound => Some(Outcome::NotFound),
                        QueryResult::Nothing => None,
                    };
                    let ignored = query == NOT_FOUND && close.shows_that_the_order_exists();
                    assert_eq!(confirmed, said == Some(outcome) && !ignored, "{close:?} {query:?} {confirm}");
                    assert!(!confirm || confirmed || !outcome.is_terminal(), "{close:?} {query:?}");
                }
            }
        }
    }

    #[test]
    fn what_a_query_has_shown_open_is_called_something_else_only_for_a_later_query_s_state() {
        let open = confirmed(Outcome::Open, FromQuery(ShownByQuery::Open));
        for close in CLOSE_RESULTS {
            for query in [NOT_FOUND, NOTHING] {
                assert_eq!(decide_again(close, false, query), open, "{close:?} {query:?}");
                assert_eq!(decide_again(close, true, query), NOT_CONFIRMED, "{close:?} {query:?}");
            }
            for query in [CLOSED, PAID, OPEN] {
                assert_eq!(decide_again(close, false, query), decide(close, query, true), "{close:?} {query:?}");
            }
        }
    }
}
