//! What became of an order, in one word: in every answer, log line and event.

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is closed, now or before.
    Closed,
    /// It is paid, or was paid and refunded since.
    Paid,
    /// The merchant has no such order.
    NotFound,
    /// It is not closed and may be paid any moment.
    Open,
    /// Nobody can say.
    Unknown,
    /// WeChat Pay rejected the request itself.
    Rejected,
    /// Nothing was sent.
    NotSent,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 7] =
        [Self::Closed, Self::Paid, Self::NotFound, Self::Open, Self::Unknown, Self::Rejected, Self::NotSent];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Paid => "paid",
            Self::NotFound => "not_found",
            Self::Open => "open",
            Self::Unknown => "unknown",
            Self::Rejected => "rejected",
            Self::NotSent => "not_sent",
        }
    }

    /// Whether nothing is left to do about the order: a message about it is acknowledged, and the back end notified.
    #[must_use]
    pub(crate) fn is_terminal(self) -> bool {
        matches!(self, Self::Closed | Self::Paid | Self::NotFound)
    }
}
