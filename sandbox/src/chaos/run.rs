//! The run of one merchant's part of the plan: functions that work off the jobs side by side, and the incidents.

mod readout;

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use super::{
    history::{Answer, Invocation, ReportedOutcome},
    ledger::Ledger,
    plan::{Incident, Job, MerchantPlan, Part, Work},
};
use crate::{
    Sandbox,
    mock::{
        function::{self, Function, Outcome, SECRET_ACCESS_KEY, SESSION_TOKEN},
        gateway::{OPENID, Times},
        identity::MchType,
        lock,
    },
};

/// How long one attempt at the gateway may take, in milliseconds.
const ATTEMPT_MS: &str = "300";

/// How often a direct call without a conclusive outcome is retried, as asynchronous invocation does after a function error,
/// and how often SQS hands over a message before it goes to the dead-letter queue: a run can't wait for the template's 480.
const DIRECT_RETRIES: u32 = 2;
const MAX_RECEIVES: u32 = 5;

/// How many invocations a function has before its memory is first read.
const WARM_UP: usize = 20;

/// A function's timeout with which there is time for a query of every order.
const TIME_TO_QUERY: Duration = Duration::from_secs(2);

/// The sub-merchant that a partner's orders are of.
const SUB_MCH_ID: &str = "1900000109";

/// A call or a batch, waiting for its turn.
#[derive(Clone, Debug)]
struct Turn {
    job: Job,
    /// How often it had its turn before.
    earlier: u32,
}

/// The run of one merchant's part.
struct Run {
    sandbox: Sandbox,
    plan: MerchantPlan,
    turns: Mutex<VecDeque<Turn>>,
    /// How many planned jobs have begun; held while incidents change, lest the end of one overtake its beginning.
    begun: tokio::sync::Mutex<usize>,
    incidents: Mutex<Vec<Span>>,
    /// Every key that there was.
    keys: Mutex<Vec<String>>,
    ledger: Mutex<Ledger>,
    queue: Mutex<Queue>,
    /// By the order's index.
    invocations: Mutex<HashMap<usize, Vec<Invocation>>>,
}

/// Where the messages went.
#[derive(Default)]
struct Queue {
    acknowledged: usize,
    dead_lettered: usize,
}

/// When an incident was.
struct Span {
    part: Part,
    from: Instant,
    to: Option<Instant>,
}

/// One invocation, until its log lines are read.
struct Invoked {
    request_id: String,
    from: Instant,
    to: Instant,
    /// Each order's index, and what the caller got.
    orders: Vec<(usize, Answer)>,
    timeout: Duration,
}

/// Runs it, and enters all of it into the ledger.
pub(super) async fn run(
    plan: MerchantPlan,
    program: &Path,
    functions: usize,
    ledger: Ledger,
    settled: impl Fn(usize) + Send + Sync + 'static,
) -> anyhow::Result<Ledger> {
    let start = Instant::now();
    let sandbox = Sandbox::start_as(plan.identity.clone()).await?;
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
        started.push(function.env("SECRET_CACHE_TTL_SECONDS", "1").start().await?);
    }
    let run = Arc::new(Run {
        turns: Mutex::new(plan.jobs.iter().map(|job| Turn { job: job.clone(), earlier: 0 }).collect()),
        begun: tokio::sync::Mutex::default(),
        incidents: Mutex::default(),
        keys: Mutex::new(vec![plan.identity.api_key.clone()]),
        ledger: Mutex::new(ledger),
        queue: Mutex::default(),
        invocations: Mutex::default(),
        sandbox,
        plan,
    });
    let settled = Arc::new(settled);
    let mut workers = JoinSet::new();
    for function in started {
        let (run, settled) = (Arc::clone(&run), Arc::clone(&settled));
        workers.spawn(async move { run.work(function, &*settled).await });
    }
    while let Some(worked) = workers.join_next().await {
        worked??;
    }
    Ok(run.close(start))
}

impl Run {
    /// One function's work, until nothing is left to do.
    async fn work(&self, mut function: Function, settled: &(impl Fn(usize) + Sync)) -> anyhow::Result<()> {
        let mut invocations = Vec::new();
        let mut early = None;
        loop {
            let turn = lock(&self.turns).pop_front();
            let Some(turn) = turn else { break };
            if turn.earlier == 0 {
                self.change_incidents().await?;
            }
            let orders = turn.job.work.orders().to_vec();
            self.send_payers(&turn);
            let from = Instant::now();
            let event = match &turn.job.work {
                Work::Direct(order) => self.event(*order),
                Work::Batch(orders) => self.batch(orders),
            };
            let invocation = function.invoke_within(&event, turn.job.timeout).await;
            let to = Instant::now();
            lock(&self.ledger).invoked(&invocation, turn.job.timeout);
            let timeout = turn.job.timeout;
            let answers = self.settle(turn, &invocation, settled);
            let orders = orders.into_iter().zip(answers).collect();
            let request_id = invocation.ids.request_id.clone();
            invocations.push(Invoked { request_id, from, to, orders, timeout });
            if invocations.len() == WARM_UP {
                early = function.memory_kib("VmRSS");
            }
        }
        if let (Some(early), Some(late)) = (early, function.memory_kib("VmRSS")) {
            lock(&self.ledger).grown(late.saturating_sub(early));
        }
        if let Some(descriptors) = function.descriptors() {
            lock(&self.ledger).open(descriptors);
        }
        let lines = invocations.iter().map(|invoked| invoked.orders.len()).sum();
        self.read_log(&invocations, &function.wait_for_order_lines(lines).await);
        lock(&self.ledger).log(&function.logs(), &self.secrets());
        Ok(())
    }

