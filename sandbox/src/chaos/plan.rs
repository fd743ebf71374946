//! What a chaos run will do, decided by its seed alone: who is in which state, what goes wrong with whom, and when the
//! weather changes.

use std::time::Duration;

use fastrand::Rng;

use crate::{
    mock::gateway::{Fault, TradeState},
    mock::secrets::Failure,
};

/// One order of the run.
#[derive(Clone, Debug)]
pub struct PlannedOrder {
    /// Its number.
    pub out_trade_no: String,
    /// Its state at the gateway when the run begins; `None` for one that was never made.
    pub state: Option<TradeState>,
    /// What goes wrong with the calls about it, one after the other.
    pub faults: Vec<Fault>,
    /// Whether every reply about it is forged, to the end.
    pub is_forged: bool,
}

/// One thing for a function to do.
#[derive(Clone, Debug)]
pub enum Job {
    /// A direct call about the order at this place.
    Direct(usize),
    /// A batch of messages about the orders at these places.
    Batch(Vec<usize>),
}

impl Job {
    /// How many messages SQS hands over with it.
    #[must_use]
    pub fn messages(&self) -> usize {
        match self {
            Self::Direct(_) => 0,
            Self::Batch(places) => places.len(),
        }
    }
}

/// A change of the weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// An endpoint goes down.
    Down(usize),
    /// An endpoint comes up.
    Up(usize),
    /// The key is rotated: at the gateway first, in the secret a moment later.
    Rotate,
    /// Secrets Manager fails.
    NoSecrets(Failure),
    /// Secrets Manager is slow.
    SlowSecrets(Duration),
    /// Secrets Manager is well again.
    Secrets,
}

/// All of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The orders.
    pub orders: Vec<PlannedOrder>,
    /// The jobs, in order.
    pub jobs: Vec<Job>,
    /// Which change comes before which job.
    pub weather: Vec<(usize, Weather)>,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(orders: usize, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let orders: Vec<PlannedOrder> = (0..orders).map(|number| order(number, &mut random)).collect();
        let mut jobs = Vec::new();
        let mut next = 0;
        while next < orders.len() {
            if random.u8(..10) < 3 {
                jobs.push(Job::Direct(next));
                next += 1;
            } else {
                let end = orders.len().min(next + random.usize(1..=10));
                jobs.push(Job::Batch((next..end).collect()));
                next = end;
            }
        }
        let weather = weather(jobs.len(), &mut random);
        Self { orders, jobs, weather }
    }
}

fn order(number: usize, random: &mut Rng) -> PlannedOrder {
    let state = match random.u8(..100) {
        0..55 => Some(TradeState::NotPay),
        55..70 => Some(TradeState::Success),
        70..80 => Some(TradeState::Closed),
        80..85 => Some(TradeState::UserPaying),
        _ => None,
    };
    let is_forged = random.u8(..100) < 4;
    let faults = match random.u8(..10) {
        // Nothing but forgeries come back about a forged order: were one reply true, it could rightly be believed.
        _ if is_forged => 0,
        0..7 => 0,
        7..9 => 1,
        _ => random.usize(2..=4),
    };
    let faults = (0..faults).map(|_| fault(random)).collect();
    PlannedOrder { out_trade_no: format!("CHAOS_{number:06}"), state, faults, is_forged }
}

fn fault(random: &mut Rng) -> Fault {
    match random.u8(..16) {
        0 => Fault::Delay(Duration::from_millis(random.u64(1..80))),
        1 => Fault::Hang,
        2 | 3 => Fault::Reset,
        4 | 5 => Fault::ResetAfter,
        6 => Fault::CloseAfter,
        7 => Fault::Status(*random.choice(&[500, 502, 503, 504]).unwrap_or(&500)),
        8 => Fault::Body(b"<html><body>Bad Gateway</body></html>".to_vec()),
        9 => Fault::Truncate,
        10 | 11 => Fault::Forge,
        12 => Fault::Error("SYSTEMERROR"),
        13 => Fault::Tamper(vec![("result_code", Some("SUCCESS".to_owned())), ("err_code", None)]),
        14 => Fault::Body(
            "<xml><return_code>FAIL</return_code><return_msg>no</return_msg><result_code>SUCCESS</result_code></xml>"
                .into(),
        ),
        _ => Fault::Flood(200_000),
    }
}

/// Spells of bad weather, each over before the next begins, and good weather at the end.
fn weather(jobs: usize, random: &mut Rng) -> Vec<(usize, Weather)> {
    let mut changes = Vec::new();
    let mut at = random.usize(3..10);
    while at + 20 < jobs {
        let length = random.usize(3..15);
        let (begin, end) = match random.u8(..6) {
            0 | 1 => (Weather::Down(0), Weather::Up(0)),
            2 => (Weather::Down(1), Weather::Up(1)),
            3 => (Weather::Rotate, Weather::Secrets),
            4 => (
                Weather::NoSecrets(
                    *random.choice(&[Failure::InternalError, Failure::Reset]).unwrap_or(&Failure::Reset),
                ),
                Weather::Secrets,
            ),
            _ => (Weather::SlowSecrets(Duration::from_millis(random.u64(10..200))), Weather::Secrets),
        };
        changes.extend([(at, begin), (at + length, end)]);
        at += length + random.usize(3..15);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_plan_and_another_seed_another() {
        let plan = |seed| format!("{:?}", Plan::new(500, seed));
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn every_order_is_in_one_job_and_the_weather_ends_well() {
        let plan = Plan::new(1000, 7);
        let in_jobs = plan.jobs.iter().flat_map(|job| match job {
            Job::Direct(place) => vec![*place],
            Job::Batch(places) => places.clone(),
        });
        assert_eq!(in_jobs.collect::<Vec<_>>(), (0..1000).collect::<Vec<_>>());
        assert!(matches!(plan.weather.last(), Some((_, Weather::Up(_) | Weather::Secrets))));
    }
}
