//! The two tables that decide: when an order is queried, and what closeorder and the query come to together.

use crate::{
    answer::ShownByQuery,
    fault::Fault,
    outcome::Outcome,
    wechat_pay::{Reply, ReplyCode},
};

/// What closeorder came to, all attempts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseResult {
    Success,
    OrderClosed,
    OrderPaid,
    OrderNotExist,
    UserPaying,
    /// An `err_code` of unknown meaning: `FREQUENCY_LIMITED`, `TRADE_STATE_ERROR`, codes of the future.
    OtherCode,
    SystemError,
    /// [`Fault::GatewayUnreachable`] after something may have been sent, or [`Fault::ReplyInvalid`].
    NoReply,
    /// Nothing else happened: the order was not touched.
    Rejected,
    /// Another attempt of this order was sent and came to anything but a rejection: it may have closed the order.
    RejectedBesideOthers,
    /// An unsigned FAIL about the call rate: no more load.
    RateLimited,
    /// No connection at all, no key, no order.
    NothingSent,
    /// The time ran out after something may have been sent, with nothing in hand.
    OutOfTime,
}

/// What a query came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueryResult {
    Closed,
    Paid,
    NotFound,
    Open,
    /// Another `err_code`, not verified, no answer, no time, or no query.
    Nothing,
}

/// What the caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) outcome: Outcome,
    pub(super) form: AnswerForm,
}

/// From what the answer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerForm {
    /// Closeorder's reply or fault alone: it stands against the query, or the query brought nothing.
    Alone,
    /// Closeorder's reply or fault, with the query's fields.
    WithQuery,
    /// The answer that closeorder gives for what the query has shown.
    Shown(ShownByQuery),
}

impl CloseResult {
    /// `may_have_closed`: whether an attempt of this order was sent and came to anything but a rejection.
    pub(super) fn of(result: &Result<Reply, Fault>, may_have_closed: bool) -> Self {
        match result {
            Ok(reply) => match reply.code() {
                ReplyCode::Success => Self::Success,
                ReplyCode::OrderClosed => Self::OrderClosed,
                ReplyCode::OrderPaid => Self::OrderPaid,
                ReplyCode::OrderNotExist => Self::OrderNotExist,
                ReplyCode::UserPaying => Self::UserPaying,
                ReplyCode::Other => Self::OtherCode,
                ReplyCode::SystemError => Self::SystemError,
                ReplyCode::RateLimited => Self::RateLimited,
                ReplyCode::SignatureRejected | ReplyCode::Rejected if may_have_closed => Self::RejectedBesideOthers,
                ReplyCode::SignatureRejected | ReplyCode::Rejected => Self::Rejected,
            },
            Err(Fault::DeadlineExceeded { was_sent: true }) => Self::OutOfTime,
            Err(_) if may_have_closed => Self::NoReply,
            Err(_) => Self::NothingSent,
        }
    }

    /// Closeorder's own outcome.
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::Success | Self::OrderClosed => Outcome::Closed,
            Self::OrderPaid => Outcome::Paid,
            Self::OrderNotExist => Outcome::NotFound,
            Self::UserPaying => Outcome::Open,
            Self::OtherCode
            | Self::SystemError
            | Self::NoReply
            | Self::RejectedBesideOthers
            | Self::RateLimited
            | Self::OutOfTime => Outcome::Unknown,
            Self::Rejected => Outcome::Rejected,
            Self::NothingSent => Outcome::NotSent,
        }
    }

    /// Whether the order is queried.
    pub(super) fn is_queried(self, confirm: bool) -> bool {
        match self {
            Self::Success | Self::OrderClosed | Self::OrderPaid | Self::OrderNotExist => confirm,
            Self::UserPaying | Self::OtherCode | Self::SystemError | Self::NoReply | Self::RejectedBesideOthers => true,
            Self::Rejected | Self::RateLimited | Self::NothingSent | Self::OutOfTime => false,
        }
    }
}