    /// Begins or ends the incidents that are planned for before the next planned job.
    async fn change_incidents(&self) -> anyhow::Result<()> {
        let mut begun = self.begun.lock().await;
        let job = *begun;
        *begun += 1;
        for &(_, incident) in self.plan.incidents.iter().filter(|(at, _)| *at == job) {
            let Sandbox { gateway, secrets, events, identity } = &self.sandbox;
            if !matches!(incident, Incident::Over(_)) {
                lock(&self.incidents).push(Span { part: incident.part(), from: Instant::now(), to: None });
            }
            match incident {
                Incident::EndpointDown(endpoint) => {
                    if let Some(endpoint) = gateway.endpoints().get(endpoint) {
                        endpoint.go_down().await;
                    }
                }
                Incident::GatewayDown => {
                    for endpoint in gateway.endpoints() {
                        endpoint.go_down().await;
                    }
                }
                Incident::KeyRotated => {
                    let rotated = identity.with_key(&format!("{job:032}"));
                    lock(&self.keys).push(rotated.api_key.clone());
                    gateway.set_identity(rotated.clone());
                    sleep(Duration::from_millis(20)).await;
                    secrets.set(&rotated.secret());
                }
                Incident::SecretsFail(failure) => secrets.set_failure(Some(failure)),
                Incident::SecretsSlow(delay) => secrets.set_delay(delay),
                Incident::EventsFail(failure) => events.set_failure(Some(failure)),
                Incident::Over(Part::Gateway) => {
                    for endpoint in gateway.endpoints() {
                        endpoint.come_up().await?;
                    }
                }
                Incident::Over(Part::Secrets) => {
                    secrets.set_failure(None);
                    secrets.set_delay(Duration::ZERO);
                }
                Incident::Over(Part::Events) => events.set_failure(None),
            }
            if let Incident::Over(part) = incident {
                let mut incidents = lock(&self.incidents);
                let last = incidents.iter_mut().rfind(|span| span.part == part);
                if let Some(span) = last {
                    span.to = Some(Instant::now());
                }
            }
        }
        Ok(())
    }

    /// Sends the payers of a job's orders on their way; the first time only.
    fn send_payers(&self, turn: &Turn) {
        for &order in turn.job.work.orders().iter().filter(|_| turn.earlier == 0) {
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
        let mut event = json!({"out_trade_no": planned.out_trade_no, "confirm": planned.confirm});
        if let Value::Object(fields) = &mut event {
            match self.plan.identity.mch_type {
                MchType::Partner => {
                    fields.insert("sub_mch_id".to_owned(), json!(SUB_MCH_ID));
                }
                // CloudPay's own users pass their own number.
                MchType::Merchant if order.is_multiple_of(2) => {
                    fields.insert("sub_mch_id".to_owned(), json!(self.plan.identity.mch_id));
                }
                MchType::Merchant => {}
            }
        }
        event
    }

    fn batch(&self, orders: &[usize]) -> Value {
        let record = |order: &usize| {
            json!({
                "messageId": message_id(*order), "receiptHandle": "r", "body": self.event(*order).to_string(),
                "attributes": {}, "messageAttributes": {}, "eventSource": "aws:sqs", "awsRegion": "eu-central-1",
                "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:close-order",
            })
        };
        json!({"Records": orders.iter().map(record).collect::<Vec<_>>()})
    }

    /// Finds out what the caller got for each order, and queues again what is retried or redelivered.
    fn settle(&self, turn: Turn, invocation: &function::Invocation, settled: &impl Fn(usize)) -> Vec<Answer> {
        let Turn { job: Job { work, timeout }, earlier } = turn;
        let (answers, again) = match work {
            Work::Direct(order) => {
                let outcome = invocation.json().get("outcome").and_then(ReportedOutcome::read);
                let is_retried = !outcome.is_some_and(ReportedOutcome::is_conclusive) && earlier < DIRECT_RETRIES;
                if !is_retried {
                    settled(1);
                }
                (vec![Answer::Direct(outcome)], is_retried.then_some(Work::Direct(order)))
            }
            Work::Batch(orders) => {
                let failures = failures(invocation);
                let has_failed = |order: &usize| failures.as_ref().is_none_or(|it| it.contains(&message_id(*order)));
                let failed: Vec<usize> = orders.iter().copied().filter(has_failed).collect();
                let is_last = earlier + 1 == MAX_RECEIVES;
                let mut queue = lock(&self.queue);
                queue.acknowledged += orders.len() - failed.len();
                queue.dead_lettered += if is_last { failed.len() } else { 0 };
                settled(orders.len() - if is_last { 0 } else { failed.len() });
                let answers =
                    orders.iter().map(|order| Answer::Message { is_acknowledged: !has_failed(order) }).collect();
                (answers, (!is_last && !failed.is_empty()).then_some(Work::Batch(failed)))
            }
        };
        if let Some(work) = again {
            lock(&self.turns).push_back(Turn { job: Job { work, timeout }, earlier: earlier + 1 });
        }
        answers
    }

    /// What may show nowhere.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = lock(&self.keys).clone();
        secrets.extend([OPENID, SECRET_ACCESS_KEY, SESSION_TOKEN].map(str::to_owned));
        secrets
    }
}

fn message_id(order: usize) -> String {
    format!("00000000-0000-4000-9000-{order:012}")
}

/// The ids of the messages that are redelivered; `None`, for all of them, without an answer.
fn failures(invocation: &function::Invocation) -> Option<Vec<String>> {
    let Outcome::Answered(_) = &invocation.outcome else { return None };
    let answer = invocation.json();
    let failures = answer.get("batchItemFailures")?.as_array()?;
    Some(failures.iter().filter_map(|failure| Some(failure.get("itemIdentifier")?.as_str()?.to_owned())).collect())
}
