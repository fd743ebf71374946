//! A chaos run: many orders in mixed states through direct calls and SQS, while everything around the function goes
//! wrong. At the end the books must balance: what the function said of each order is held against what the gateway
//! knows of it.

mod books;
mod plan;

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

pub use books::{Account, Books};
pub use plan::{Job, Plan, PlannedOrder, Weather};

use crate::{
    Sandbox,
    mock::function::{Function, Invocation, Outcome},
    mock::gateway::{Fault, Times},
};
use books::Word;

/// The function's timeout, and a shorter one that some invocations have.
const TIMEOUT: Duration = Duration::from_secs(4);
const SHORT_TIMEOUT: Duration = Duration::from_millis(900);

/// How long one try at the gateway may take.
const TRY_MS: &str = "150";

/// How often a direct call that failed is made again, as asynchronous invocation does, and how often SQS hands over a
/// message before it goes to the dead-letter queue.
const DIRECT_RETRIES: u32 = 2;
const MAX_RECEIVES: u32 = 5;

/// A call or a batch, waiting for its turn.
#[derive(Clone, Debug)]
struct Turn {
    job: Job,
    /// How often it was tried before.
    tried: u32,
}

#[derive(Debug)]
struct Run {
    sandbox: Sandbox,
    plan: Plan,
    turns: Mutex<VecDeque<Turn>>,
    /// How many planned jobs have begun.
    begun: Mutex<usize>,
    books: Mutex<Books>,
}

/// Runs a plan with so many functions side by side; `progress` hears how many orders are settled, of how many.
///
/// # Errors
/// When the stand-ins or the function can't be started.
pub async fn run(
    plan: Plan,
    program: &Path,
    functions: usize,
    progress: impl Fn(usize, usize) + Send + Sync + 'static,
) -> anyhow::Result<Books> {
    let sandbox = Sandbox::start().await?;
    for order in &plan.orders {
        if let Some(state) = order.state {
            sandbox.gateway.put_order(&order.out_trade_no, state);
        }
        for fault in &order.faults {
            sandbox.gateway.fault_on_order(&order.out_trade_no, Times::Next(1), fault.clone());
        }
        if order.is_forged {
            sandbox.gateway.fault_on_order(&order.out_trade_no, Times::Always, Fault::Forge);
        }
    }
    let mut started = Vec::new();
    for _ in 0..functions {
        let function = sandbox.function(program).env("WECHAT_PAY_TIMEOUT_MS", TRY_MS).timeout(TIMEOUT);
        started.push(function.env("SECRET_CACHE_TTL_SECONDS", "1").start().await?);
    }
    let run = Arc::new(Run {
        turns: Mutex::new(plan.jobs.iter().map(|job| Turn { job: job.clone(), tried: 0 }).collect()),
        books: Mutex::new(Books::new(plan.orders.len())),
        begun: Mutex::new(0),
        sandbox,
        plan,
    });
    let progress = Arc::new(progress);
    let mut workers = JoinSet::new();
    for function in started {
        let (run, progress) = (Arc::clone(&run), Arc::clone(&progress));
        workers.spawn(async move { work(&run, function, &*progress).await });
    }
    while let Some(worked) = workers.join_next().await {
        worked??;
    }
    let mut books = lock(&run.books).clone();
    books.close(&run.plan, &run.sandbox.gateway);
    Ok(books)
}

/// One function's work, until nothing is left to do.
async fn work(run: &Run, mut function: Function, progress: &(impl Fn(usize, usize) + Sync)) -> anyhow::Result<()> {
    let mut invocations = 0_usize;
    let mut early = None;
    loop {
        let turn = lock(&run.turns).pop_front();
        let Some(turn) = turn else { break };
        run.change_weather(turn.tried).await?;
        let timeout = if invocations % 10 == 9 { SHORT_TIMEOUT } else { TIMEOUT };
        let invocation = match &turn.job {
            Job::Direct(place) => function.invoke_within(&run.event(*place), timeout).await,
            Job::Batch(places) => function.invoke_within(&run.batch(places), timeout).await,
        };
        lock(&run.books).invoked(&invocation, timeout);
        run.settle(turn, &invocation);
        invocations += 1;
        if invocations == 30 {
            early = function.memory_kib("VmRSS");
        }
        let (done, all) = lock(&run.books).progress();
        progress(done, all);
    }
    if let (Some(early), Some(late)) = (early, function.memory_kib("VmRSS")) {
        lock(&run.books).memory(early, late);
    }
    Ok(())
}

