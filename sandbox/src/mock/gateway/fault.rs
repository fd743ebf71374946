//! What can go wrong at the gateway, and how often.

use std::time::Duration;

/// How often a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// So many times.
    Next(u32),
    /// Until it is cleared.
    Always,
}

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// All goes well, but later.
    Delay(Duration),
    /// The request is read and never answered.
    Hang,
    /// TCP reset before the order is touched.
    Reset,
    /// The order is dealt with, then TCP reset instead of the reply.
    ResetAfter,
    /// The order is dealt with, then the connection is closed instead of a reply.
    CloseAfter,
    /// The order is not touched, and this HTTP status comes back.
    Status(u16),
    /// The order is not touched, and this body comes back with HTTP 200.
    Body(Vec<u8>),
    /// The order is not touched, and this many bytes of an endless document come back.
    Flood(u64),
    /// The order is dealt with, and half of the reply comes back.
    Truncate,
    /// The order is not touched, and a reply that says it is closed comes back, signed with another key.
    Forge,
    /// Signed `result_code` FAIL with this `err_code`; the order is not touched.
    Error(&'static str),
    /// The order is dealt with, and these reply fields are set, or removed, before it is signed.
    Edit(Vec<(&'static str, Option<String>)>),
    /// The order is dealt with, and these reply fields are set, or removed, after it was signed.
    Tamper(Vec<(&'static str, Option<String>)>),
}