impl QueryResult {
    /// The state that a verified reply shows.
    pub(super) fn of(reply: &Reply) -> Self {
        match (reply.code(), reply.get("trade_state")) {
            (ReplyCode::Success, Some("CLOSED" | "REVOKED")) => Self::Closed,
            (ReplyCode::Success, Some("SUCCESS" | "REFUND")) => Self::Paid,
            (ReplyCode::Success, Some(_)) => Self::Open,
            (ReplyCode::OrderNotExist, _) => Self::NotFound,
            _ => Self::Nothing,
        }
    }
}

/// What closeorder and the query come to together.
pub(super) fn decide(close: CloseResult, query: QueryResult) -> Decision {
    use CloseResult::{OrderClosed, OrderNotExist, OrderPaid, Success};

    let own = close.outcome();
    let decision = |outcome, form| Decision { outcome, form };
    let shown = |outcome, shown| match outcome {
        _ if outcome == own => decision(outcome, AnswerForm::WithQuery),
        _ => decision(outcome, AnswerForm::Shown(shown)),
    };
    match (query, close) {
        // Queries lag behind payments, and behind closes of orders that are hardly there.
        (QueryResult::Nothing, _)
        | (QueryResult::Open, OrderPaid)
        | (QueryResult::NotFound, OrderPaid | OrderClosed) => decision(own, AnswerForm::Alone),
        (QueryResult::Closed, OrderPaid) => decision(Outcome::Unknown, AnswerForm::WithQuery),
        (QueryResult::Closed, _) => shown(Outcome::Closed, ShownByQuery::Closed),
        (QueryResult::Paid, _) => shown(Outcome::Paid, ShownByQuery::Paid),
        (QueryResult::NotFound, _) => shown(Outcome::NotFound, ShownByQuery::NotFound),
        (QueryResult::Open, Success | OrderClosed | OrderNotExist) => shown(Outcome::Open, ShownByQuery::Open),
        (QueryResult::Open, _) => decision(Outcome::Open, AnswerForm::WithQuery),
    }
}

/// The same after a query has shown the order open: only a later query, or ORDERPAID from closeorder, changes that.
pub(super) fn decide_again(close: CloseResult, query: QueryResult) -> Decision {
    let decision = decide(close, query);
    match (close, decision.form) {
        (CloseResult::OrderPaid, _)
        | (_, AnswerForm::Shown(_))
        | (CloseResult::UserPaying | CloseResult::OtherCode, AnswerForm::WithQuery) => decision,
        (_, AnswerForm::WithQuery) if decision.outcome != Outcome::Open => decision,
        _ => Decision { outcome: Outcome::Open, form: AnswerForm::Shown(ShownByQuery::Open) },
    }
}

#[cfg(test)]
mod tests {
    use super::{AnswerForm::*, CloseResult::*, *};

    const CLOSE_RESULTS: [CloseResult; 13] = [
        Success,
        OrderClosed,
        OrderPaid,
        OrderNotExist,
        UserPaying,
        OtherCode,
        SystemError,
        NoReply,
        Rejected,
        RejectedBesideOthers,
        RateLimited,
        NothingSent,
        OutOfTime,
    ];

    #[test]
    fn what_closeorder_came_to_decides_whether_the_order_is_queried() {
        for (close, outcome, without_confirm, with_confirm) in [
            (Success, Outcome::Closed, false, true),
            (OrderClosed, Outcome::Closed, false, true),
            (OrderPaid, Outcome::Paid, false, true),
            (OrderNotExist, Outcome::NotFound, false, true),
            (UserPaying, Outcome::Open, true, true),
            (OtherCode, Outcome::Unknown, true, true),
            (SystemError, Outcome::Unknown, true, true),
            (NoReply, Outcome::Unknown, true, true),
            (Rejected, Outcome::Rejected, false, false),
            (RejectedBesideOthers, Outcome::Unknown, true, true),
            (RateLimited, Outcome::Unknown, false, false),
            (NothingSent, Outcome::NotSent, false, false),
            (OutOfTime, Outcome::Unknown, false, false),
        ] {
            assert_eq!(close.outcome(), outcome, "{close:?}");
            assert_eq!((close.is_queried(false), close.is_queried(true)), (without_confirm, with_confirm), "{close:?}");
        }
    }

