//! What is simulated, and the tables of it.

use std::{fmt::Write, num::NonZero, ops::Range, panic, thread};

use fastrand::Rng;

use super::{
    gateway::{Gateway, Limit, Ms},
    queue::{MAX_DELAY, Message},
    run::{Results, Settings, run},
};
use crate::markdown;

const SECOND: Ms = 1_000;
const MINUTE: Ms = 60 * SECOND;
const HOUR: Ms = 60 * MINUTE;

/// How long orders wait to be closed, as in most shops: for the first quarter of an hour by the message's own delay, for
/// the second by its visibility timeout.
const WAIT: Ms = 30 * MINUTE;

/// The orders of a flash sale, within which time they are due, and the values of `QueueConcurrency`.
const ORDERS: u64 = 1_000_000;
const SALE: Ms = 5 * MINUTE;
const CONCURRENCY: [usize; 5] = [2, 3, 5, 10, 20];

/// How often a message is received where nobody thinks about it: AWS advises five at least.
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html>
const FEW_ATTEMPTS: u16 = 5;

/// The orders of a merchant whose every request meets the limit, and how long another's beside them are watched.
const LIMITED_ORDERS: u64 = 200;
const WATCHED: Ms = 2 * HOUR;

/// A merchant alone, with far too many batches at once for what WeChat Pay takes.
const TIGHT_ORDERS: u64 = 20_000;
const TIGHT_LIMIT: u32 = 10;
const TIGHT_CONCURRENCY: usize = 20;

/// A table with its title.
type Table = (String, Vec<Vec<String>>);

/// Simulates everything, with a flash sale at each of these limits in requests a second, and writes it as Markdown.
#[must_use]
pub fn report(seed: u64, limits: &[u32]) -> String {
    let defaults = Settings { seed, ..Settings::DEFAULT };
    let tables = [flash_sale(ORDERS, limits, defaults), outages(defaults), one_limited(defaults), waiting(defaults)];
    tables.iter().fold(String::new(), |mut text, (title, lines)| {
        let separator = if text.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{separator}{title}:\n\n{}", markdown::table(lines));
        text
    })
}

