//! What can go wrong at the gateway, and how often.

use std::{collections::VecDeque, time::Duration};

use super::Call;

/// How often something happens; by default, never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// So many times.
    Next(u32),
    /// Until it is cleared.
    Always,
}

impl Default for Times {
    fn default() -> Self {
        Self::NEVER
    }
}

impl Times {
    /// Not at all.
    pub const NEVER: Self = Self::Next(0);

    /// Whether it happens now, which counts.
    pub(super) fn use_one(&mut self) -> bool {
        match self {
            Self::Always => true,
            Self::Next(0) => false,
            Self::Next(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// All goes well, but later.
    Delay(Duration),
    /// The request is read and never answered; the order is not touched.
    Hang,
    /// The order is dealt with, and no reply ever comes.
    HangAfter,
    /// TCP reset before the order is touched.
    Reset,
    /// TCP reset before the order is touched, if the connection carried a request before, as one that died while it was
    /// idle. On a new connection all goes well.
    ResetIfReused,
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
    /// The order is not touched, and a reply that says that it is closed comes back, signed with another key.
    Forge,
    /// The order is not touched, and the latest genuine reply of this call about another order comes back; one that says
    /// that its order is closed, if there was none.
    Replay,
    /// The order is not touched, and a genuine reply of the other call comes back: to closeorder what orderquery says of
    /// the order, to orderquery that of a close that succeeded.
    OtherCall,
    /// The order is not touched, and a genuine reply of unifiedorder comes back.
    UnifiedOrder,
    /// Unsigned `return_code` FAIL with this `return_msg`; the order is not touched. API v3 has an unsigned error code that
    /// says the like.
    UnsignedFail(&'static str),
    /// There are too many requests (API v3: unsigned, with HTTP status 429); the order is not touched.
    RateLimit,
    /// Signed `result_code` FAIL with this `err_code`, or API v3's like of it; the order is not touched.
    Error(&'static str),
    /// The order is dealt with, and these reply fields are set, or removed, before it is signed.
    Edit(Vec<(&'static str, Option<String>)>),
    /// The order is dealt with, and these reply fields are set, or removed, after it was signed.
    Tamper(Vec<(&'static str, Option<String>)>),
    /// What goes wrong with API v3 alone.
    V3(V3Fault),
}

impl Fault {
    /// Whether the reply is as it should be, though it may come late or never.
    pub(super) fn leaves_the_reply(&self) -> bool {
        matches!(
            self,
            Self::Delay(_)
                | Self::ResetIfReused
                | Self::HangAfter
                | Self::ResetAfter
                | Self::CloseAfter
                | Self::Truncate
        )
    }
}

/// What goes wrong with API v3 alone; with API v2 all goes well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V3Fault {
    /// The order is not touched, and this HTTP status and body come back, with a genuine signature.
    Signed(u16, &'static str),
    /// The order is not touched, and this HTTP status and body come back, without a signature.
    Unsigned(u16, &'static str),
    /// The order is dealt with, and the reply is signed as of so many seconds from now; of ago, if negative.
    Clock(i64),
    /// The order is dealt with, and the reply is signed with the key of WeChat Pay's certificate although the request asks
    /// for the public key: so it is until a merchant has started the switch.
    Certificate,
    /// The order is dealt with, and the signature is of the kind by which WeChat Pay probes whether it is verified.
    SignTest,
    /// The order is dealt with, and this header is set, or removed, after the reply was signed.
    Header(&'static str, Option<&'static str>),
    /// The order is dealt with, and this header is there twice.
    HeaderTwice(&'static str),
}

/// A fault that waits for its calls.
#[derive(Debug)]
pub(super) struct Planned {
    /// The endpoint where it goes wrong; any, if none is named.
    pub(super) endpoint: Option<usize>,
    /// The call that goes wrong; either, if none is named.
    pub(super) call: Option<Call>,
    pub(super) times: Times,
    pub(super) fault: Fault,
}

impl Planned {
    /// The first that is meant for this call at this endpoint, which counts.
    pub(super) fn next(all: &mut VecDeque<Self>, endpoint: usize, call: Call) -> Option<Fault> {
        all.retain(|planned| planned.times != Times::NEVER);
        let is_meant = |planned: &&mut Self| {
            planned.call.is_none_or(|meant| meant == call) && planned.endpoint.is_none_or(|meant| meant == endpoint)
        };
        let planned = all.iter_mut().find(is_meant)?;
        planned.times.use_one();
        Some(planned.fault.clone())
    }
}
