//! Lambda's pollers and the function between the queue and WeChat Pay.

use std::{cmp::Reverse, collections::BinaryHeap};

use fastrand::Rng;

use super::{
    gateway::{Gateway, Ms, Reception},
    queue::{Message, Queue, VISIBILITY},
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

/// How long a process does not wait for a merchant.
const NOT_WAITED_FOR: Ms = 180_000;

/// What is simulated beside WeChat Pay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// `MaximumConcurrency` of the event source mapping: the template's `QueueConcurrency`.
    pub(super) concurrency: usize,
    /// How often a message is received before it goes to the dead-letter queue: the template's `QueueAttempts`.
    pub(super) attempts: u16,
    pub(super) is_fair: bool,
    /// Whether a process, as the function does, attempts a merchant's orders without waiting after a batch without an
    /// accepted request of it, for a while and until one is accepted; else it waits for every order of every batch.
    pub(super) skips_limited: bool,
    /// When the simulation ends, if messages are left then.
    pub(super) horizon: Ms,
    pub(super) seed: u64,
}

impl Settings {
    /// The template's defaults.
    pub(super) const DEFAULT: Self =
        Self { concurrency: 3, attempts: 480, is_fair: false, skips_limited: true, horizon: Ms::MAX, seed: 1 };
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
    /// How long after its time each order was closed, with its merchant.
    pub(super) delays: Vec<(u8, Ms)>,
    pub(super) dead_letters: usize,
    pub(super) most_in_flight: usize,
}

impl Results {
    /// The delay that so many percent of a merchant's orders don't exceed.
    pub(super) fn delay(&self, merchant: u8, percent: usize) -> Ms {
        let mut sorted: Vec<Ms> = self.delays.iter().filter(|it| it.0 == merchant).map(|it| it.1).collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

/// One of the function's processes, and the batch that it works on.
#[derive(Clone, Debug, Default)]
struct Process {
    orders: Vec<Order>,
    began: Ms,
    /// How many of its orders are not through.
    left: usize,
    /// When the last of those that are was.
    end: Ms,
    merchants: [Met; 2],
}

/// What a process met of a merchant.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    /// Whether a request of this batch was accepted, and whether one met the limit.
    was_accepted: bool,
    was_limited: bool,
    /// Until when it does not wait for it.
    not_waited_for: Ms,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    message: Message,
    is_closed: bool,
    /// How often the call under way met the limit.
    rejections: u32,
    /// When its message is visible again after the batch; `None` if it is deleted.
    back: Option<Ms>,
}

/// What happens next: an order's next request, or the end of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Request { process: usize, order: usize },
    End { process: usize },
}

