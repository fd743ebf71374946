//! The run of one deployment's part of the plan: functions that work off the jobs side by side, direct calls and what is in
//! the queue, while incidents come and go.

mod incidents;
mod readout;

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use super::{
    history::{Answer, Invocation, ReportedOutcome, Wait},
    ledger::Ledger,
    plan::{Deployment, Job, Part, TIMEOUTS, Work},
};
use crate::{
    Sandbox,
    mock::{
        function::{Function, SECRET_ACCESS_KEY, SESSION_TOKEN},
        gateway::{OPENID, Times},
        identity::{Identity, MchType},
        lock,
        queue::{self, Queue, Received},
    },
};

/// How long one attempt at the gateway may take, in milliseconds: the mock signs a reply of API v3 in five, one after the
/// other, and there are up to ten for each function.
const ATTEMPT_MS: &str = "1000";

/// How often a direct call without a conclusive outcome is retried, as asynchronous invocation does after a function error.
const DIRECT_RETRIES: u32 = 2;

/// How often a message is received before it is a dead letter, and how long what was received is invisible: a run can't
/// wait for the template's 480 times 180 s.
const MAX_RECEIVES: u32 = 6;
const VISIBILITY: Duration = Duration::from_secs(1);

/// How many invocations a function has before its memory is first read.
const WARM_UP: usize = 20;

/// A function's timeout with which there is time for a query of every order.
const TIME_TO_QUERY: Duration = Duration::from_secs(2);

/// How long a log line may come after its answer.
const LOG_TIME: Duration = Duration::from_secs(5);

/// The sub-merchant that a partner's orders are of.
const SUB_MCH_ID: &str = "1900000109";

/// A job, waiting for its turn.
#[derive(Clone, Debug)]
struct Turn {
    job: Job,
    /// How often a direct call was made before.
    earlier: u32,
}

/// The run of one deployment.
struct Run {
    sandbox: Sandbox,
    queue: Queue,
    plan: Deployment,
    turns: Mutex<VecDeque<Turn>>,
    /// How many planned jobs have begun; held while incidents change, lest the end of one overtake its beginning.
    begun: tokio::sync::Mutex<usize>,
    incidents: Mutex<Vec<Span>>,
    /// Every key that there was.
    keys: Mutex<Vec<String>>,
    ledger: Mutex<Ledger>,
    /// The order of each message.
    messages: Mutex<HashMap<String, usize>>,
    acknowledged: Mutex<usize>,
    /// By the order's index.
    invocations: Mutex<HashMap<usize, Vec<Invocation>>>,
    waits: Mutex<HashMap<usize, Vec<Wait>>>,
    /// Before which moment nothing may be sent about an order.
    due: Mutex<HashMap<usize, Instant>>,
}

/// When an incident was.
struct Span {
    part: Part,
    /// The merchant whom it is about, if it is not all of them.
    mch_id: Option<String>,
    from: Instant,
    to: Option<Instant>,
}

/// One invocation, until its log lines are read.
struct Invoked {
    request_id: String,
    from: Instant,
    to: Instant,
    /// Each order's index, the id of its message (none of a direct call), and what the caller got.
    orders: Vec<(usize, String, Answer)>,
    timeout: Duration,
}

