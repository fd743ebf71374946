//! Closes WeChat Pay orders from AWS Lambda, as `cloud.cloudPay.closeOrder()` does inside WeChat's own cloud.
//!
//! # Module overview
//!
//! Data flows one way: an event comes in at [`trigger`], which knows Lambda's callers and nothing of WeChat Pay. The
//! JSON in it becomes an [`order`], valid ever after. [`close_order`] closes it: it takes the merchant's identity and key
//! from the cache in [`merchants`], has [`wechat_pay`] send signed requests and verify the replies, and alone decides what
//! comes next. What it came to goes back the same way as an [`answer`], with an [`outcome`] in it; a batch's outcomes are
//! published by [`outcome_events`].
//!
//! `ARCHITECTURE.md` has the way of an order, the walls between the modules, and where to change what.
//!
//! [`close_order`] decides about every attempt at WeChat Pay; a call of AWS may be attempted twice by its SDK. The project's
//! own variables and Lambda's log variables are read in [`config`], AWS's in [`aws`], the rest of Lambda's by its runtime.
//! A key is exposed where `wechat_pay::v2` feeds it to the digest or `wechat_pay::v3` signs with it, and where two
//! secrets are compared, in constant time.

pub mod answer;
pub mod aws;
pub mod base_url;
pub mod close_order;
mod concurrent;
pub mod config;
pub mod fault;
pub mod http_client;
pub mod log;
pub mod merchants;
pub mod order;
pub mod outcome;
pub mod outcome_events;
pub mod queue;
pub mod trigger;
pub mod wechat_pay;
