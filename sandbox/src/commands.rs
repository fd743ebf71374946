//! The commands, one module each.

pub mod invoke;
mod report;
mod scenario;
pub mod serve;
