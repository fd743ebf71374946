//! What a chaos run will do, decided by its seed alone: which order is in which state, what goes wrong with it, and when
//! an incident begins and ends.

use std::{iter, ops::Range, time::Duration};

use fastrand::Rng;

use super::incidents::Incident;
use crate::mock::{
    gateway::{Call, Fault, Order, Times, TradeState, V3Fault},
    identity::{Api, Flaw, Identity, MchType, Merchant},
};

/// The sub-merchant that a partner's orders are of.
const SUB_MCH_ID: &str = "1900000109";

/// All of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The merchants, those in whose secrets something is wrong last.
    pub(super) merchants: Vec<Merchant>,
    pub(super) orders: Vec<PlannedOrder>,
    pub(super) jobs: Vec<Job>,
    /// The incidents, each with the job before which it begins and the one before which it is over.
    pub(super) incidents: Vec<(Range<usize>, Incident)>,
}

/// One order of the run.
#[derive(Clone, Debug, Default)]
pub(super) struct PlannedOrder {
    pub(super) out_trade_no: String,
    /// Its merchant, as it is when the run begins.
    pub(super) merchant: Merchant,
    pub(super) sub_mch_id: Option<String>,
    /// The order as the gateway has it when the run begins; `None` for one that was never made.
    pub(super) order: Option<Order>,
    /// What goes wrong with the calls about it, one after the other.
    pub(super) faults: Vec<(Call, Fault)>,
    /// `confirm` of its events.
    pub(super) confirm: Option<bool>,
    /// When the payer pays, if the order can be paid then: so long after an invocation about it began.
    pub(super) is_paid_after: Option<Duration>,
    /// How far ahead `close_at` of its message is.
    pub(super) due_in: Option<Duration>,
    /// How many messages it has: two, if its sender retried, or SQS itself did.
    pub(super) messages: usize,
    /// Whether its message is invalid.
    pub(super) is_invalid: bool,
}

/// One thing for a function to do: a direct call about an order, or messages about several, which are sent to the queue;
/// then a batch is received, of these or others.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// The indexes of its orders.
    pub(super) orders: Range<usize>,
    pub(super) is_direct: bool,
    /// The function's timeout for it.
    pub(super) timeout: Duration,
}

impl PlannedOrder {
    /// Whether nothing is planned to go wrong with it, so that its state decides the outcome.
    pub(super) fn is_plain(&self) -> bool {
        let behaves = self.order.as_ref().is_some_and(|order| {
            [order.closes_not_sticking, order.queries_lagging, order.closes_limited] == [Times::NEVER; 3]
        });
        let is_well_off = self.merchant.flaw.is_none() && self.faults.is_empty() && !self.is_invalid;
        behaves && is_well_off && self.is_paid_after.is_none()
    }

    fn new(index: usize, is_direct: bool, merchant: Merchant, random: &mut Rng) -> Self {
        let mut one_in = |n| random.u32(..n) == 0;
        let [is_late, is_sent_twice, is_invalid, is_paid, names_itself] = [20, 20, 30, 10, 2].map(&mut one_in);
        let faults = random.choice([0, 0, 0, 0, 0, 1, 3]).unwrap_or(0);
        let faults = iter::repeat_with(|| fault(random)).take(faults).collect();
        Self {
            out_trade_no: format!("C{index:06}"),
            sub_mch_id: match merchant.identity.mch_type {
                MchType::Partner => Some(SUB_MCH_ID.to_owned()),
                // CloudPay's own users pass their own number.
                MchType::Merchant => names_itself.then(|| merchant.identity.mch_id.clone()),
            },
            order: order(&merchant, random),
            faults,
            merchant,
            confirm: random.choice([None, Some(true), Some(false)]).flatten(),
            is_paid_after: is_paid.then(|| Duration::from_millis(random.u64(1..30))),
            // A time at most five seconds ahead has come.
            due_in: (is_late && !is_direct).then(|| Duration::from_millis(random.u64(5_500..7_000))),
            messages: usize::from(!is_direct) + usize::from(!is_direct && is_sent_twice),
            is_invalid: is_invalid && !is_direct,
        }
    }
}

impl Plan {
    /// The plan of a seed.
    pub(super) fn new(orders: usize, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let merchants = merchants(&mut random);
        let (right, flawed): (Vec<_>, Vec<_>) = merchants.iter().cloned().partition(|merchant| merchant.flaw.is_none());
        let mut plan = Self { merchants, orders: Vec::new(), jobs: Vec::new(), incidents: Vec::new() };
        while plan.orders.len() < orders {
            let is_direct = random.u8(..10) < 3;
            let (begin, most) = (plan.orders.len(), if is_direct { 1 } else { 10 });
            for index in begin..orders.min(begin + random.usize(1..=most)) {
                let merchants = if random.u8(..8) > 0 { &right } else { &flawed };
                let merchant = random.choice(merchants).cloned();
                plan.orders.extend(merchant.map(|it| PlannedOrder::new(index, is_direct, it, &mut random)));
            }
            // Room for a second round of close and query, an ordinary timeout, and one in which not everything can be done.
            let timeout =
                Duration::from_millis(random.choice([9_000, 9_000, 4_000, 4_000, 4_000, 900]).unwrap_or(9_000));
            plan.jobs.push(Job { orders: begin..plan.orders.len(), is_direct, timeout });
        }
        // Each is over before the next begins, and there is none at the end.
        let mut at = random.usize(2..6);
        while at + 10 < plan.jobs.len() {
            let incident = Incident::random(right.len(), &mut random);
            let length = random.usize(2..7);
            plan.incidents.push((at..at + length, incident));
            at += length + random.usize(2..8);
        }
        plan
    }
}

