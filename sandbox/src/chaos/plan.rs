//! What a chaos run will do, decided by its seed alone: which order is in which state, what goes wrong with it, and when
//! an incident begins and ends.

use std::time::Duration;

use fastrand::Rng;

use crate::mock::{
    event_bus,
    gateway::{Call, Fault, Order, Times, TradeState, V3Fault},
    identity::{Api, Flaw, Identity, MchType, Merchant},
    queue, secrets,
};

/// All of a run: one deployment for each kind of merchant, and one of several merchants that has half of the orders.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The deployments, one after the other.
    pub deployments: Vec<Deployment>,
}

/// What is planned for one deployment.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its merchants, those in whose secrets something is wrong last.
    pub merchants: Vec<Merchant>,
    /// The orders.
    pub orders: Vec<PlannedOrder>,
    /// The jobs, in order.
    pub jobs: Vec<Job>,
    /// Which incident comes before which job.
    pub incidents: Vec<(usize, Incident)>,
}

/// One order of the run.
#[derive(Clone, Debug)]
pub struct PlannedOrder {
    /// Its number.
    pub out_trade_no: String,
    /// Its merchant, as it is when the run begins.
    pub merchant: Merchant,
    /// The order as the gateway has it when the run begins; `None` for one that was never made.
    pub order: Option<Order>,
    /// What goes wrong with the calls about it, one after the other; with one call alone, if that is named.
    pub faults: Vec<(Option<Call>, Fault)>,
    /// `confirm` of its events.
    pub confirm: Option<bool>,
    /// When the payer pays, if the order can be paid then: so long after an invocation about it began.
    pub is_paid_after: Option<Duration>,
    /// How far ahead `close_at` of its message is.
    pub due_in: Option<Duration>,
    /// Whether it has two messages, as a sender that retries makes them, and SQS itself may.
    pub is_sent_twice: bool,
    /// Whether its message is invalid.
    pub is_invalid: bool,
}

impl PlannedOrder {
    /// Whether nothing is planned to go wrong with it, so that its state decides the outcome.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let behaves = self.order.as_ref().is_some_and(|order| {
            let exceptions = [order.closes_not_sticking, order.queries_lagging, order.closes_limited];
            exceptions.iter().all(|&times| times == Times::NEVER)
        });
        behaves
            && self.merchant.flaw.is_none()
            && self.faults.is_empty()
            && self.is_paid_after.is_none()
            && !self.is_invalid
    }
}

/// One thing for a function to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it is about.
    pub work: Work,
    /// The function's timeout for it.
    pub timeout: Duration,
}

/// What a job is about.
#[derive(Clone, Debug)]
pub enum Work {
    /// A direct call about the order at this index.
    Direct(usize),
    /// Messages about the orders at these indexes, which are sent to the queue; then a batch is received, of these or others.
    Messages(Vec<usize>),
}

impl Work {
    /// The indexes of its orders.
    #[must_use]
    pub fn orders(&self) -> &[usize] {
        match self {
            Self::Direct(order) => std::slice::from_ref(order),
            Self::Messages(orders) => orders,
        }
    }
}

/// A part of what is around the function, in which there can be an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// WeChat Pay.
    Gateway,
    /// Secrets Manager, or the key in it.
    Secrets,
    /// EventBridge.
    Events,
    /// SQS, as the function calls it.
    Queue,
}

/// The beginning or the end of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// An endpoint of the gateway goes down.
    EndpointDown(usize),
    /// Every endpoint of the gateway goes down.
    GatewayDown,
    /// WeChat Pay takes so many requests a second and no more.
    RateLimited(u32),
    /// The keys of the merchant at this index are rotated: at the gateway first, in the secret a moment later.
    KeyRotated(usize),
    /// Secrets Manager fails.
    SecretsFail(secrets::Failure),
    /// Secrets Manager is slow.
    SecretsSlow(Duration),
    /// EventBridge fails.
    EventsFail(event_bus::Failure),
    /// SQS fails.
    QueueFails(queue::Failure),
    /// All is well again.
    Over(Part),
}

