//! What is simulated, and the tables of it.

use std::{
    fmt::Write,
    num::NonZero,
    ops::Range,
    sync::{Mutex, PoisonError},
    thread,
};

use fastrand::Rng;

use super::{
    Options,
    gateway::{Gateway, Limit, Ms},
    queue::{MAX_DELAY, Message, Queue},
    run::{Policy, Results, Settings, run},
};
use crate::{markdown, mock::lock};

const SECOND: Ms = 1_000;
const MINUTE: Ms = 60 * SECOND;
const HOUR: Ms = 60 * MINUTE;

/// How long orders wait to be closed, as in most shops: for the first quarter of an hour by the message's own delay, for
/// the second by its visibility timeout.
const WAIT: Ms = 30 * MINUTE;

/// Within which time a flash sale's orders are due.
const SALE: Ms = 5 * MINUTE;

/// `QueueConcurrency`, as the template has it by default.
const CONCURRENCY: u16 = 3;

/// How often a message is received where nobody thinks about it: AWS advises five at least.
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html>
const FEW_ATTEMPTS: u16 = 5;

/// The orders of a merchant whose every request meets the limit, and how long another's beside them are watched.
const LIMITED_ORDERS: u64 = 200;
const WATCHED: Ms = 2 * HOUR;

/// A merchant alone, with far too many batches at once for what WeChat Pay takes.
const TIGHT_ORDERS: u64 = 20_000;
const TIGHT_LIMIT: u32 = 10;
const TIGHT_CONCURRENCY: u16 = 20;

/// A table with its title.
type Table = (String, Vec<Vec<String>>);

/// Simulates everything, and writes it as Markdown.
#[must_use]
pub fn report(options: &Options) -> String {
    let tables = [flash_sale(options), outages(options), one_limited(options), waiting(options)];
    tables.iter().fold(String::new(), |mut text, (title, lines)| {
        let separator = if text.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{separator}{title}:\n\n{}", markdown::table(lines));
        text
    })
}

fn flash_sale(options: &Options) -> Table {
    let kinds: [fn(u32) -> Limit; 2] = [Limit::window, Limit::bucket];
    let mut cases = Vec::new();
    for &concurrency in &options.concurrency {
        let limits = options.limits.iter().flat_map(|&limit| kinds.map(|kind| kind(limit)));
        cases.extend(limits.map(|limit| (concurrency, limit)));
    }
    let results = all(&cases, |(concurrency, limit)| {
        let orders = u64::from(options.orders);
        let due = (0..orders).map(|it| WAIT + it * SALE / orders);
        let gateway = Gateway::new([limit.clone(), Limit::None], 0..0);
        run(wait_for(due, options), gateway, options.settings(*concurrency, Policy::SkipsLimited))
    });
    let mut head = strings(["`QueueConcurrency`", "asks for"]);
    for limit in &options.limits {
        head.extend([format!("WeChat Pay takes {limit}"), "rejected".to_owned()]);
    }
    head.extend(strings(["dead letters", "receives at most"]));
    let mut lines = vec![head];
    for (&concurrency, results) in options.concurrency.iter().zip(results.chunks(options.limits.len() * 2)) {
        let mut line = vec![concurrency.to_string(), full_batches(options, concurrency).to_string()];
        for pair in results.chunks(2) {
            let both =
                |show: fn(&Results) -> u64| pair.iter().map(|it| show(it).to_string()).collect::<Vec<_>>().join(" / ");
            line.push(both(|it| rounded(it.last_deleted.saturating_sub(WAIT), MINUTE)) + " min");
            line.push(both(|it| rounded(it.limited * 100, it.accepted + it.limited)) + " %");
        }
        line.push(results.iter().map(|it| it.dead_letters).sum::<usize>().to_string());
        line.push(results.iter().map(|it| it.most_receives).max().unwrap_or_default().to_string());
        lines.push(line);
    }
    let least = options.limits.iter().map(|&limit| {
        let time = u64::from(options.orders) * 2 * SECOND / u64::from(limit.max(1));
        format!("{} min at {limit}", rounded(time, MINUTE))
    });
    let title = format!(
        "{} orders due within {}, each sent {} before; requests a second, and when the last order is closed (window / token \
         bucket; at best {})",
        options.orders,
        span(SALE),
        span(WAIT),
        least.collect::<Vec<_>>().join(", ")
    );
    (title, lines)
}

