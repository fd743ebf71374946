//! Lambda's pollers and the function between the queue and WeChat Pay.

use std::{cmp::Reverse, collections::BinaryHeap};

use fastrand::Rng;

use super::{
    gateway::{Gateway, Ms, Reception},
    queue::{BATCH, Message, Queue, VISIBILITY},
};

/// How many batches Lambda begins with, and how many more it has after each minute while messages are left.
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html>
const FIRST_BATCHES: u64 = 5;
const MORE_BATCHES_PER_MINUTE: u64 = 300;

/// How long a batch's orders may take: the function's timeout in template.yaml, less 3 s to publish events and 250 ms to
/// answer.
const BATCH_TIME: Ms = 28_000 - 3_000 - 250;

/// How long a request takes, give or take a fifth.
const REQUEST: Ms = 50;

/// What a batch takes beside its requests: it is received, the function invoked, the events published, the messages
/// deleted.
const BATCH_OVERHEAD: Ms = 15;

/// What an order takes when no connection is accepted: three attempts with two short pauses; give or take a fifth.
const REFUSED: Ms = 300;

/// What must be left of the batch's time behind a pause, and for a query.
const TIME_LEFT: Ms = 1_000;

/// A time at most so far ahead has come, since clocks differ.
const DUE_MARGIN: Ms = 5_000;

/// The longest that a record waits by its visibility timeout (SQS allows 12 hours from the receipt).
const MAX_WAIT: Ms = 43_000_000;

/// How long a process does not wait for a merchant.
const NOT_WAITED_FOR: Ms = 180_000;

/// What a process does about a merchant whose every request of a batch met the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// It waits for every order of every batch.
    WaitsForAll,
    /// As the function does: it attempts the merchant's orders without waiting, for a while after the last batch without an
    /// accepted request, and until one is accepted.
    SkipsLimited,
}

/// What is simulated beside the queue and WeChat Pay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// `MaximumConcurrency` of the event source mapping: the template's `QueueConcurrency`.
    pub(super) concurrency: usize,
    pub(super) policy: Policy,
    /// When the simulation ends, if messages are left then.
    pub(super) horizon: Ms,
    pub(super) seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Results {
    /// Requests that were accepted, and that met the limit.
    pub(super) accepted: u64,
    pub(super) limited: u64,
    /// Attempts at an order: records of batches that were due.
    pub(super) attempts: u64,
    /// How often the message that was received most often was received.
    pub(super) most_receives: u16,
    /// When the last message was deleted.
    pub(super) last_deleted: Ms,
    /// How long after its time each order was closed, by merchant.
    pub(super) delays: [Vec<Ms>; 2],
    pub(super) dead_letters: usize,
    pub(super) most_in_flight: usize,
}

impl Results {
    /// The delay that so many percent of a merchant's orders don't exceed.
    pub(super) fn delay(&self, merchant: usize, percent: usize) -> Ms {
        let mut sorted = self.delays.get(merchant).cloned().unwrap_or_default();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

/// One of the function's processes, and the batch that it works on.
#[derive(Clone, Debug, Default)]
struct Process {
    batch: Vec<Message>,
    began: Ms,
    /// How many of its orders are not through.
    left: usize,
    /// When the last of those that are was.
    end: Ms,
    orders: [Order; BATCH],
    /// Until when it does not wait for a merchant.
    not_waited_for: [Ms; 2],
    /// By merchant: whether a request of this batch was accepted, and whether one met the limit.
    was_accepted: [bool; 2],
    was_limited: [bool; 2],
}

#[derive(Clone, Copy, Debug, Default)]
struct Order {
    is_closed: bool,
    /// How often the call under way met the limit.
    rejections: u32,
    fate: Fate,
}

/// What becomes of a message when its batch is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Redelivered,
    Waits,
    Deleted,
}

/// What happens next: an order's next request, or the end of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Request { process: usize, order: usize },
    End { process: usize },
}

/// Runs it until no message is left.
pub(super) fn run<A: Iterator<Item = (Ms, Message)>>(queue: Queue<A>, gateway: Gateway, settings: Settings) -> Results {
    let processes = vec![Process::default(); settings.concurrency];
    let idle = (0..settings.concurrency).rev().collect();
    let (events, random) = (BinaryHeap::new(), Rng::with_seed(settings.seed));
    let results = Results::default();
    let mut run = Run { queue, gateway, settings, processes, idle, events, random, results, active: None };
    run.finish();
    Results { dead_letters: run.queue.dead_letters, most_in_flight: run.queue.most_in_flight, ..run.results }
}