impl Incident {
    /// Which part it is in.
    #[must_use]
    pub fn part(self) -> Part {
        match self {
            Self::EndpointDown(_) | Self::GatewayDown | Self::RateLimited(_) => Part::Gateway,
            Self::KeyRotated(_) | Self::SecretsFail(_) | Self::SecretsSlow(_) => Part::Secrets,
            Self::EventsFail(_) => Part::Events,
            Self::QueueFails(_) => Part::Queue,
            Self::Over(part) => part,
        }
    }
}

/// Timeouts that the functions have: one that leaves room for a second round of close and query, an ordinary one, and one
/// in which not everything can be done.
pub(super) const TIMEOUTS: [Duration; 3] = [Duration::from_secs(9), Duration::from_secs(4), Duration::from_millis(900)];

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(orders: usize, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let is_hmac = random.bool();
        let only = |is_hmac, identity| vec![Merchant { identity: signing(is_hmac, identity), flaw: None }];
        let deployments = [
            ("P", only(is_hmac, Identity::default()), orders.div_ceil(2).div_ceil(2)),
            ("M", only(!is_hmac, Identity::merchant()), orders.div_ceil(2) / 2),
            ("S", several(&mut random), orders / 2),
        ];
        let deployments = deployments.into_iter().filter(|&(.., orders)| orders > 0);
        let deployments =
            deployments.map(|(prefix, merchants, orders)| Deployment::new(prefix, merchants, orders, &mut random));
        Self { deployments: deployments.collect() }
    }

    /// How many orders there are.
    #[must_use]
    pub fn orders(&self) -> usize {
        self.deployments.iter().map(|deployment| deployment.orders.len()).sum()
    }
}

/// The merchant, with this algorithm of API v2's signatures.
fn signing(is_hmac: bool, identity: Identity) -> Identity {
    Identity { sign_type: Some(if is_hmac { "HMAC-SHA256" } else { "MD5" }.to_owned()), ..identity }
}

/// Merchants of both kinds and interfaces, then one whose key is wrong and one whose secret is gone.
fn several(random: &mut Rng) -> Vec<Merchant> {
    let kinds = [MchType::Partner, MchType::Merchant].map(|kind| [(kind, Api::V2), (kind, Api::V3)]).concat();
    let mut merchants: Vec<_> = kinds.iter().map(|&kind| (kind, None)).collect();
    for flaw in [Flaw::WrongKey, Flaw::NoSecret] {
        merchants.extend(random.choice(&kinds).map(|&kind| (kind, Some(flaw))));
    }
    let numbered = merchants.into_iter().enumerate().map(|(place, ((mch_type, api), flaw))| {
        let mch_id = format!("19000002{place:02}");
        // Another key than `numbered` makes, which is part of the serials, and they may show in a log.
        let identity = Identity::numbered(&mch_id, place).with_key(&format!("{mch_id:k>32}"));
        Merchant { identity: Identity { mch_type, api, ..signing(random.bool(), identity) }, flaw }
    });
    numbered.collect()
}

impl Deployment {
    fn new(prefix: &str, merchants: Vec<Merchant>, orders: usize, random: &mut Rng) -> Self {
        let (right, flawed): (Vec<_>, Vec<_>) = merchants.iter().partition(|merchant| merchant.flaw.is_none());
        let numbers = (0..orders).map(|number| format!("{prefix}{number:06}"));
        let orders = numbers.filter_map(|out_trade_no| {
            let merchants = if flawed.is_empty() || random.u8(..8) > 0 { &right } else { &flawed };
            Some(order(out_trade_no, (*random.choice(merchants)?).clone(), random))
        });
        let orders: Vec<PlannedOrder> = orders.collect();
        let mut jobs = Vec::new();
        let mut next = 0;
        while next < orders.len() {
            let is_direct = random.u8(..10) < 3;
            let end = if is_direct { next + 1 } else { orders.len().min(next + random.usize(1..=10)) };
            let work = if is_direct { Work::Direct(next) } else { Work::Messages((next..end).collect()) };
            let timeout = match random.u8(..10) {
                0..3 => TIMEOUTS[0],
                3..9 => TIMEOUTS[1],
                _ => TIMEOUTS[2],
            };
            jobs.push(Job { work, timeout });
            next = end;
        }
        let incidents = incidents(jobs.len(), right.len(), random);
        Self { merchants, orders, jobs, incidents }
    }
}

