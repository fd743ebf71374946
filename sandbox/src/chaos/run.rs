//! The run of one merchant's part of the plan: functions that work off the jobs side by side, and the incidents.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use super::{
    history::{Answer, Claim, Exchange, History, Published, Reply, Statement},
    ledger::Ledger,
    plan::{Incident, Job, MerchantPlan, Part, Work},
};
use crate::{
    Sandbox,
    mock::{
        event_bus,
        function::{Function, Invocation, Outcome, SECRET_ACCESS_KEY, SESSION_TOKEN},
        gateway::{Fault, OPENID, Times, TradeState},
        identity::MchType,
        lock,
    },
};

/// How long one attempt at the gateway may take, in milliseconds.
const ATTEMPT_MS: &str = "300";

/// How often a direct call that is not settled is made again, as asynchronous invocation does after a function error, and
/// how often SQS hands over a message before it goes to the dead-letter queue.
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
    statements: Mutex<HashMap<usize, Vec<Statement>>>,
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
    /// Each order's index, its state before, and what the caller got.
    orders: Vec<(usize, Option<TradeState>, Answer)>,
    is_batch: bool,
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
        if planned.is_forged {
            sandbox.gateway.fault_on_order(&planned.out_trade_no, Times::Always, Fault::Forge);
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
        statements: Mutex::default(),
        sandbox,
        plan,
    });
    let settled = Arc::new(settled);
    let mut workers = JoinSet::new();
    for (index, function) in started.into_iter().enumerate() {
        let (run, settled) = (Arc::clone(&run), Arc::clone(&settled));
        workers.spawn(async move { run.work(index, function, &*settled).await });
    }
    while let Some(worked) = workers.join_next().await {
        worked??;
    }
    Ok(run.close(start))
}

impl Run {
    /// One function's work, until nothing is left to do.
    async fn work(
        &self,
        index: usize,
        mut function: Function,
        settled: &(impl Fn(usize) + Sync),
    ) -> anyhow::Result<()> {
        let mut invocations = Vec::new();
        let mut early = None;
        loop {
            let turn = lock(&self.turns).pop_front();
            let Some(turn) = turn else { break };
            if turn.earlier == 0 {
                self.change_incidents().await?;
            }
            let orders = turn.job.work.orders().to_vec();
            let states: Vec<_> = orders.iter().map(|&order| self.state(order)).collect();
            self.send_payers(&turn);
            let from = Instant::now();
            let event = match &turn.job.work {
                Work::Direct(order) => self.event(*order),
                Work::Batch(orders) => self.batch(orders),
            };
            let invocation = function.invoke_within(&event, turn.job.timeout).await;
            let to = Instant::now();
            lock(&self.ledger).invoked(&invocation, turn.job.timeout);
            let is_batch = matches!(turn.job.work, Work::Batch(_));
            let timeout = turn.job.timeout;
            let answers = self.settle(turn, &invocation, settled);
            let orders = orders.into_iter().zip(states).zip(answers);
            let orders = orders.map(|((order, state), answer)| (order, state, answer)).collect();
            let request_id = invocation.ids.request_id.clone();
            invocations.push(Invoked { request_id, from, to, orders, is_batch, timeout });
            if invocations.len() == WARM_UP {
                early = function.memory_kib("VmRSS");
            }
        }
        if let (Some(early), Some(late)) = (early, function.memory_kib("VmRSS")) {
            lock(&self.ledger).grown(late.saturating_sub(early));
        }
        let lines = invocations.iter().map(|invoked| invoked.orders.len()).sum();
        self.read_log(index, &invocations, &function.wait_for_order_lines(lines).await);
        lock(&self.ledger).log(&function.logs(), &self.secrets());
        Ok(())
    }

