//! A simulation of queue, pollers and rate limit, event by event in virtual time: what a flash sale, an outage and a
//! merchant whose every request meets the limit come to.
//!
//! AWS's rules are constants with their sources in `queue` and `run`. The function is what it does to the queue: ten
//! orders of a batch at once, a close and a query of 50 ms each that proves it; at each rejection by the rate limit a pause
//! of 1, 2, 4, then 8 s (each ± half) within the batch's time; what is not confirmed by then is redelivered.
//!
//! Not simulated: receives that return fewer messages than there are, cold starts, the shop's own requests, and pollers
//! that become fewer when little is left.

mod gateway;
mod queue;
mod run;
mod tables;

pub use tables::report;