/// Runs it, and enters all of it into the ledger.
pub(super) async fn run(
    plan: Deployment,
    program: &Path,
    functions: usize,
    ledger: Ledger,
    begun: impl Fn(usize) + Send + Sync + 'static,
) -> anyhow::Result<Ledger> {
    let start = Instant::now();
    let sandbox = Sandbox::start().await?;
    sandbox.know(&plan.merchants);
    let queue = Queue::start(([127, 0, 0, 1], 0).into(), VISIBILITY, MAX_RECEIVES).await?;
    for planned in &plan.orders {
        if let Some(order) = &planned.order {
            sandbox.gateway.put_order(&planned.out_trade_no, order.clone());
        }
        for (call, fault) in &planned.faults {
            match call {
                None => sandbox.gateway.fault_on_order(&planned.out_trade_no, Times::Next(1), fault.clone()),
                Some(call) => {
                    let (order, fault) = (&planned.out_trade_no, fault.clone());
                    sandbox.gateway.fault_on_order_call(order, *call, Times::Next(1), fault);
                }
            }
        }
    }
    let mut started = Vec::new();
    for _ in 0..functions {
        let function = sandbox.function_with_events(program).env("WECHAT_PAY_TIMEOUT_MS", ATTEMPT_MS);
        let function = queue.environment().into_iter().fold(function, |it, (name, value)| it.env(name, &value));
        started.push(function.env("SECRET_CACHE_TTL_SECONDS", "1").start().await?);
    }
    let run = Arc::new(Run {
        turns: Mutex::new(plan.jobs.iter().map(|job| Turn { job: job.clone(), earlier: 0 }).collect()),
        begun: tokio::sync::Mutex::default(),
        incidents: Mutex::default(),
        keys: Mutex::new(plan.merchants.iter().flat_map(|merchant| keys(&merchant.identity)).collect()),
        ledger: Mutex::new(ledger),
        messages: Mutex::default(),
        acknowledged: Mutex::default(),
        invocations: Mutex::default(),
        waits: Mutex::default(),
        due: Mutex::default(),
        sandbox,
        queue,
        plan,
    });
    let begun = Arc::new(begun);
    let mut workers = JoinSet::new();
    for function in started {
        let (run, begun) = (Arc::clone(&run), Arc::clone(&begun));
        workers.spawn(async move { run.work(function, &*begun).await });
    }
    while let Some(worked) = workers.join_next().await {
        worked??;
    }
    Ok(run.close(start))
}

impl Run {
    /// One function's work, until nothing is left to do.
    async fn work(&self, mut function: Function, begun: &(impl Fn(usize) + Sync)) -> anyhow::Result<()> {
        let mut invocations = Vec::new();
        let mut early = None;
        loop {
            let turn = lock(&self.turns).pop_front();
            if let Some(Turn { job, earlier: 0 }) = &turn {
                self.change_incidents().await?;
                self.send_payers(job);
                begun(job.work.orders().len());
            }
            let invoked = match turn {
                Some(Turn { job: Job { work: Work::Direct(order), timeout }, earlier }) => {
                    self.call(&mut function, order, timeout, earlier).await
                }
                Some(Turn { job: Job { work: Work::Messages(orders), timeout }, .. }) => {
                    for order in orders {
                        self.send(order);
                    }
                    self.take_batch(&mut function, timeout).await
                }
                None if self.queue.left().0 == 0 => break,
                None => self.take_batch(&mut function, TIMEOUTS[0]).await,
            };
            match invoked {
                Some(invoked) => invocations.push(invoked),
                None => self.wait_for_messages().await,
            }
            if invocations.len() == WARM_UP && early.is_none() {
                early = function.memory_kib("VmRSS");
            }
        }
        if let (Some(early), Some(late)) = (early, function.memory_kib("VmRSS")) {
            lock(&self.ledger).grown(late.saturating_sub(early));
        }
        if let Some(descriptors) = function.descriptors() {
            lock(&self.ledger).open(descriptors);
        }
        let count: usize = invocations.iter().map(|invoked| invoked.orders.len()).sum();
        let lines = || [function.lines("order"), function.lines("waiting")].concat();
        let start = Instant::now();
        while lines().len() < count && start.elapsed() < LOG_TIME {
            sleep(Duration::from_millis(5)).await;
        }
        self.read_log(&invocations, &lines());
        lock(&self.ledger).log(&function.logs(), &self.secrets());
        Ok(())
    }

    /// Makes a direct call, and has it retried if need be.
    async fn call(&self, function: &mut Function, order: usize, timeout: Duration, earlier: u32) -> Option<Invoked> {
        let from = Instant::now();
        let invocation = function.invoke_within(&self.event(order), timeout).await;
        lock(&self.ledger).invoked(&invocation, timeout);
        let outcome = invocation.json().get("outcome").and_then(ReportedOutcome::read);
        if !outcome.is_some_and(ReportedOutcome::is_conclusive) && earlier < DIRECT_RETRIES {
            let job = Job { work: Work::Direct(order), timeout };
            lock(&self.turns).push_back(Turn { job, earlier: earlier + 1 });
        }
        let orders = vec![(order, String::new(), Answer::Direct(outcome))];
        Some(Invoked { request_id: invocation.ids.request_id, from, to: Instant::now(), orders, timeout })
    }