/// How many requests a second are sent while every batch is full and none is rejected.
fn full_batches(options: &Options, concurrency: u16) -> u64 {
    let orders = std::iter::repeat_n((0, message(0, 0)), 20_000);
    let queue = Queue::new(orders, options.attempts, false);
    let settings = Settings { horizon: 10 * SECOND, ..options.settings(concurrency, Policy::SkipsLimited) };
    let results = run(queue, Gateway::new([Limit::None, Limit::None], 0..0), settings);
    rounded(results.accepted * SECOND, results.last_deleted)
}

fn outages(options: &Options) -> Table {
    let outages = [20 * MINUTE, 6 * HOUR].map(|long| [(long, FEW_ATTEMPTS), (long, options.attempts)]).concat();
    let results = all(&outages, |&(long, attempts)| {
        let due = at_random(options.seed, SECOND, 0..long).into_iter().map(|due| (due, message(due, 0)));
        let gateway = Gateway::new([Limit::None, Limit::None], 0..long);
        run(Queue::new(due, attempts, false), gateway, options.settings(CONCURRENCY, Policy::SkipsLimited))
    });
    let mut lines = vec![strings([
        "outage",
        "receives at most",
        "orders due in it",
        "dead letters",
        "attempts per order",
        "the last is closed after its end by",
        "in flight at most",
    ])];
    for ((long, attempts), it) in outages.iter().zip(results) {
        let orders = at_random(options.seed, SECOND, 0..*long).len();
        lines.push(vec![
            span(*long),
            attempts.to_string(),
            orders.to_string(),
            it.dead_letters.to_string(),
            rounded(it.attempts, u64::try_from(orders).unwrap_or(u64::MAX)).to_string(),
            span(it.last_deleted.saturating_sub(*long)),
            it.most_in_flight.to_string(),
        ]);
    }
    (format!("WeChat Pay refuses connections, one order a second, `QueueConcurrency` {CONCURRENCY}"), lines)
}

fn one_limited(options: &Options) -> Table {
    let policies = [
        ("waits for all", Policy::WaitsForAll, false),
        ("waits for all; fair queue", Policy::WaitsForAll, true),
        ("does not wait for it, as this function", Policy::SkipsLimited, false),
    ];
    let results = all(&policies, |&(_, policy, is_fair)| {
        let limited = (0..LIMITED_ORDERS).map(|it| (it, message(it, 0)));
        let others = at_random(options.seed, SECOND, 0..WATCHED).into_iter().map(|due| (due, message(due, 1)));
        let mut arrivals: Vec<_> = limited.chain(others).collect();
        arrivals.sort_unstable();
        let settings = Settings { horizon: WATCHED, ..options.settings(CONCURRENCY, policy) };
        let gateway = Gateway::new([Limit::All, Limit::None], 0..0);
        let beside = run(Queue::new(arrivals.into_iter(), options.attempts, is_fair), gateway, settings);

        let alone = (0..TIGHT_ORDERS).map(|it| (it, message(it, 0)));
        let gateway = Gateway::new([Limit::window(TIGHT_LIMIT), Limit::None], 0..0);
        let settings = options.settings(TIGHT_CONCURRENCY, policy);
        (beside, run(Queue::new(alone, options.attempts, is_fair), gateway, settings))
    });
    let mut lines = vec![strings([
        "after a batch in which a merchant's every request was rejected, a process",
        "the other's median",
        "99 of 100",
        "rejected requests",
        "alone: the last is closed after",
        "alone: dead letters",
    ])];
    for ((name, ..), (beside, alone)) in policies.iter().zip(results) {
        lines.push(vec![
            (*name).to_owned(),
            span(beside.delay(1, 50)),
            span(beside.delay(1, 99)),
            beside.limited.to_string(),
            span(alone.last_deleted),
            alone.dead_letters.to_string(),
        ]);
    }
    let title = format!(
        "{LIMITED_ORDERS} orders of a merchant whose every request is rejected, beside another merchant's one a second for \
         {}, `QueueConcurrency` {CONCURRENCY}; and alone {TIGHT_ORDERS} orders of one merchant at {TIGHT_LIMIT} requests a \
         second, `QueueConcurrency` {TIGHT_CONCURRENCY}",
        span(WATCHED)
    );
    (title, lines)
}

