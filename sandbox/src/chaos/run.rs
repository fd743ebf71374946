//! The run: functions that work off the jobs side by side, direct calls and what is in the queue, while incidents come and
//! go; then all of it is put on record.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::{task::JoinSet, time::sleep};

use super::{
    incidents::Incident,
    ledger::Ledger,
    plan::{Job, Plan, PlannedOrder},
    record::{Answer, FunctionRecord, History, Invocation, Line, Record, Request, is_conclusive, truth},
};
use crate::{
    Sandbox,
    mock::{
        function::{Function, Outcome, SECRET_ACCESS_KEY, SESSION_TOKEN},
        gateway::{self, OPENID, Times},
        identity::{Flaw, Identity, Merchant},
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

/// A function's timeout when no job is left, and one with which there is time for a query of every order.
const LONG: Duration = Duration::from_secs(9);
const TIME_TO_QUERY: Duration = Duration::from_secs(2);

/// How long a log line may come after its answer.
const LOG_TIME: Duration = Duration::from_secs(5);

/// A time at most so far ahead has come, since clocks differ; and what this program takes between two looks at its own.
const MARGIN: Duration = Duration::from_millis(5_050);

/// A run under way.
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) sandbox: Sandbox,
    pub(super) queue: Queue,
    /// The jobs that are left, by their index, and how often each was done before; held while incidents change, lest the
    /// end of one overtake its beginning.
    jobs: tokio::sync::Mutex<VecDeque<(usize, u32)>>,
    /// When incidents were.
    pub(super) spans: Mutex<Vec<(Incident, Range<Instant>)>>,
    record: Mutex<Record>,
}

/// Runs the plan of this seed with so many functions side by side.
///
/// # Errors
/// When the mocks or the function can't be started.
pub async fn run(orders: usize, seed: u64, program: &Path, functions: usize) -> anyhow::Result<Ledger> {
    let plan = Plan::new(orders, seed);
    let sandbox = Sandbox::start().await?;
    sandbox.know(&plan.merchants);
    let queue = Queue::start(([127, 0, 0, 1], 0).into(), VISIBILITY, MAX_RECEIVES).await?;
    for PlannedOrder { out_trade_no, order, faults, .. } in &plan.orders {
        if let Some(order) = order {
            sandbox.gateway.put_order(out_trade_no, order.clone());
        }
        for (call, fault) in faults.clone() {
            sandbox.gateway.fault_on_order_call(out_trade_no, call, Times::Next(1), fault);
        }
    }
    let record = Record {
        orders: plan.orders.iter().cloned().map(|planned| History { planned, ..History::default() }).collect(),
        secrets: [OPENID, SECRET_ACCESS_KEY, SESSION_TOKEN].map(str::to_owned).into(),
        ..Record::default()
    };
    let jobs = tokio::sync::Mutex::new((0..plan.jobs.len()).map(|job| (job, 0)).collect());
    let (spans, record) = (Mutex::default(), Mutex::new(record));
    let run = Arc::new(Run { plan, sandbox, queue, jobs, spans, record });
    for merchant in &run.plan.merchants {
        run.keep_secret(&merchant.identity);
    }
    let mut workers = JoinSet::new();
    for _ in 0..functions {
        let function = run.sandbox.function_with_events(program).env("WECHAT_PAY_TIMEOUT_MS", ATTEMPT_MS);
        let function = run.queue.environment().into_iter().fold(function, |it, (name, value)| it.env(name, &value));
        let function = function.env("SECRET_CACHE_TTL_SECONDS", "1").start().await?;
        let run = Arc::clone(&run);
        workers.spawn(async move { run.work(function).await });
    }
    while let Some(worked) = workers.join_next().await {
        worked??;
    }
    run.read_mocks();
    Ok(Ledger::new(&lock(&run.record)))
}