/// Runs it until no message is left; each becomes visible when `arrivals` says.
pub(super) fn run(arrivals: impl Iterator<Item = (Ms, Message)>, gateway: Gateway, settings: Settings) -> Results {
    let queue = Queue::new(arrivals, settings.attempts, settings.is_fair);
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
        (process.began, process.left, process.end) = (now, 0, now);
        process.merchants = process.merchants.map(|met| Met { was_accepted: false, was_limited: false, ..met });
        process.orders.clear();
        for (index, message) in self.queue.receive().into_iter().enumerate() {
            self.results.most_receives = self.results.most_receives.max(message.receives);
            let is_due = message.due <= now + DUE_MARGIN;
            if is_due {
                process.left += 1;
                self.results.attempts += 1;
                self.events.push(Reverse((now, Event::Request { process: id, order: index })));
            }
            let back = if is_due { now + VISIBILITY } else { message.due };
            process.orders.push(Order { message, is_closed: false, rejections: 0, back: Some(back) });
        }
        if process.left == 0 {
            self.events.push(Reverse((now + BATCH_OVERHEAD, Event::End { process: id })));
        }
    }

    /// An order's request comes to WeChat Pay.
    fn request(&mut self, id: usize, index: usize, now: Ms) {
        let Some(process) = self.processes.get_mut(id) else { return };
        let Some(order) = process.orders.get_mut(index) else { return };
        let merchant = usize::from(order.message.merchant);
        let Some(met) = process.merchants.get_mut(merchant) else { return };
        let reception = self.gateway.receive(merchant, now);
        let replied = now + about(&mut self.random, if reception == Reception::Refused { REFUSED } else { REQUEST }, 5);
        let until = process.began + BATCH_TIME;
        let mut next = None;
        match reception {
            Reception::Refused => {}
            Reception::Accepted => {
                self.results.accepted += 1;
                met.was_accepted = true;
                if order.is_closed {
                    order.back = None;
                    self.results.delays.push((order.message.merchant, replied.saturating_sub(order.message.due)));
                } else if replied + TIME_LEFT <= until {
                    // The query, which proves that it is closed.
                    (order.is_closed, order.rejections) = (true, 0);
                    next = Some(replied);
                }
            }
            Reception::Limited => {
                self.results.limited += 1;
                met.was_limited = true;
                let pause = about(&mut self.random, 1_000 << order.rejections.min(3), 2);
                order.rejections += 1;
                if met.not_waited_for <= now && replied + pause + TIME_LEFT <= until {
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
        for order in &process.orders {
            if let Some(back) = order.back {
                self.queue.hide(order.message, back);
            } else {
                self.queue.delete();
                self.results.last_deleted = now;
            }
        }
        for met in &mut process.merchants {
            if met.was_accepted {
                met.not_waited_for = now;
            } else if met.was_limited && self.settings.skips_limited {
                met.not_waited_for = now + NOT_WAITED_FOR;
            }
        }
        self.idle.push(id);
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

    const SETTINGS: Settings = Settings { concurrency: 2, skips_limited: false, ..Settings::DEFAULT };

    /// Orders that become visible and are due at these times.
    fn orders(times: impl Iterator<Item = (Ms, Ms)>) -> impl Iterator<Item = (Ms, Message)> {
        times.map(|(visible, due)| (visible, Message { due, merchant: 0, receives: 0 }))
    }

    fn at_once(count: usize) -> impl Iterator<Item = (Ms, Message)> {
        orders(std::iter::repeat_n((0, 0), count))
    }

    #[test]
    fn each_order_is_closed_by_two_requests_at_once_or_when_it_was_waited_for_at_its_time() {
        for (wait, every, receives, in_flight) in [(0, 1000, 1, 1), (900_000, 1, 2, 100)] {
            let orders = orders((0..100).map(|it| (it * every, wait + it * every)));
            let results = run(orders, Gateway::limited(Limit::NONE), SETTINGS);
            assert_eq!((results.accepted, results.limited, results.most_receives), (200, 0, receives));
            assert_eq!((results.delays.len(), results.dead_letters, results.attempts), (100, 0, 100));
            assert_eq!(results.most_in_flight, in_flight);
            assert!((80..=2_000).contains(&results.delay(0, 50)), "{}", results.delay(0, 50));
        }
    }

    #[test]
    fn more_batches_at_once_close_more_and_lambda_begins_with_five() {
        let results = |concurrency, horizon| {
            run(at_once(10_000), Gateway::limited(Limit::NONE), Settings { concurrency, horizon, ..SETTINGS })
        };
        let [two, four, five, twenty] = [2, 4, 5, 20].map(|concurrency| results(concurrency, Ms::MAX).last_deleted);
        assert!((two * 9 / 20..two * 11 / 20).contains(&four), "{two} {four}");
        // Fifty orders in about 130 ms, and five batches more after each second.
        assert!(five > 22_000 && twenty < five / 2, "{five} {twenty}");
        assert_eq!(results(20, 10).attempts, 50);
    }

    #[test]
    fn what_wechat_pay_takes_is_not_exceeded_and_no_order_is_lost() {
        for (limit, skips_limited) in [(Limit::window(50), false), (Limit::bucket(50), true)] {
            let results = run(at_once(3_000), Gateway::limited(limit), Settings { skips_limited, ..SETTINGS });
            assert_eq!((results.delays.len(), results.dead_letters), (3_000, 0));
            assert!(results.limited > 0 && results.last_deleted >= 119_000, "{}", results.last_deleted);
        }
    }

    #[test]
    fn an_order_at_the_limit_is_attempted_after_pauses_in_its_batch_unless_its_merchant_met_nothing_else_before() {
        for (skips_limited, is_expected) in [(false, (|it| it > 2) as fn(u64) -> bool), (true, |it| it == 1)] {
            // How many requests are rejected, and attempts made, in the first batches.
            let until = |batches: Ms| {
                let settings = Settings { concurrency: 1, skips_limited, horizon: batches * VISIBILITY, ..SETTINGS };
                let results = run(at_once(1), Gateway::limited(Limit::ALL), settings);
                assert_eq!(results.attempts, batches);
                results.limited
            };
            // Pauses of 1, 2, 4, 8 s and so on, each give or take half, in less than 25 s.
            assert!((4..=8).contains(&until(1)), "{}", until(1));
            assert!([until(2) - until(1), until(3) - until(2)].into_iter().all(is_expected), "{skips_limited}");
        }
    }

    #[test]
    fn in_an_outage_nothing_is_closed_and_all_is_done_minutes_after_it() {
        let [few, many] = [5, 480].map(|attempts| {
            let gateway = Gateway([Limit::NONE; 2], 0..1_200_000);
            run(orders((0..1_200).map(|it| (it * 1000, it * 1000))), gateway, Settings { attempts, ..SETTINGS })
        });
        // Those that are received for the fifth time before its end.
        assert!((450..500).contains(&few.dead_letters), "{}", few.dead_letters);
        assert_eq!(few.dead_letters + few.delays.len(), 1_200);
        assert_eq!((many.dead_letters, many.delays.len()), (0, 1_200));
        assert!((1_200_000..1_400_000).contains(&many.last_deleted), "{}", many.last_deleted);
    }
}
