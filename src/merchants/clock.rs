//! The wall clock: the monotonic one stands still while Lambda freezes the process.

use std::time::{Duration, SystemTime};

/// Reads the wall clock.
pub(super) type Now = fn() -> SystemTime;

/// Whether so much time has not passed yet; a clock that was set back counts as passed.
pub(super) fn is_within(now: Now, since: SystemTime, time: Duration) -> bool {
    now().duration_since(since).is_ok_and(|passed| passed < time)
}
