//! What is around a program while it is measured: the mocks over TLS, orders to close, and a check of what became of them.

use std::{cell::Cell, collections::HashSet, io::Write, time::Duration};

use anyhow::{Context, ensure};
use core_affinity::CoreId;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::program::{Kind, Program};
use crate::{
    Sandbox,
    mock::function::{Function, FunctionBuilder, Invocation},
    mock::gateway::{Call, Endpoint, TradeState},
    mock::identity::Api,
    mock::queue::{self, Queue},
    mock::runtime::Deadline,
    mock::tls::Authority,
};

/// The variables that name a file of roots: the function's own, Node.js's, and those of AWS's and Python's libraries.
const ROOTS: [&str; 4] = ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"];

/// The secret of a function that speaks API v3.
const SECRET_V3: &str = "wechat-pay-v3";

/// How long an invocation may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Processors of their own: one for the program that is measured, one for everything around it.
///
/// A Lambda function of up to 1,769 MB has no more than one
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>), and it shares neither that one nor its caches
/// with WeChat Pay. Left to the system, a program runs now beside the mocks and now apart from them, and its figures vary
/// with it.
#[derive(Clone, Copy)]
pub(super) struct Processors {
    programs: CoreId,
    surroundings: CoreId,
}

/// Gives the programs the last processor, since the first is the one that devices interrupt, and this thread, and those that
/// it starts, the one before it; `None`, and the system decides, where there is no other or processors can't be assigned.
pub(super) fn assign_processors() -> Option<Processors> {
    let cores = core_affinity::get_core_ids()?;
    let [.., surroundings, programs] = cores[..] else { return None };
    core_affinity::set_for_current(surroundings).then_some(Processors { programs, surroundings })
}

pub(super) struct TestBed {
    pub(super) sandbox: Sandbox,
    queue: Queue,
    processors: Option<Processors>,
    /// The certificate that the programs trust; the file is deleted when this is dropped.
    authority: NamedTempFile,
    orders: Cell<u64>,
}

/// An event, the orders in it, and what is to become of each.
pub(super) struct Event {
    text: String,
    orders: Vec<String>,
    /// Whether they come from the queue: a query follows each close, and each outcome is published.
    is_batch: bool,
}