fn order(out_trade_no: String, merchant: Merchant, random: &mut Rng) -> PlannedOrder {
    let order: Option<Order> = match random.u8(..100) {
        0..45 => Some(TradeState::NotPay.into()),
        45..51 => Some(Order { closes_not_sticking: Times::Next(1), ..TradeState::NotPay.into() }),
        51..54 => Some(Order { closes_not_sticking: Times::Always, ..TradeState::NotPay.into() }),
        54..61 => Some(TradeState::Success.into()),
        61..65 => Some(Order { queries_lagging: Times::Next(random.u32(1..=3)), ..TradeState::Success.into() }),
        65..71 => Some(TradeState::Closed.into()),
        71..76 => Some(TradeState::UserPaying.into()),
        76..78 => Some(TradeState::Refund.into()),
        78..80 => Some(TradeState::Revoked.into()),
        80..82 => Some(if random.bool() { TradeState::PayError } else { TradeState::Accept }.into()),
        82..88 => {
            let after = [None, Some(TradeState::Success), Some(TradeState::Closed)];
            Some(Order {
                closes_limited: Times::Next(random.u32(1..=3)),
                state_after_limit: random.choice(after).flatten(),
                ..TradeState::NotPay.into()
            })
        }
        _ => None,
    };
    let mch_id = Some(merchant.identity.mch_id.clone());
    let order = order.map(|order| Order { mch_id, ..order });
    let confirm = match random.u8(..3) {
        0 => Some(true),
        1 => Some(false),
        _ => None,
    };
    let faults = match random.u8(..10) {
        0..7 => 0,
        7..9 => 1,
        _ => random.usize(2..=4),
    };
    let faults = (0..faults).map(|_| fault(random)).collect();
    let is_paid_after = (random.u8(..10) == 0).then(|| Duration::from_millis(random.u64(1..30)));
    // A time at most five seconds ahead has come.
    let due_in = (random.u8(..20) == 0).then(|| Duration::from_millis(random.u64(5_500..7_000)));
    let [is_sent_twice, is_invalid] = [random.u8(..20) == 0, random.u8(..30) == 0];
    PlannedOrder { out_trade_no, merchant, order, faults, confirm, is_paid_after, due_in, is_sent_twice, is_invalid }
}

fn fault(random: &mut Rng) -> (Option<Call>, Fault) {
    let call = match random.u8(..4) {
        0 => Some(Call::CloseOrder),
        1 => Some(Call::OrderQuery),
        _ => None,
    };
    let fault = match random.u8(..30) {
        0 => Fault::Delay(Duration::from_millis(random.u64(1..80))),
        1 => Fault::Hang,
        2 => Fault::HangAfter,
        3 => Fault::Reset,
        4 => Fault::ResetIfReused,
        5 | 6 => Fault::ResetAfter,
        7 => Fault::CloseAfter,
        8 => Fault::Status(random.choice([500, 502, 503, 504]).unwrap_or(500)),
        9 => Fault::Body(b"<html><body>Bad Gateway</body></html>".to_vec()),
        10 => Fault::Truncate,
        11 | 12 => Fault::Forge,
        // `return_msg` so that no genuine reply stays as it was.
        13 | 14 => Fault::Tamper(vec![
            ("return_msg", Some("tampered with".to_owned())),
            ("result_code", Some("SUCCESS".to_owned())),
            ("err_code", None),
        ]),
        15 => Fault::Body(
            "<xml><return_code>FAIL</return_code><return_msg>no</return_msg><result_code>SUCCESS</result_code></xml>"
                .into(),
        ),
        16 => Fault::UnsignedFail("系统繁忙,请稍后再试"),
        17 => Fault::RateLimit,
        18 => Fault::Error("SYSTEMERROR"),
        19 => Fault::OtherCall,
        20 => Fault::UnifiedOrder,
        21 | 22 => Fault::Replay,
        23 => Fault::Flood(200_000),
        24 => Fault::V3(V3Fault::Signed(202, "")),
        25 => Fault::V3(V3Fault::Clock(-400)),
        26 => Fault::V3(V3Fault::Certificate),
        27 => Fault::V3(V3Fault::SignTest),
        28 => Fault::V3(V3Fault::Header("wechatpay-signature", None)),
        _ => Fault::V3(V3Fault::HeaderTwice("wechatpay-serial")),
    };
    (call, fault)
}

