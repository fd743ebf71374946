//! The function as its callers meet it: the real binary, driven through the sandbox.

mod configuration;
mod direct;
mod faults;
mod http;
mod properties;
mod replies;
mod secrecy;
mod secret;
mod sqs;
mod support;
