//! The calls that the gateway knows.

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// `/pay/closeorder`
    CloseOrder,
    /// `/pay/orderquery`
    OrderQuery,
}

impl Call {
    /// Every call.
    pub const ALL: [Self; 2] = [Self::CloseOrder, Self::OrderQuery];

    /// Where it is made.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::CloseOrder => "/pay/closeorder",
            Self::OrderQuery => "/pay/orderquery",
        }
    }

    pub(super) fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.path() == path)
    }
}