    #[test]
    fn what_the_query_says_decides_the_outcome() {
        let shown_closed = (Outcome::Closed, Shown(ShownByQuery::Closed));
        let shown_paid = (Outcome::Paid, Shown(ShownByQuery::Paid));
        let shown_not_found = (Outcome::NotFound, Shown(ShownByQuery::NotFound));
        let shown_open = (Outcome::Open, Shown(ShownByQuery::Open));
        let still_open = (Outcome::Open, WithQuery);
        for (close, closed, paid, not_found, open) in [
            (Success, (Outcome::Closed, WithQuery), shown_paid, shown_not_found, shown_open),
            (OrderClosed, (Outcome::Closed, WithQuery), shown_paid, (Outcome::Closed, Alone), shown_open),
            (
                OrderPaid,
                (Outcome::Unknown, WithQuery),
                (Outcome::Paid, WithQuery),
                (Outcome::Paid, Alone),
                (Outcome::Paid, Alone),
            ),
            (OrderNotExist, shown_closed, shown_paid, (Outcome::NotFound, WithQuery), shown_open),
            (UserPaying, shown_closed, shown_paid, shown_not_found, still_open),
            (OtherCode, shown_closed, shown_paid, shown_not_found, still_open),
            (SystemError, shown_closed, shown_paid, shown_not_found, still_open),
            (NoReply, shown_closed, shown_paid, shown_not_found, still_open),
            (RejectedBesideOthers, shown_closed, shown_paid, shown_not_found, still_open),
        ] {
            for (query, expected) in [
                (QueryResult::Closed, closed),
                (QueryResult::Paid, paid),
                (QueryResult::NotFound, not_found),
                (QueryResult::Open, open),
                (QueryResult::Nothing, (close.outcome(), Alone)),
            ] {
                let Decision { outcome, form } = decide(close, query);
                assert_eq!((outcome, form), expected, "{close:?} {query:?}");
            }
        }
    }

    #[test]
    fn what_a_query_has_shown_open_is_not_called_closed_again_without_a_later_query() {
        let open = (Outcome::Open, Shown(ShownByQuery::Open));
        for close in CLOSE_RESULTS {
            for query in
                [QueryResult::Closed, QueryResult::Paid, QueryResult::NotFound, QueryResult::Open, QueryResult::Nothing]
            {
                let Decision { outcome, form } = decide_again(close, query);
                let expected = match (close, query) {
                    (OrderPaid, QueryResult::Closed) => (Outcome::Unknown, WithQuery),
                    (OrderPaid, QueryResult::Paid) => (Outcome::Paid, WithQuery),
                    (OrderPaid, _) => (Outcome::Paid, Alone),
                    (OrderClosed, QueryResult::NotFound) | (_, QueryResult::Nothing) => open,
                    (Success | OrderClosed, QueryResult::Closed) => (Outcome::Closed, WithQuery),
                    (OrderNotExist, QueryResult::NotFound) => (Outcome::NotFound, WithQuery),
                    (_, QueryResult::Closed) => (Outcome::Closed, Shown(ShownByQuery::Closed)),
                    (_, QueryResult::Paid) => (Outcome::Paid, Shown(ShownByQuery::Paid)),
                    (_, QueryResult::NotFound) => (Outcome::NotFound, Shown(ShownByQuery::NotFound)),
                    (UserPaying | OtherCode, QueryResult::Open) => (Outcome::Open, WithQuery),
                    (_, QueryResult::Open) => open,
                };
                assert_eq!((outcome, form), expected, "{close:?} {query:?}");
            }
        }
    }
}