impl TestBed {
    pub(super) async fn set_up(processors: Option<Processors>) -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        let sandbox = Sandbox::start_over_tls(&authority).await?;
        sandbox.secrets.put(SECRET_V3, &sandbox.identity.with_api(Api::V3).secret());
        let queue = Queue::start(([127, 0, 0, 1], 0).into(), TIMEOUT, 1).await?;
        let mut file = NamedTempFile::with_suffix(".pem")?;
        file.write_all(authority.pem().as_bytes())?;
        Ok(Self { sandbox, queue, processors, authority: file, orders: Cell::default() })
    }

    /// The first endpoint, the only one that is used as long as all goes well.
    #[expect(clippy::expect_used, reason = "the sandbox has two endpoints")]
    pub(super) fn endpoint(&self) -> &Endpoint {
        self.sandbox.gateway.endpoints().first().expect("an endpoint")
    }

    /// The gateway's own share of the last exchange with it: for API v3 two RSA operations, which cost more than the
    /// function's own work.
    pub(super) fn gateway_time(&self, program: &Program) -> Duration {
        if program.kind == Kind::Baseline { Duration::ZERO } else { self.endpoint().turnaround() }
    }

    /// The program, ready to be started.
    pub(super) fn function(&self, program: &Program) -> FunctionBuilder {
        let authority = self.authority.path().to_string_lossy().into_owned();
        let function = self.sandbox.function(&program.path).timeout(TIMEOUT);
        let function = function.envs(ROOTS.map(|name| (name, authority.clone())));
        let function = match program.kind {
            Kind::CloseOrder(Api::V3) => function.env("WECHAT_PAY_SECRET_ID", SECRET_V3),
            _ => function,
        };
        program.script.iter().fold(function, |function, script| function.arg(&script.to_string_lossy()))
    }

    /// Starts a program where programs run and has it answer its first event; the time from just before its process begins
    /// until that answer has come.
    pub(super) async fn start(
        &self,
        program: &Program,
        function: FunctionBuilder,
    ) -> anyhow::Result<(Function, Duration)> {
        // What a thread starts stays where the thread is.
        self.processors.map(|it| core_affinity::set_for_current(it.programs));
        let spawned = function.spawn().await;
        self.processors.map(|it| core_affinity::set_for_current(it.surroundings));
        let mut function = spawned?;
        self.invoke(program, &mut function, self.one_order()).await?;
        let (spawned, moments) = function.moments();
        let took = moments.answered.context("it answered")? - spawned;
        Ok((function, took))
    }

    /// A direct call with a new order, as `events/close-order.json` is one.
    pub(super) fn one_order(&self) -> Event {
        let order = self.new_order();
        Event { text: order_json(&order).to_string(), orders: vec![order], is_batch: false }
    }

    /// An SQS batch of new orders.
    pub(super) fn batch(&self, size: u16) -> Event {
        let orders: Vec<String> = std::iter::repeat_with(|| self.new_order()).take(size.into()).collect();
        for order in &orders {
            let _ = self.queue.send(&order_json(order).to_string(), Duration::ZERO);
        }
        let batch = self.queue.receive(size.into());
        self.queue.finish(&batch, Some(&HashSet::new()));
        Event { text: queue::event(&batch).to_string(), orders, is_batch: true }
    }

    fn new_order(&self) -> String {
        let order = format!("{:028}", self.orders.replace(self.orders.get() + 1));
        self.sandbox.gateway.put_order(&order, TradeState::NotPay);
        order
    }

    /// Hands an event to a function and checks that the answer is the right one; the time from the one to the other.
    pub(super) async fn invoke(
        &self,
        program: &Program,
        function: &mut Function,
        event: Event,
    ) -> anyhow::Result<Duration> {
        let invocation = function.invoke_text(event.text.clone(), Deadline::After(TIMEOUT)).await;
        let (_, moments) = function.moments();
        let is_right = match program.kind {
            Kind::Baseline => invocation.text() == event.text,
            Kind::CloseOrder(api) => self.is_closed(&event, api, &invocation),
            Kind::Peer => self.is_closed(&event, Api::V2, &invocation),
        };
        let (name, outcome, logs) = (&program.name, &invocation.outcome, function.logs());
        ensure!(is_right, "{name} did not close the order as expected: {outcome:?}; it logged: {logs}");
        self.sandbox.gateway.clear_received();
        self.sandbox.events.clear();
        Ok(moments.answered.zip(moments.handed_over).map(|(to, from)| to - from).unwrap_or_default())
    }

    /// Whether all orders are closed and the answer says so, each cost its one exchange, or with a query its two, and has
    /// its event if there are events.
    fn is_closed(&self, event: &Event, api: Api, invocation: &Invocation) -> bool {
        let (gateway, count) = (&self.sandbox.gateway, event.orders.len());
        let queries_and_events = if event.is_batch { count } else { 0 };
        says_closed(&invocation.json())
            && event.orders.iter().all(|order| gateway.order(order) == Some(TradeState::Closed))
            && gateway.received().iter().all(|it| it.api == Some(api))
            && [gateway.count(Call::CloseOrder), gateway.count(Call::OrderQuery)] == [count, queries_and_events]
            && self.sandbox.events.events().len() == queries_and_events
    }
}

fn order_json(out_trade_no: &str) -> Value {
    json!({"sub_mch_id": "1900000109", "out_trade_no": out_trade_no, "nonce_str": "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"})
}

/// Whether this is what a direct call or SQS gets when all orders are closed.
fn says_closed(answer: &Value) -> bool {
    match answer.get("batchItemFailures") {
        Some(failures) => *failures == json!([]),
        None => ["returnCode", "resultCode"].iter().all(|name| answer.get(name).is_some_and(|code| code == "SUCCESS")),
    }
}