struct Run<A: Iterator<Item = (Ms, Message)>> {
    queue: Queue<A>,
    gateway: Gateway,
    settings: Settings,
    processes: Vec<Process>,
    /// The processes without a batch.
    idle: Vec<usize>,
    /// At most one for each order under way, and so few.
    events: BinaryHeap<Reverse<(Ms, Event)>>,
    random: Rng,
    results: Results,
    /// When the queue became active.
    active: Option<Ms>,
}

impl<A: Iterator<Item = (Ms, Message)>> Run<A> {
    fn finish(&mut self) {
        let mut now = 0;
        while now < self.settings.horizon {
            self.queue.advance(now);
            while self.may_begin(now) {
                self.begin(now);
            }
            let event = self.events.peek().map(|&Reverse((at, _))| at);
            let change = if self.idle.is_empty() { None } else { self.queue.next_change() };
            // Lambda is about to have one batch more at once.
            let scaling = (!self.idle.is_empty() && self.queue.has_messages()).then_some(now + 100);
            let Some(next) = [event, change, scaling].into_iter().flatten().min() else { break };
            now = now.max(next);
            while let Some(&Reverse((at, event))) = self.events.peek()
                && at <= now
            {
                self.events.pop();
                match event {
                    Event::Request { process, order } => self.request(process, order, now),
                    Event::End { process } => self.end(process, now),
                }
            }
        }
    }

    /// Whether Lambda has room for one batch more.
    fn may_begin(&mut self, now: Ms) -> bool {
        if !self.queue.has_messages() || self.idle.is_empty() {
            return false;
        }
        let active = now - *self.active.get_or_insert(now);
        let at_once = FIRST_BATCHES + active * MORE_BATCHES_PER_MINUTE / 60_000;
        u64::try_from(self.settings.concurrency - self.idle.len()).is_ok_and(|busy| busy < at_once)
    }

    /// Hands a batch to a process. The template has no batching window: what is there is handed over.
    fn begin(&mut self, now: Ms) {
        let Some(id) = self.idle.pop() else { return };
        let Some(process) = self.processes.get_mut(id) else { return };
        process.batch.clear();
        self.queue.receive(&mut process.batch);
        (process.began, process.left, process.end) = (now, process.batch.len(), now);
        (process.was_accepted, process.was_limited) = ([false; 2], [false; 2]);
        process.orders = [Order::default(); BATCH];
        for (index, &message) in process.batch.iter().enumerate() {
            self.results.most_receives = self.results.most_receives.max(message.receives);
            if message.due > now + DUE_MARGIN {
                process.left -= 1;
                if let Some(order) = process.orders.get_mut(index) {
                    order.fate = Fate::Waits;
                }
            } else {
                self.results.attempts += 1;
                self.events.push(Reverse((now, Event::Request { process: id, order: index })));
            }
        }
        if process.left == 0 {
            self.events.push(Reverse((now + BATCH_OVERHEAD, Event::End { process: id })));
        }
    }

    /// An order's request comes to WeChat Pay.
    fn request(&mut self, id: usize, index: usize, now: Ms) {
        let Some(process) = self.processes.get_mut(id) else { return };
        let Some(&message) = process.batch.get(index) else { return };
        let merchant = usize::from(message.merchant);
        let waits = process.not_waited_for.get(merchant).is_none_or(|&until| until <= now);
        let Some(order) = process.orders.get_mut(index) else { return };
        let reception = self.gateway.receive(merchant, now);
        let took = about(&mut self.random, if reception == Reception::Refused { REFUSED } else { REQUEST }, 5);
        let replied = now + took;
        let until = process.began + BATCH_TIME;
        let mut next = None;
        match reception {
            Reception::Refused => {}
            Reception::Accepted => {
                self.results.accepted += 1;
                mark(&mut process.was_accepted, merchant);
                if order.is_closed {
                    order.fate = Fate::Deleted;
                    if let Some(delays) = self.results.delays.get_mut(merchant) {
                        delays.push(replied.saturating_sub(message.due));
                    }
                } else if replied + TIME_LEFT <= until {
                    // The query, which proves that it is closed.
                    (order.is_closed, order.rejections) = (true, 0);
                    next = Some(replied);
                }
            }
            Reception::Limited => {
                self.results.limited += 1;
                mark(&mut process.was_limited, merchant);
                let pause = about(&mut self.random, 1_000 << order.rejections.min(3), 2);
                order.rejections += 1;
                if waits && replied + pause + TIME_LEFT <= until {
                    next = Some(replied + pause);
                }
            }
        }
        if let Some(next) = next {
            self.events.push(Reverse((next, Event::Request { process: id, order: index })));
            return;
        }
        process.left -= 1;
        process.end = process.end.max(replied);
        if process.left == 0 {
            self.events.push(Reverse((process.end + BATCH_OVERHEAD, Event::End { process: id })));
        }
    }

