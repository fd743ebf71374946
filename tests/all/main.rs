//! The function as its callers meet it: the real binary, driven through the sandbox.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be, in its helpers too"
)]

mod chaos;
mod configuration;
mod direct;
mod documentation;
mod faults;
mod http;
mod log;
mod merchants;
mod outcome_events;
mod properties;
mod query;
mod replies;
mod runtime;
mod secrecy;
mod secret;
mod sqs;
mod support;
mod tls;
mod unsupported;
mod v3;