impl Run {
    /// One function's work, until nothing is left to do.
    async fn work(&self, mut function: Function) -> anyhow::Result<()> {
        let mut all = Vec::new();
        let (mut count, mut early) = (0, None);
        loop {
            let next = {
                let mut jobs = self.jobs.lock().await;
                let next = jobs.pop_front();
                if let Some((job, 0)) = next {
                    self.change_incidents(job).await?;
                    if job % 100 == 99 {
                        eprintln!("chaos: {} of {} jobs have begun", job + 1, self.plan.jobs.len());
                    }
                }
                next.and_then(|(index, earlier)| Some((index, earlier, self.plan.jobs.get(index)?)))
            };
            if let Some((_, 0, job)) = next {
                self.begin(job);
            }
            let direct = next.filter(|(.., job)| job.is_direct);
            let order = direct.and_then(|(.., job)| self.plan.orders.get(job.orders.start));
            if next.is_none() && self.queue.left().0 == 0 {
                break;
            }
            let invocations = self.invoke(&mut function, order, next.map_or(LONG, |(.., job)| job.timeout)).await;
            if let Some((index, earlier @ ..DIRECT_RETRIES, _)) = direct
                && !invocations.iter().any(|it| matches!(&it.answer, Answer::Direct(Some(it)) if is_conclusive(it)))
            {
                self.jobs.lock().await.push_back((index, earlier + 1));
            }
            if invocations.is_empty() {
                // Until a message may be visible.
                sleep(Duration::from_millis(20)).await;
            } else {
                count += 1;
                early = early.or_else(|| function.memory_kib("VmRSS").filter(|_| count == WARM_UP));
            }
            all.extend(invocations);
        }
        let growth_kib = early.and_then(|early| Some(function.memory_kib("VmRSS")?.saturating_sub(early)));
        let descriptors = function.descriptors().unwrap_or(usize::MAX);
        let lines = || [function.lines("order"), function.lines("waiting")].concat();
        let start = Instant::now();
        while lines().len() < all.len() && start.elapsed() < LOG_TIME {
            sleep(Duration::from_millis(5)).await;
        }
        self.read_lines(all, &lines());
        lock(&self.record).functions.push(FunctionRecord { log: function.logs(), growth_kib, descriptors });
        Ok(())
    }

    /// Makes a direct call about the order; without one receives a batch, if there is any, and hands it over as Lambda does.
    async fn invoke(
        &self,
        function: &mut Function,
        order: Option<&PlannedOrder>,
        timeout: Duration,
    ) -> Vec<Invocation> {
        let batch = if order.is_some() { Vec::new() } else { self.queue.receive(usize::MAX) };
        let event = match order {
            Some(order) => event(order, None),
            None if batch.is_empty() => return Vec::new(),
            None => queue::event(&batch),
        };
        let from = Instant::now();
        let invoked = function.invoke_within(&event, timeout).await;
        let (to, answer) = (Instant::now(), invoked.json());
        let failed = queue::failed(&answer);
        self.queue.finish(&batch, failed.as_ref());
        let outcome = answer.get("outcome").and_then(Value::as_str).map(str::to_owned);
        let direct = order.map(|it| (String::new(), it.out_trade_no.clone(), Answer::Direct(outcome)));
        let messages = batch.into_iter().filter_map(|Received { message_id, record }| {
            let body: Value = serde_json::from_str(record.get("body")?.as_str()?).ok()?;
            let is_acknowledged = failed.as_ref().is_some_and(|failed| !failed.contains(&message_id));
            Some((message_id, body.get("out_trade_no")?.as_str()?.to_owned(), Answer::Message { is_acknowledged }))
        });
        let invocations = direct.into_iter().chain(messages).map(|(message_id, out_trade_no, answer)| Invocation {
            ids: [invoked.ids.request_id.clone(), message_id, out_trade_no],
            answer,
            from,
            to,
            is_in_time: matches!(invoked.outcome, Outcome::Answered(_)) && invoked.took < timeout,
            has_time: timeout >= TIME_TO_QUERY,
            incidents: Vec::new(),
            lines: Vec::new(),
        });
        invocations.collect()
    }

    /// Sends the messages of a job's orders, and the payers on their way.
    fn begin(&self, job: &Job) {
        for index in job.orders.clone() {
            let Some(order) = self.plan.orders.get(index) else { continue };
            if let Some(delay) = order.is_paid_after {
                let (gateway, out_trade_no) = (self.sandbox.gateway.clone(), order.out_trade_no.clone());
                tokio::spawn(async move {
                    sleep(delay).await;
                    gateway.pay(&out_trade_no);
                });
            }
            let close_at = order.due_in.map(|due_in| SystemTime::now() + due_in);
            if let Some(history) = lock(&self.record).orders.get_mut(index) {
                history.due = order.due_in.and_then(|due_in| (Instant::now() + due_in).checked_sub(MARGIN));
            }
            for _ in 0..order.messages {
                let _ = self.queue.send(&event(order, close_at).to_string(), Duration::ZERO);
            }
        }
    }

