//! Closes WeChat Pay orders from AWS Lambda, as `cloud.cloudPay.closeOrder()` does inside WeChat's own cloud.
//!
//! # The map of the house
//!
//! Data goes one way: an event comes in at [`trigger`], which knows Lambda's callers and nothing of WeChat Pay. The
//! JSON in it becomes an [`order`], valid ever after. [`close_order`] closes it: it takes the [`merchant`]'s identity
//! and key, kept from AWS Secrets Manager, has [`wechat_pay`] send the signed request and believe or disbelieve the
//! answer, and alone decides whether to try again. A reply or a [`fault`] goes back the same way.
//!
//! | to change | look in |
//! | --- | --- |
//! | what an order may look like | [`order`] |
//! | what a caller gets back for a reply of WeChat Pay | [`wechat_pay`], its `reply` |
//! | what a caller gets back for anything else | [`fault`] |
//! | when to try again, and where | [`close_order`], its `next_step` |
//! | what the log says of an order | [`close_order`], its `record` |
//! | a new kind of caller | [`trigger`] |
//! | a setting | [`config`] |
//! | TLS, connections, roots | [`http_client`] |
//!
//! Nothing below [`close_order`] tries again. The project's own variables are read in [`config`], AWS's where the client
//! of Secrets Manager is made, Lambda's by its runtime. The key is exposed where [`wechat_pay::sign`] feeds it to the
//! digest, and where two merchants are compared, in constant time.

pub mod close_order;
pub mod config;
pub mod fault;
pub mod http_client;
pub mod log;
pub mod merchant;
pub mod order;
pub mod trigger;
pub mod wechat_pay;