    /// A batch is over: what is done is deleted, what has failed is visible again after the queue's timeout.
    fn end(&mut self, id: usize, now: Ms) {
        let Some(process) = self.processes.get_mut(id) else { return };
        for (message, order) in process.batch.iter().zip(&process.orders) {
            match order.fate {
                Fate::Deleted => {
                    self.queue.delete();
                    self.results.last_deleted = now;
                }
                Fate::Redelivered => self.queue.hide(*message, process.began + VISIBILITY),
                Fate::Waits => self.queue.hide(*message, message.due.min(process.began + MAX_WAIT)),
            }
        }
        let met = process.was_limited.iter().zip(&process.was_accepted);
        for ((&was_limited, &was_accepted), until) in met.zip(&mut process.not_waited_for) {
            if was_accepted {
                *until = now;
            } else if was_limited && self.settings.policy == Policy::SkipsLimited {
                *until = now + NOT_WAITED_FOR;
            }
        }
        self.idle.push(id);
    }
}

fn mark(merchants: &mut [bool; 2], merchant: usize) {
    if let Some(mark) = merchants.get_mut(merchant) {
        *mark = true;
    }
}

/// A time that varies evenly, by one part in so many.
fn about(random: &mut Rng, time: Ms, part: Ms) -> Ms {
    random.u64(time - time / part..=time + time / part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::gateway::Limit;

    const SETTINGS: Settings = Settings { concurrency: 2, policy: Policy::WaitsForAll, horizon: Ms::MAX, seed: 1 };

    /// Orders that become visible and are due at these times.
    fn queue(times: impl Iterator<Item = (Ms, Ms)>, attempts: u16) -> Queue<impl Iterator<Item = (Ms, Message)>> {
        Queue::new(times.map(|(visible, due)| (visible, Message { due, merchant: 0, receives: 0 })), attempts, false)
    }

    fn at_once(orders: usize) -> impl Iterator<Item = (Ms, Ms)> {
        std::iter::repeat_n((0, 0), orders)
    }

    fn gateway(limit: Limit) -> Gateway {
        Gateway::new([limit, Limit::None], 0..0)
    }

    #[test]
    fn where_nothing_goes_wrong_each_order_is_closed_by_two_requests_at_once() {
        let results = run(queue((0..100).map(|it| (it * 1000, it * 1000)), 5), gateway(Limit::None), SETTINGS);
        assert_eq!((results.accepted, results.limited, results.most_receives), (200, 0, 1));
        assert_eq!((results.delays[0].len(), results.dead_letters, results.attempts), (100, 0, 100));
        assert!((80..=120).contains(&results.delay(0, 50)), "{}", results.delay(0, 50));
    }

    #[test]
    fn more_batches_at_once_close_more_and_lambda_begins_with_five() {
        let took = |concurrency| {
            let settings = Settings { concurrency, ..SETTINGS };
            run(queue(at_once(10_000), 5), gateway(Limit::None), settings).last_deleted
        };
        let [two, four, five, twenty] = [2, 4, 5, 20].map(took);
        assert!((two * 9 / 20..two * 11 / 20).contains(&four), "{two} {four}");
        // Fifty orders in about 130 ms, and five batches more after each second.
        assert!(five > 22_000 && twenty < five / 2, "{five} {twenty}");
        let first =
            run(queue(at_once(10_000), 5), gateway(Limit::None), Settings { concurrency: 20, horizon: 10, ..SETTINGS });
        assert_eq!(first.attempts, 50);
    }

    #[test]
    fn the_same_seed_gives_the_same_results_and_another_seed_others() {
        let results = |seed| {
            let it = run(queue(at_once(500), 480), gateway(Limit::window(50)), Settings { seed, ..SETTINGS });
            (it.last_deleted, it.limited, it.delays)
        };
        assert_eq!(results(1), results(1));
        assert_ne!(results(1), results(2));
    }

    #[test]
    fn what_wechat_pay_takes_is_not_exceeded_and_no_order_is_lost() {
        for limit in [Limit::window(50), Limit::bucket(50)] {
            let results = run(queue(at_once(3_000), 480), gateway(limit), SETTINGS);
            assert_eq!((results.delays[0].len(), results.dead_letters), (3_000, 0));
            assert!(results.limited > 0 && results.last_deleted >= 119_000, "{}", results.last_deleted);
        }
    }

    #[test]
    fn an_order_at_the_limit_is_attempted_after_pauses_within_its_batch_and_comes_back_after_the_visibility_timeout() {
        let until = |horizon| run(queue(at_once(1), 480), gateway(Limit::All), Settings { horizon, ..SETTINGS });
        // Pauses of 1, 2, 4, 8 s and so on, each give or take half, in less than 25 s.
        assert!((4..=8).contains(&until(VISIBILITY).limited), "{}", until(VISIBILITY).limited);
        assert_eq!([VISIBILITY, VISIBILITY + 1].map(|horizon| until(horizon).attempts), [1, 2]);
        assert_eq!(run(queue(at_once(1), 3), gateway(Limit::All), SETTINGS).dead_letters, 1);
    }

    #[test]
    fn a_process_that_met_nothing_but_the_limit_does_not_wait_for_a_while() {
        // How many requests of one order are rejected in its first, second and third batch.
        let rejected = |policy, limit: fn() -> Limit| {
            let until = |batches: Ms| {
                let settings = Settings { concurrency: 1, policy, horizon: batches * VISIBILITY - 1, seed: 1 };
                run(queue(at_once(1), 480), gateway(limit()), settings).limited
            };
            [until(1), until(2) - until(1), until(3) - until(2)]
        };
        assert!(rejected(Policy::WaitsForAll, || Limit::All).into_iter().all(|it| it > 2));
        let [first, second, third] = rejected(Policy::SkipsLimited, || Limit::All);
        assert!(first > 2 && second == 1 && third == 1, "{first} {second} {third}");
    }

    #[test]
    fn a_merchant_alone_at_a_tight_limit_loses_nothing_by_not_being_waited_for() {
        let results = [Policy::WaitsForAll, Policy::SkipsLimited].map(|policy| {
            let settings = Settings { concurrency: 20, policy, ..SETTINGS };
            run(queue(at_once(2_000), 480), gateway(Limit::window(5)), settings)
        });
        let [waiting, skipping] = &results;
        assert!(results.iter().all(|it| it.delays[0].len() == 2_000));
        assert!(skipping.last_deleted < waiting.last_deleted * 12 / 10, "{waiting:?} {skipping:?}");
    }

    #[test]
    fn in_an_outage_nothing_is_closed_and_all_is_done_minutes_after_it() {
        let results = |attempts| {
            let gateway = Gateway::new([Limit::None, Limit::None], 0..1_200_000);
            run(queue((0..1_200).map(|it| (it * 1000, it * 1000)), attempts), gateway, SETTINGS)
        };
        let [few, many] = [5, 480].map(results);
        // Those that are received for the fifth time before its end.
        assert!((450..500).contains(&few.dead_letters), "{}", few.dead_letters);
        assert_eq!(few.dead_letters + few.delays[0].len(), 1_200);
        assert_eq!((many.dead_letters, many.delays[0].len()), (0, 1_200));
        assert!((1_200_000..1_400_000).contains(&many.last_deleted), "{}", many.last_deleted);
    }

    #[test]
    fn an_order_that_is_not_due_waits_in_flight_and_is_closed_at_its_time() {
        let results = run(queue((0..100).map(|it| (it, 900_000 + it)), 5), gateway(Limit::None), SETTINGS);
        assert_eq!((results.delays[0].len(), results.attempts, results.most_receives), (100, 100, 2));
        assert_eq!(results.most_in_flight, 100);
        assert!((900_000..902_000).contains(&results.last_deleted), "{}", results.last_deleted);
    }
}