/// Merchants of both kinds and interfaces, then one whose key is wrong and one whose secret is gone.
fn merchants(random: &mut Rng) -> Vec<Merchant> {
    let kinds = [MchType::Partner, MchType::Merchant].map(|kind| [(kind, Api::V2), (kind, Api::V3)]).concat();
    let mut merchants: Vec<_> = kinds.iter().map(|&kind| (kind, None)).collect();
    for flaw in [Flaw::WrongKey, Flaw::NoSecret] {
        merchants.extend(random.choice(&kinds).map(|&kind| (kind, Some(flaw))));
    }
    merchants
        .into_iter()
        .enumerate()
        .map(|(place, ((mch_type, api), flaw))| {
            let mch_id = format!("19000002{place:02}");
            // Another key than `numbered` makes, which is part of the serials, and they may show in a log.
            let identity = Identity::numbered(&mch_id, place).with_key(&format!("{mch_id:k>32}"));
            let sign_type = Some(if random.bool() { "HMAC-SHA256" } else { "MD5" }.to_owned());
            Merchant { identity: Identity { mch_type, api, sign_type, ..identity }, flaw }
        })
        .collect()
}

fn order(merchant: &Merchant, random: &mut Rng) -> Option<Order> {
    use TradeState::{Accept, Closed, NotPay, PayError, Refund, Revoked, Success, UserPaying};
    let order = match random.u8(..100) {
        0..45 => NotPay.into(),
        45..51 => Order { closes_not_sticking: Times::Next(1), ..NotPay.into() },
        51..54 => Order { closes_not_sticking: Times::Always, ..NotPay.into() },
        54..61 => Success.into(),
        61..65 => Order { queries_lagging: Times::Next(random.u32(1..=3)), ..Success.into() },
        65..71 => Closed.into(),
        71..76 => UserPaying.into(),
        76..82 => random.choice([Refund, Revoked, PayError, Accept])?.into(),
        82..88 => Order {
            closes_limited: Times::Next(random.u32(1..=3)),
            state_after_limit: random.choice([None, Some(Success), Some(Closed)])?,
            ..NotPay.into()
        },
        _ => return None,
    };
    Some(Order { mch_id: Some(merchant.identity.mch_id.clone()), ..order })
}

fn fault(random: &mut Rng) -> (Call, Fault) {
    // `return_msg` so that no genuine reply stays as it was.
    let tampered = [("return_msg", Some("tampered with".to_owned())), ("result_code", Some("SUCCESS".to_owned()))];
    let faults = [
        Fault::Delay(Duration::from_millis(random.u64(1..80))),
        Fault::Hang,
        Fault::HangAfter,
        Fault::Reset,
        Fault::ResetIfReused,
        Fault::ResetAfter,
        Fault::CloseAfter,
        Fault::Status(random.u16(500..505)),
        Fault::Truncate,
        Fault::Forge,
        Fault::Tamper(tampered.into_iter().chain([("err_code", None)]).collect()),
        Fault::RateLimit,
        Fault::OtherCall,
        Fault::Replay,
        Fault::Flood(200_000),
        Fault::V3(V3Fault::Clock(-400)),
        Fault::V3(V3Fault::Certificate),
        Fault::V3(V3Fault::SignTest),
    ];
    let call = if random.bool() { Call::CloseOrder } else { Call::OrderQuery };
    (call, random.choice(faults).unwrap_or(Fault::Hang))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_plan_with_every_order_in_one_job_and_an_end_of_every_incident() {
        let plan = |seed| Plan::new(1001, seed);
        assert_eq!(format!("{:?}", plan(1)), format!("{:?}", plan(1)));
        assert_ne!(format!("{:?}", plan(1)), format!("{:?}", plan(2)));
        let Plan { orders, jobs, incidents, .. } = plan(7);
        assert_eq!(orders.len(), 1001);
        assert!(jobs.iter().flat_map(|job| job.orders.clone()).eq(0..1001));
        let ends = incidents.iter().flat_map(|(at, _)| [at.start, at.end]);
        assert!(ends.clone().count() > 20 && ends.chain([jobs.len()]).is_sorted_by(|a, b| a < b), "{incidents:?}");
    }
}
