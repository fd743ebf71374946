//! A chaos run: many orders in mixed states, of six merchants of both kinds and over both of WeChat Pay's interfaces, through
//! direct calls and SQS, while everything around the function goes wrong. At the end the ledger must be consistent: what
//! the function reported of each order, and what it published, is compared with what the gateway knows of it.
//!
//! Its rules are about sockets, deadlines, secrets, memory, the queue and the truth of what was confirmed. Which outcome
//! follows from which replies is for tables and property tests of the function itself.

mod incidents;
mod ledger;
mod plan;
mod record;
mod run;

pub use ledger::{Ledger, Rule};
pub use run::run;
