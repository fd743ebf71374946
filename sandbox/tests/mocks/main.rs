//! The mocks as their callers meet them, over bare sockets: what is tested here is the protocol, not a client.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first thing that is not as it should be"
)]

mod aws;
mod function;
mod gateway;
mod invoke;
mod queue;
mod runtime;
mod support;