fn flash_sale(orders: u64, limits: &[u32], defaults: Settings) -> Table {
    let limits_of_both_kinds = limits.iter().flat_map(|&limit| [Limit::window(limit), Limit::bucket(limit)]);
    let cases: Vec<_> = CONCURRENCY
        .iter()
        .flat_map(|&concurrency| limits_of_both_kinds.clone().map(move |limit| (concurrency, limit)))
        .collect();
    let results = all(&cases, |(concurrency, limit)| {
        let due = (0..orders).map(|it| WAIT + it * SALE / orders);
        run(sent_early(due), Gateway::limited(limit.clone()), Settings { concurrency: *concurrency, ..defaults })
    });
    let mut head = strings(["`QueueConcurrency`", "asks for"]);
    for limit in limits {
        head.extend([format!("WeChat Pay takes {limit}"), "rejected".to_owned()]);
    }
    head.extend(strings(["dead letters", "receives at most"]));
    let mut lines = vec![head];
    for (concurrency, results) in CONCURRENCY.into_iter().zip(results.chunks(limits.len() * 2)) {
        let mut line = vec![concurrency.to_string(), full_batches(Settings { concurrency, ..defaults }).to_string()];
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
    let least = limits.iter().map(|&limit| {
        let time = orders * 2 * SECOND / u64::from(limit.max(1));
        format!("{} min at {limit}", rounded(time, MINUTE))
    });
    let title = format!(
        "{orders} orders due within {}, each sent {} before; requests a second, and when the last order is closed (window / \
         token bucket; at best {})",
        span(SALE),
        span(WAIT),
        least.collect::<Vec<_>>().join(", ")
    );
    (title, lines)
}

/// How many requests a second are sent while every batch is full and none is rejected.
fn full_batches(settings: Settings) -> u64 {
    let orders = std::iter::repeat_n((0, message(0, 0)), 20_000);
    let results = run(orders, Gateway::limited(Limit::NONE), Settings { horizon: 10 * SECOND, ..settings });
    rounded(results.accepted * SECOND, results.last_deleted)
}

fn outages(defaults: Settings) -> Table {
    let outages = [20 * MINUTE, 6 * HOUR].map(|long| [(long, FEW_ATTEMPTS), (long, defaults.attempts)]).concat();
    let due = |long| at_random(defaults.seed, SECOND, 0..long);
    let results = all(&outages, |&(long, attempts)| {
        let orders = due(long).into_iter().map(|due| (due, message(due, 0)));
        run(orders, Gateway([Limit::NONE; 2], 0..long), Settings { attempts, ..defaults })
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
        let orders = due(*long).len();
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
    let concurrency = defaults.concurrency;
    (format!("WeChat Pay refuses connections, one order a second, `QueueConcurrency` {concurrency}"), lines)
}

fn one_limited(defaults: Settings) -> Table {
    let policies = [
        ("waits for all", false, false),
        ("waits for all; fair queue", false, true),
        ("does not wait for it, as this function", true, false),
    ];
    let results = all(&policies, |&(_, skips_limited, is_fair)| {
        let settings = Settings { is_fair, skips_limited, ..defaults };
        let limited = (0..LIMITED_ORDERS).map(|it| (it, message(it, 0)));
        let others = at_random(defaults.seed, SECOND, 0..WATCHED).into_iter().map(|due| (due, message(due, 1)));
        let mut beside: Vec<_> = limited.chain(others).collect();
        beside.sort_unstable();
        let alone = (0..TIGHT_ORDERS).map(|it| (it, message(it, 0)));
        (
            run(beside.into_iter(), Gateway::limited(Limit::ALL), Settings { horizon: WATCHED, ..settings }),
            run(
                alone,
                Gateway::limited(Limit::window(TIGHT_LIMIT)),
                Settings { concurrency: TIGHT_CONCURRENCY, ..settings },
            ),
        )
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
         {}, `QueueConcurrency` {}; and alone {TIGHT_ORDERS} orders of one merchant at {TIGHT_LIMIT} requests a second, \
         `QueueConcurrency` {TIGHT_CONCURRENCY}",
        span(WATCHED),
        defaults.concurrency
    );
    (title, lines)
}

fn waiting(defaults: Settings) -> Table {
    let settings = Settings { concurrency: 10, ..defaults };
    let rates = [100, 130, 150];
    let results = all(&rates, |rate| {
        let orders = rate * HOUR / SECOND;
        let due = (0..orders).map(|it| WAIT + it * HOUR / orders);
        run(sent_early(due), Gateway::limited(Limit::NONE), settings)
    });
    let mut lines =
        vec![strings(["orders a second", "in flight at most", "closed after their time: median", "99 of 100"])];
    for (rate, it) in rates.iter().zip(results) {
        let delays = [50, 99].map(|percent| span(it.delay(0, percent)));
        lines.push([rate.to_string(), it.most_in_flight.to_string()].into_iter().chain(delays).collect());
    }
    let (long, early, concurrency) = (span(HOUR), span(WAIT), settings.concurrency);
    (format!("Orders for {long}, each sent {early} before its time, `QueueConcurrency` {concurrency}"), lines)
}

/// Messages that were sent half an hour before the orders' times, with the longest delay that there is.
fn sent_early(due: impl Iterator<Item = Ms>) -> impl Iterator<Item = (Ms, Message)> {
    due.map(|due| (due - WAIT + MAX_DELAY, message(due, 0)))
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
    let simulate = &simulate;
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    let several = |cases: &'_ [C]| {
        thread::scope(|scope| {
            let threads: Vec<_> = cases.iter().map(|case| scope.spawn(move || simulate(case))).collect();
            let results = threads.into_iter().map(|it| it.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
            results.collect::<Vec<_>>()
        })
    };
    cases.chunks(at_once).flat_map(several).collect()
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

    #[test]
    fn a_flash_sale_has_a_line_for_each_concurrency_and_two_columns_for_each_limit() {
        let (_, lines) = flash_sale(20_000, &[100, 50], Settings::DEFAULT);
        assert_eq!(lines.len(), 1 + CONCURRENCY.len());
        assert!(lines.iter().all(|line| line.len() == 2 + 2 * 2 + 2), "{lines:?}");
        assert!(lines[1..].iter().all(|line| line[6] == "0"), "no dead letters: {lines:?}");
    }

    #[test]
    fn spans_of_time_are_written_as_people_say_them() {
        let spans = [0, 999, 1_499, 59_000, 60_000, 90_000, 3_600_000, 3_660_000].map(span);
        assert_eq!(spans, ["0 ms", "999 ms", "1 s", "59 s", "1 min", "2 min", "1 h", "61 min"]);
    }
}