fn waiting(options: &Options) -> Table {
    const CONCURRENCY: u16 = 10;
    let rates = [100, 130, 150];
    let results = all(&rates, |rate| {
        let orders = rate * HOUR / SECOND;
        let due = (0..orders).map(|it| WAIT + it * HOUR / orders);
        let gateway = Gateway::new([Limit::None, Limit::None], 0..0);
        run(wait_for(due, options), gateway, options.settings(CONCURRENCY, Policy::SkipsLimited))
    });
    let mut lines =
        vec![strings(["orders a second", "in flight at most", "closed after their time: median", "99 of 100"])];
    for (rate, it) in rates.iter().zip(results) {
        let delays = [50, 99].map(|percent| span(it.delay(0, percent)));
        lines.push([rate.to_string(), it.most_in_flight.to_string()].into_iter().chain(delays).collect());
    }
    let title = format!(
        "Orders for {}, each sent {} before its time, `QueueConcurrency` {CONCURRENCY}",
        span(HOUR),
        span(WAIT)
    );
    (title, lines)
}

impl Options {
    fn settings(&self, concurrency: u16, policy: Policy) -> Settings {
        Settings { concurrency: concurrency.into(), policy, horizon: Ms::MAX, seed: self.seed }
    }
}

/// A queue of orders that were sent so long before their times, with the longest delay that there is.
fn wait_for(due: impl Iterator<Item = Ms>, options: &Options) -> Queue<impl Iterator<Item = (Ms, Message)>> {
    Queue::new(due.map(|due| (due - WAIT + MAX_DELAY, message(due, 0))), options.attempts, false)
}

fn message(due: Ms, merchant: u8) -> Message {
    Message { due, merchant, receives: 0 }
}

/// Times at random, one every so often on average.
fn at_random(seed: u64, every: Ms, within: Range<Ms>) -> Vec<Ms> {
    let mut random = Rng::with_seed(seed);
    let count = usize::try_from((within.end - within.start) / every).unwrap_or_default();
    let mut times: Vec<Ms> = std::iter::repeat_with(|| random.u64(within.clone())).take(count).collect();
    times.sort_unstable();
    times
}

/// Simulates all cases, as many at once as there are processors.
fn all<C: Sync, R: Send>(cases: &[C], simulate: impl Fn(&C) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(cases.iter().enumerate());
    let results = Mutex::new(Vec::new());
    let work = || {
        loop {
            let case = lock(&next).next();
            let Some((index, case)) = case else { break };
            let result = simulate(case);
            lock(&results).push((index, result));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

fn strings<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// A quotient, rounded.
fn rounded(part: u64, of: u64) -> u64 {
    (part + of / 2) / of.max(1)
}

/// A span of time, as people say it.
fn span(time: Ms) -> String {
    let minutes = rounded(time, MINUTE);
    if time < SECOND {
        format!("{time} ms")
    } else if time < MINUTE {
        format!("{} s", rounded(time, SECOND))
    } else if minutes.is_multiple_of(60) {
        format!("{} h", minutes / 60)
    } else {
        format!("{minutes} min")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options { seed: 1, orders: 20_000, limits: vec![100, 50], concurrency: vec![2, 20], attempts: 20 }
    }

    /// A table's cells without its head, by column.
    fn column((_, lines): &Table, column: usize) -> Vec<&str> {
        lines[1..].iter().map(|line| line[column].as_str()).collect()
    }

    #[test]
    fn a_flash_sale_loses_nothing_and_takes_longer_the_less_wechat_pay_takes() {
        let table = flash_sale(&options());
        assert_eq!(table.1[0].len(), 2 + 2 * 2 + 2);
        assert_eq!(column(&table, 6), ["0", "0"]);
        let minutes = |cell: &str| cell.split(' ').next().unwrap().parse::<u32>().unwrap();
        let [fast, slow] = [2, 4].map(|at| column(&table, at).into_iter().map(minutes).collect::<Vec<_>>());
        assert!(fast.iter().zip(slow).all(|(&fast, slow)| fast < slow), "{table:?}");
    }

    #[test]
    fn what_is_received_more_often_outlasts_an_outage() {
        let table = outages(&options());
        let dead: Vec<u32> = column(&table, 3).iter().map(|cell| cell.parse().unwrap()).collect();
        assert!(dead[0] > 400 && dead[1] == 0 && dead[2] > 20_000 && dead[3] < dead[2], "{table:?}");
    }

    #[test]
    fn spans_of_time_are_written_as_people_say_them() {
        let spans = [0, 999, 1_499, 59_000, 60_000, 90_000, 3_600_000, 3_660_000].map(span);
        assert_eq!(spans, ["0 ms", "999 ms", "1 s", "59 s", "1 min", "2 min", "1 h", "61 min"]);
    }
}
