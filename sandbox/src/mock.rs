//! Mocks of everything around `close-order` that a machine without WeChat Pay or AWS lacks, on loopback.
//!
//! # What of WeChat Pay the mock does not reproduce
//! - Orders are not made (`unifiedorder`), paid, refunded or reversed: a test or an order number's prefix says in which
//!   state an order is. An order belongs to whichever `sub_mch_id` asks for it, and to whichever merchant, unless a test
//!   says to which.
//! - Time plays no part: an order less than five minutes old can be closed, `time_expire` is unknown. The rate limit is as
//!   many requests in each second as a test allows, for each merchant.
//! - Which of API v3's replies are signed is documented for few of them: here all are that were authenticated, but
//!   `SIGN_ERROR` and the rate limit's. It looks at a request's headers more strictly than WeChat Pay is known to,
//!   and takes a public key's ID in `Wechatpay-Serial` alone, no certificate's serial.
//! - Combined orders (合单) and the global interface of API v3 are unknown to it.
//! - What closeorder answers about an order that is revoked, whose payment failed or whose deduction is pending is not
//!   documented; the mock answers `TRADE_STATE_ERROR`.
//! - Error texts are those that real replies were seen with; the real gateway has more of them.
//!
//! Of AWS there is only what the function meets: `GetSecretValue`, `PutEvents`, three calls of SQS, the Runtime API and
//! `Invoke`. Signatures of requests to AWS must be there and name the service, and are not recomputed; there are no
//! permissions and no rules.

mod aws_json;
pub mod event_bus;
pub mod function;
pub mod gateway;
pub mod identity;
pub mod listener;
pub mod queue;
pub mod rsa;
pub mod runtime;
pub mod secrets;
pub mod signed_xml;
pub mod tls;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also what a panic of another test thread left behind: its state is still worth a look.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