    /// Remembers a merchant's keys, as far as they would show in a log: of the private one a line.
    pub(super) fn keep_secret(&self, identity: &Identity) {
        let private = identity.v3.key.private_pem().lines().nth(1).map(str::to_owned);
        lock(&self.record).secrets.extend([identity.api_key.clone()].into_iter().chain(private));
    }

    /// Puts on record what the function's log says of these invocations' orders.
    fn read_lines(&self, invocations: Vec<Invocation>, lines: &[Value]) {
        let text = |line: &Value, name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut read: HashMap<[String; 3], Vec<Line>> = HashMap::new();
        for line in lines {
            let count = |name: &str| line.get(name).and_then(Value::as_u64).unwrap_or_default();
            let key = ["requestId", "message_id", "out_trade_no"].map(|name| text(line, name));
            read.entry(key).or_default().push(Line {
                outcome: text(line, "outcome"),
                is_confirmed: line.get("confirmed") == Some(&Value::Bool(true)),
                requests: ["attempts", "queries"].map(count),
            });
        }
        for mut it in invocations {
            let [.., out_trade_no] = &it.ids;
            if let Some(history) = lock(&self.record).of(out_trade_no) {
                it.lines = read.remove(&it.ids).unwrap_or_default();
                it.incidents = self.incidents(&history.planned.merchant, it.from, it.to);
                history.invocations.push(it);
            }
        }
    }

    /// Puts on record what the mocks know of each order.
    fn read_mocks(&self) {
        let mut record = lock(&self.record);
        let invalid_orders = self.queue.invalid_orders();
        for history in &mut record.orders {
            let out_trade_no = &history.planned.out_trade_no;
            history.truth = truth(self.sandbox.gateway.order(out_trade_no));
            history.is_set_aside = invalid_orders.iter().any(|it| it.body.contains(out_trade_no));
        }
        for received in self.sandbox.gateway.received() {
            if let Some(history) = received.fields.get("out_trade_no").and_then(|number| record.of(number)) {
                let is_merchants_own = is_merchants_own(&received, history);
                history.requests.push(Request { call: received.call, at: received.at, is_merchants_own });
            }
        }
        for event in self.sandbox.events.events() {
            match event.detail.get("out_trade_no").and_then(|number| record.of(number.as_str()?)) {
                Some(history) => history.events.push(event),
                None => record.stray_events += 1,
            }
        }
        record.dead_letters = self.queue.left().1;
    }
}

/// Whether a request names its order's merchant, and has a signature that is this merchant's: the keys are those that its
/// invocation began with, or later ones.
fn is_merchants_own(received: &gateway::Received, history: &History) -> bool {
    let Merchant { identity: Identity { mch_id, .. }, flaw } = &history.planned.merchant;
    let signed_for = format!("mchid=\"{mch_id}\"");
    let is_named = received.fields.get("mch_id") == Some(mch_id)
        && received.headers.get("authorization").is_none_or(|signature| signature.contains(&signed_for));
    let is_rejected =
        received.status == Some(401) || received.reply.as_ref().is_some_and(|reply| reply.contains("签名错误"));
    let had_other_keys =
        |it: &Invocation| it.is_during(received.at) && it.incidents.iter().any(Incident::is_in_secrets);
    let may_be_rejected = *flaw == Some(Flaw::WrongKey) || history.invocations.iter().any(had_other_keys);
    is_named && (!is_rejected || may_be_rejected)
}

/// The event about an order.
fn event(order: &PlannedOrder, close_at: Option<SystemTime>) -> Value {
    json!({
        "mch_id": order.merchant.identity.mch_id,
        "sub_mch_id": order.sub_mch_id,
        "out_trade_no": order.out_trade_no,
        "confirm": order.confirm,
        "close_at": close_at.map(rfc3339),
        "time_start": order.is_invalid.then_some("yesterday"),
    })
}

/// A time as `close_at` has it.
fn rfc3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let (date, [hour, minute, second]) = (time.date(), [time.hour(), time.minute(), time.second()]);
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{:03}Z", time.millisecond())
}
