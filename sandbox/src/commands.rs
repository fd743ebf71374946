//! The commands, one module each, and what they share.

pub mod bench;
pub mod chaos;
pub mod invoke;
mod merchant;
mod report;
mod scenario;
pub mod serve;
pub mod simulate;
