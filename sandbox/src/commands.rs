//! The commands, one module each.

pub mod bench;
pub mod chaos;
pub mod invoke;
mod report;
mod scenario;
pub mod serve;