    /// Receives a batch and hands it to the function, as Lambda does; `None` if there is none.
    async fn take_batch(&self, function: &mut Function, timeout: Duration) -> Option<Invoked> {
        let batch = self.queue.receive(usize::MAX);
        if batch.is_empty() {
            return None;
        }
        let from = Instant::now();
        let invocation = function.invoke_within(&queue::event(&batch), timeout).await;
        let to = Instant::now();
        lock(&self.ledger).invoked(&invocation, timeout);
        let failed = queue::failed(&invocation.json());
        self.queue.finish(&batch, failed.as_ref());
        let orders = batch.into_iter().filter_map(|Received { message_id, .. }| {
            let is_acknowledged = failed.as_ref().is_some_and(|failed| !failed.contains(&message_id));
            *lock(&self.acknowledged) += usize::from(is_acknowledged);
            let order = lock(&self.messages).get(&message_id).copied()?;
            Some((order, message_id, Answer::Message { is_acknowledged }))
        });
        Some(Invoked { request_id: invocation.ids.request_id, from, to, orders: orders.collect(), timeout })
    }

    /// Waits until a message is visible, or may be so: another function can be done with it sooner.
    async fn wait_for_messages(&self) {
        let soon = tokio::time::Instant::now() + Duration::from_millis(20);
        sleep_until(self.queue.next_visible().map_or(soon, |visible| visible.min(soon))).await;
    }

    /// Sends the message of an order; twice, if that is planned.
    fn send(&self, order: usize) {
        let Some(planned) = self.plan.orders.get(order) else { return };
        let mut event = self.event(order);
        let mut add = |name: &str, value: Value| {
            if let Value::Object(fields) = &mut event {
                fields.insert(name.to_owned(), value);
            }
        };
        if let Some(due_in) = planned.due_in {
            lock(&self.due).insert(order, Instant::now() + due_in);
            add("close_at", json!(rfc3339(SystemTime::now() + due_in)));
        }
        if planned.is_invalid {
            add("time_start", json!("yesterday"));
        }
        for _ in 0..=usize::from(planned.is_sent_twice) {
            // Nobody receives it before it is known whose it is.
            let mut messages = lock(&self.messages);
            messages.insert(self.queue.send(&event.to_string(), Duration::ZERO), order);
        }
    }

    /// Sends the payers of a job's orders on their way.
    fn send_payers(&self, job: &Job) {
        for &order in job.work.orders() {
            let Some(planned) = self.plan.orders.get(order) else { continue };
            if let Some(delay) = planned.is_paid_after {
                let (gateway, out_trade_no) = (self.sandbox.gateway.clone(), planned.out_trade_no.clone());
                tokio::spawn(async move {
                    sleep(delay).await;
                    gateway.pay(&out_trade_no);
                });
            }
        }
    }

    fn event(&self, order: usize) -> Value {
        let Some(planned) = self.plan.orders.get(order) else { return Value::Null };
        let identity = &planned.merchant.identity;
        let mut event = json!({"out_trade_no": planned.out_trade_no, "confirm": planned.confirm});
        if let Value::Object(fields) = &mut event {
            if self.plan.merchants.len() > 1 {
                fields.insert("mch_id".to_owned(), json!(identity.mch_id));
            }
            match identity.mch_type {
                MchType::Partner => {
                    fields.insert("sub_mch_id".to_owned(), json!(SUB_MCH_ID));
                }
                // CloudPay's own users pass their own number.
                MchType::Merchant if order.is_multiple_of(2) => {
                    fields.insert("sub_mch_id".to_owned(), json!(identity.mch_id));
                }
                MchType::Merchant => {}
            }
        }
        event
    }

    /// What may show nowhere.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = lock(&self.keys).clone();
        secrets.extend([OPENID, SECRET_ACCESS_KEY, SESSION_TOKEN].map(str::to_owned));
        secrets
    }
}

/// A merchant's keys, as far as they would show: a line of the private one.
fn keys(identity: &Identity) -> impl Iterator<Item = String> {
    let private = identity.v3.key.private_pem().lines().nth(1).map(str::to_owned);
    [identity.api_key.clone()].into_iter().chain(private)
}

/// A time as `close_at` has it.
fn rfc3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let (date, [hour, minute, second]) = (time.date(), [time.hour(), time.minute(), time.second()]);
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{:03}Z", time.millisecond())
}