    fn state(&self, order: usize) -> Option<TradeState> {
        self.sandbox.gateway.order(&self.plan.orders.get(order)?.out_trade_no)
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
            })
        };
        json!({"Records": orders.iter().map(record).collect::<Vec<_>>()})
    }

    /// Finds out what the caller got for each order, and queues again what has to come back.
    fn settle(&self, turn: Turn, invocation: &Invocation, settled: &impl Fn(usize)) -> Vec<Answer> {
        let Turn { job: Job { work, timeout }, earlier } = turn;
        let (answers, again) = match work {
            Work::Direct(order) => {
                let claim = invocation.json().get("outcome").and_then(Claim::read);
                let comes_back = !claim.is_some_and(Claim::is_final) && earlier < DIRECT_RETRIES;
                if !comes_back {
                    settled(1);
                }
                (vec![Answer::Direct(claim)], comes_back.then_some(Work::Direct(order)))
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

    /// Reads what a function's log says of its invocations' orders.
    fn read_log(&self, function: usize, invocations: &[Invoked], lines: &[Value]) {
        let text = |line: &Value, name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut by_order: HashMap<(String, String), Vec<&Value>> = HashMap::new();
        for line in lines {
            by_order.entry((text(line, "requestId"), text(line, "out_trade_no"))).or_default().push(line);
        }
        for invoked in invocations {
            for &(order, state_before, answer) in &invoked.orders {
                let Some(planned) = self.plan.orders.get(order) else { continue };
                let key = (invoked.request_id.clone(), planned.out_trade_no.clone());
                let lines = by_order.remove(&key).unwrap_or_default();
                let claims = lines.iter().filter_map(|line| Some((*line, Claim::read(line.get("outcome")?)?)));
                let claims: Vec<(&Value, Claim)> = claims.collect();
                lock(&self.ledger).logged(claims.len(), &planned.out_trade_no);
                let statements = claims.into_iter().map(|(line, claim)| {
                    let count = |name: &str| line.get(name).and_then(Value::as_u64).unwrap_or_default();
                    let trade_state = text(line, "trade_state");
                    Statement {
                        claim,
                        is_proved: match claim {
                            Claim::Closed => matches!(trade_state.as_str(), "CLOSED" | "REVOKED"),
                            Claim::Paid => matches!(trade_state.as_str(), "SUCCESS" | "REFUND"),
                            _ => false,
                        },
                        requests: ["attempts", "queries"].map(count),
                        answer,
                        is_confirmed: planned.confirm.unwrap_or(invoked.is_batch) && invoked.timeout >= TIME_TO_QUERY,
                        state_before,
                        from: invoked.from,
                        to: invoked.to,
                        function,
                        incidents: self.incidents_during(invoked),
                    }
                });
                lock(&self.statements).entry(order).or_default().extend(statements);
            }
        }
    }

    fn incidents_during(&self, invoked: &Invoked) -> Vec<Part> {
        let incidents = lock(&self.incidents);
        let overlaps = |span: &&Span| span.from <= invoked.to && span.to.is_none_or(|to| invoked.from <= to);
        incidents.iter().filter(overlaps).map(|span| span.part).collect()
    }

    /// What may show nowhere.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = lock(&self.keys).clone();
        secrets.extend([OPENID, SECRET_ACCESS_KEY, SESSION_TOKEN].map(str::to_owned));
        secrets
    }

    /// Puts together what happened to each order, and enters it into the ledger.
    fn close(&self, start: Instant) -> Ledger {
        let gateway = &self.sandbox.gateway;
        let mut indexes = HashMap::new();
        let mut histories = Vec::new();
        let mut statements = std::mem::take(&mut *lock(&self.statements));
        for (index, planned) in self.plan.orders.iter().enumerate() {
            let mut history = History::new(planned.clone(), gateway.order(&planned.out_trade_no));
            history.statements = statements.remove(&index).unwrap_or_default();
            indexes.insert(planned.out_trade_no.as_str(), index);
            histories.push(history);
        }
        for received in gateway.received() {
            let order = received.fields.get("out_trade_no").and_then(|order| indexes.get(order.as_str()));
            if let Some(history) = order.and_then(|&order| histories.get_mut(order)) {
                history.exchanges.extend(Exchange::read(&received));
            }
        }
        mark_replays(&mut histories);
        let mut ledger = lock(&self.ledger).clone();
        let secrets = self.secrets();
        for event in self.sandbox.events.events() {
            let order = event.detail.get("out_trade_no").and_then(Value::as_str).and_then(|order| indexes.get(order));
            match order.and_then(|&order| Some((order, histories.get_mut(order)?))) {
                Some((order, history)) => history.published.push(self.published(&event, order, &secrets)),
                None => ledger.stray(&event),
            }
        }
        for history in &histories {
            ledger.enter(history);
        }
        let Queue { acknowledged, dead_lettered } = *lock(&self.queue);
        let messages = self.plan.jobs.iter().map(|job| match &job.work {
            Work::Direct(_) => 0,
            Work::Batch(orders) => orders.len(),
        });
        ledger.delivered(messages.sum(), acknowledged, dead_lettered);
        ledger.ran(lock(&self.incidents).len(), start.elapsed());
        ledger
    }

    fn published(&self, event: &event_bus::Event, order: usize, secrets: &[String]) -> Published {
        let field = |name: &str| event.detail.get(name).and_then(Value::as_str);
        let identity = &self.plan.identity;
        let sub_mch_id = (identity.mch_type == MchType::Partner).then_some(SUB_MCH_ID);
        let text = event.detail.to_string();
        let is_secret = |name| event.detail.get(name).is_some();
        let mistake = if (event.source.as_str(), event.detail_type.as_str()) != ("close-order", "Order Outcome") {
            Some("another source or type")
        } else if event.bus != event_bus::BUS {
            Some("another bus")
        } else if field("message_id") != Some(&message_id(order)) {
            Some("another message")
        } else if field("mch_id") != Some(&identity.mch_id) || field("sub_mch_id") != sub_mch_id {
            Some("another merchant")
        } else if secrets.iter().any(|secret| text.contains(secret))
            || ["openid", "sign", "nonce_str"].iter().any(is_secret)
        {
            Some("something secret")
        } else {
            None
        };
        Published { claim: event.detail.get("outcome").and_then(Claim::read), at: event.at, mistake }
    }
}

/// Marks what a function got for two orders. When the genuine exchange was in an invocation that was over before, the
/// function must notice the replay, which is then as good as nothing. When both were in the same invocation, it takes the
/// first for the genuine one, and either may be the first.
fn mark_replays(histories: &mut [History]) {
    let mut went_by = HashMap::new();
    let mut replayed = HashSet::new();
    for history in &*histories {
        for statement in &history.statements {
            let has_settled = matches!(statement.claim, Claim::Closed | Claim::Paid | Claim::NotFound);
            for exchange in history.exchanges_of(statement) {
                let Some(nonce) = exchange.nonce.clone() else { continue };
                if exchange.reply == Reply::Replayed {
                    replayed.insert((statement.function, statement.from, nonce));
                } else if has_settled && exchange.reply.settles() {
                    let end = went_by.entry((statement.function, nonce)).or_insert(statement.to);
                    *end = statement.to.min(*end);
                }
            }
        }
    }
    for history in histories {
        for statement in &history.statements {
            for exchange in history.exchanges.iter_mut().filter(|exchange| statement.is_during(exchange.at)) {
                let Some(nonce) = exchange.nonce.clone() else { continue };
                if exchange.reply != Reply::Replayed {
                    exchange.is_doubled |= replayed.contains(&(statement.function, statement.from, nonce));
                } else if went_by.get(&(statement.function, nonce)).is_some_and(|end| *end < statement.from) {
                    exchange.reply = Reply::Disturbed;
                }
            }
        }
    }
}

fn message_id(order: usize) -> String {
    format!("00000000-0000-4000-9000-{order:012}")
}

/// The ids of the messages that come back; `None`, for all of them, without an answer.
fn failures(invocation: &Invocation) -> Option<Vec<String>> {
    let Outcome::Answered(_) = &invocation.outcome else { return None };
    let answer = invocation.json();
    let failures = answer.get("batchItemFailures")?.as_array()?;
    Some(failures.iter().filter_map(|failure| Some(failure.get("itemIdentifier")?.as_str()?.to_owned())).collect())
}
