//! Mocks of everything around `close-order` that a machine without WeChat Pay or AWS lacks, on loopback.

pub mod function;
pub mod gateway;
pub mod identity;
pub mod listener;
pub mod runtime;
pub mod secrets;
pub mod signed_xml;
pub mod tls;