/// Incidents, each over before the next begins, and none at the end; the keys of so many merchants can be rotated.
fn incidents(jobs: usize, merchants: usize, random: &mut Rng) -> Vec<(usize, Incident)> {
    use event_bus::Failure as Bus;
    use queue::Failure as Sqs;
    use secrets::Failure as Secret;

    let mut changes = Vec::new();
    let mut at = random.usize(2..6);
    while at + 10 < jobs {
        let mut length = random.usize(3..9);
        let begin = match random.u8(..12) {
            0 => Incident::EndpointDown(0),
            1 => Incident::EndpointDown(1),
            2 => {
                length = random.usize(3..6);
                Incident::GatewayDown
            }
            3 => Incident::KeyRotated(random.usize(..merchants)),
            4 => Incident::SecretsFail(random.choice([Secret::InternalError, Secret::Reset]).unwrap_or(Secret::Reset)),
            5 => Incident::SecretsSlow(Duration::from_millis(random.u64(10..200))),
            6 => {
                // Whoever publishes then waits for the deadline.
                length = random.usize(1..4);
                Incident::EventsFail(Bus::Hang)
            }
            7 => Incident::EventsFail(Bus::EveryNth(random.usize(1..5))),
            8 => Incident::RateLimited(random.u32(1..40)),
            9 => {
                let failures =
                    [Sqs::InternalError, Sqs::AccessDenied, Sqs::Reset, Sqs::ResetAfter, Sqs::EveryNth(2), Sqs::Hang];
                Incident::QueueFails(random.choice(failures).unwrap_or(Sqs::Reset))
            }
            _ => {
                let failures = [
                    Bus::InternalError,
                    Bus::AccessDenied,
                    Bus::Throttled,
                    Bus::Unavailable,
                    Bus::Reset,
                    Bus::ResetAfter,
                ];
                Incident::EventsFail(random.choice(failures).unwrap_or(Bus::Reset))
            }
        };
        changes.extend([(at, begin), (at + length, Incident::Over(begin.part()))]);
        at += length + random.usize(2..8);
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
    fn every_order_is_in_one_job_and_every_incident_ends() {
        let plan = Plan::new(1001, 7);
        assert_eq!(plan.orders(), 1001);
        for (deployment, orders) in plan.deployments.iter().zip([251, 250, 500]) {
            let in_jobs: Vec<usize> = deployment.jobs.iter().flat_map(|job| job.work.orders()).copied().collect();
            assert_eq!(in_jobs, (0..orders).collect::<Vec<_>>());
            assert!(!deployment.incidents.is_empty());
            for pair in deployment.incidents.chunks(2) {
                assert_eq!(pair[1].1, Incident::Over(pair[0].1.part()), "{pair:?}");
                assert!(pair[0].0 < pair[1].0 && pair[1].0 < deployment.jobs.len(), "{pair:?}");
            }
        }
    }

    #[test]
    fn one_order_is_one_deployments() {
        assert_eq!(Plan::new(1, 1).deployments.len(), 1);
    }
}