impl Run {
    /// Changes the weather that is planned for before the next job, if this is a planned one and not a repetition.
    async fn change_weather(&self, tried: u32) -> anyhow::Result<()> {
        if tried > 0 {
            return Ok(());
        }
        let job = {
            let mut begun = lock(&self.begun);
            *begun += 1;
            *begun - 1
        };
        for &(_, weather) in self.plan.weather.iter().filter(|(at, _)| *at == job) {
            lock(&self.books).weather += 1;
            let Sandbox { gateway, secrets, identity, .. } = &self.sandbox;
            match weather {
                Weather::Down(endpoint) => {
                    if let Some(endpoint) = gateway.endpoints().get(endpoint) {
                        endpoint.go_down().await;
                    }
                }
                Weather::Up(endpoint) => {
                    if let Some(endpoint) = gateway.endpoints().get(endpoint) {
                        endpoint.come_up().await?;
                    }
                }
                Weather::Rotate => {
                    let rotated = identity.with_key(&format!("{job:032}"));
                    gateway.set_identity(rotated.clone());
                    sleep(Duration::from_millis(20)).await;
                    secrets.set(&rotated.secret());
                }
                Weather::NoSecrets(failure) => secrets.set_failure(Some(failure)),
                Weather::SlowSecrets(delay) => secrets.set_delay(delay),
                Weather::Secrets => {
                    secrets.set_failure(None);
                    secrets.set_delay(Duration::ZERO);
                }
            }
        }
        Ok(())
    }

    fn event(&self, place: usize) -> Value {
        let out_trade_no = self.plan.orders.get(place).map(|order| order.out_trade_no.as_str());
        json!({"sub_mch_id": "1900000109", "out_trade_no": out_trade_no})
    }

    fn batch(&self, places: &[usize]) -> Value {
        let record = |place: &usize| {
            json!({
                "messageId": place.to_string(), "receiptHandle": "r", "body": self.event(*place).to_string(),
                "attributes": {}, "messageAttributes": {}, "eventSource": "aws:sqs", "awsRegion": "eu-central-1",
            })
        };
        json!({"Records": places.iter().map(record).collect::<Vec<_>>()})
    }

    /// Takes down what was said of each order, and queues again what has to come back.
    fn settle(&self, turn: Turn, invocation: &Invocation) {
        let mut books = lock(&self.books);
        let again = match turn.job {
            Job::Direct(place) => {
                let word = word_of_direct_call(invocation);
                books.said(place, word);
                let comes_back = word == Word::Unknown && turn.tried < DIRECT_RETRIES;
                if !comes_back {
                    books.settled(1);
                }
                comes_back.then_some(Job::Direct(place))
            }
            Job::Batch(places) => {
                let failed = failures(invocation);
                let (failed, done): (Vec<usize>, Vec<usize>) =
                    places.into_iter().partition(|place| failed.as_ref().is_none_or(|failed| failed.contains(place)));
                for (places, word) in [(&done, Word::Done), (&failed, Word::Unknown)] {
                    for &place in places {
                        books.said(place, word);
                    }
                }
                books.acknowledged += done.len();
                let comes_back = turn.tried + 1 < MAX_RECEIVES;
                if !comes_back {
                    books.dead_lettered += failed.len();
                }
                books.settled(done.len() + if comes_back { 0 } else { failed.len() });
                (comes_back && !failed.is_empty()).then_some(Job::Batch(failed))
            }
        };
        drop(books);
        if let Some(job) = again {
            lock(&self.turns).push_back(Turn { job, tried: turn.tried + 1 });
        }
    }
}

fn word_of_direct_call(invocation: &Invocation) -> Word {
    let reply = invocation.json();
    let field = |name: &str| reply.get(name).and_then(Value::as_str).unwrap_or_default();
    match (field("resultCode"), field("err_code")) {
        ("SUCCESS", _) | ("FAIL", "ORDERCLOSED") => Word::Closed,
        ("FAIL", "ORDERPAID") => Word::Paid,
        // A key that is being rotated, an error of WeChat Pay's, a payer who is typing: call again.
        _ => Word::Unknown,
    }
}

/// The places of the messages that come back; all of them, without an answer.
fn failures(invocation: &Invocation) -> Option<Vec<usize>> {
    let Outcome::Answered(_) = &invocation.outcome else { return None };
    let answer = invocation.json();
    let failures = answer.get("batchItemFailures")?.as_array()?;
    Some(failures.iter().filter_map(|failure| failure.get("itemIdentifier")?.as_str()?.parse().ok()).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
