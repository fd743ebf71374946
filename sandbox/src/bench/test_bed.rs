//! What is around a program while it is measured: the mocks over TLS, orders to close, and a check of what became of them.

use std::{
    io::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{
    processor::Processors,
    program::{Kind, Program},
};
use crate::{
    Sandbox,
    mock::event_bus,
    mock::function::{Function, FunctionBuilder, Invocation},
    mock::gateway::{Call, Endpoint, Gateway, TradeState},
    mock::identity::Api,
    mock::runtime::Deadline,
    mock::tls::Authority,
};

/// The variables that name a file of roots: the function's own, Node.js's, and those of AWS's and Python's libraries.
const ROOTS: [&str; 4] = ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"];

/// The secret of a function that speaks API v3.
const SECRET_V3: &str = "wechat-pay-v3";

/// How long an invocation may take.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct TestBed {
    pub(super) sandbox: Sandbox,
    processors: Processors,
    /// The certificate that the programs trust; the file is deleted when this is dropped.
    authority: NamedTempFile,
    orders: AtomicU64,
}

/// An event, the orders in it, and what is to become of each.
pub(super) struct Event {
    text: String,
    orders: Vec<String>,
    /// Whether they come from the queue: a query follows each close, and each outcome is published.
    is_batch: bool,
}

impl TestBed {
    pub(super) async fn start(processors: Processors) -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        let sandbox = Sandbox::start_over_tls(&authority).await?;
        sandbox.secrets.put(SECRET_V3, &sandbox.identity.with_api(Api::V3).secret());
        let mut file = NamedTempFile::with_suffix(".pem")?;
        file.write_all(authority.pem().as_bytes())?;
        Ok(Self { sandbox, processors, authority: file, orders: AtomicU64::new(0) })
    }

    pub(super) fn gateway(&self) -> &Gateway {
        &self.sandbox.gateway
    }

    /// The gateway's own share of the last exchange with it: for API v3 two RSA operations, which cost more than the
    /// function's own work.
    pub(super) fn gateway_time(&self, program: &Program) -> Duration {
        if program.kind == Kind::Baseline {
            return Duration::ZERO;
        }
        self.gateway().endpoints().first().map(Endpoint::turnaround).unwrap_or_default()
    }

    /// The program, ready to be started.
    pub(super) fn function(&self, program: &Program) -> FunctionBuilder {
        let authority = self.authority.path().to_string_lossy();
        program.function(|path| {
            let function = self.sandbox.function(path).timeout(TIMEOUT);
            let function = match program.api {
                Api::V2 => function,
                Api::V3 => function.env("WECHAT_PAY_SECRET_ID", SECRET_V3),
            };
            ROOTS.into_iter().fold(function, |function, name| function.env(name, &authority))
        })
    }

    /// The program as a function with outcome events, ready to be started.
    pub(super) fn function_with_events(&self, program: &Program) -> FunctionBuilder {
        let environment = self.sandbox.events_environment();
        environment.into_iter().fold(self.function(program), |function, (name, value)| function.env(name, &value))
    }

    /// Starts a function where functions run.
    ///
    /// # Errors
    /// When it can't be run.
    pub(super) async fn spawn(&self, function: FunctionBuilder) -> anyhow::Result<Function> {
        let _there = self.processors.visit()?;
        function.spawn().await
    }

    /// A direct call with a new order, as `events/close-order.json` is one.
    pub(super) fn one_order(&self) -> Event {
        let order = self.new_order();
        Event { text: order_json(&order).to_string(), orders: vec![order], is_batch: false }
    }

    /// An SQS batch of new orders, as `events/sqs.json` is one.
    pub(super) fn batch(&self, size: u16) -> Event {
        let orders: Vec<String> = std::iter::repeat_with(|| self.new_order()).take(size.into()).collect();
        let records = orders.iter().map(|order| {
            json!({
                "messageId": order,
                "receiptHandle": "MessageReceiptHandle",
                "body": order_json(order).to_string(),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1523232000000"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:orders",
                "awsRegion": "eu-central-1",
            })
        });
        let text = json!({"Records": records.collect::<Vec<_>>()}).to_string();
        Event { text, orders, is_batch: true }
    }

    fn new_order(&self) -> String {
        let order = format!("{:028}", self.orders.fetch_add(1, Ordering::Relaxed));
        self.gateway().put_order(&order, TradeState::NotPay);
        order
    }

    /// Hands an event to a function and checks that the answer is the right one; what the function did meanwhile is for
    /// `look` to find out, before anything else happens.
    ///
    /// # Errors
    /// When the answer is not the right one.
    pub(super) async fn invoke<T>(
        &self,
        program: &Program,
        function: &mut Function,
        event: Event,
        look: impl FnOnce(&Function) -> Option<T>,
    ) -> anyhow::Result<T> {
        let invocation = function.invoke_text(event.text.clone(), Deadline::After(TIMEOUT)).await;
        let seen = look(function);
        let is_right = match program.kind {
            Kind::Baseline => invocation.text() == event.text,
            Kind::CloseOrder | Kind::Peer => self.is_closed(&event, program.api, &invocation),
        };
        ensure!(
            is_right,
            "{} did not close the order as expected: {:?}; it logged: {}",
            program.name,
            invocation.outcome,
            function.logs()
        );
        self.gateway().clear_received();
        self.sandbox.events.clear();
        seen.with_context(|| format!("{} is gone", program.name))
    }

    /// Whether all orders are closed and the answer says so, each cost its one exchange, or with a query its two, and has
    /// its event if there are events.
    fn is_closed(&self, event: &Event, api: Api, invocation: &Invocation) -> bool {
        let received = self.gateway().received();
        let exchanges = |order: &String| {
            let of_the_order = received.iter().filter(|it| it.fields.get("out_trade_no") == Some(order));
            of_the_order.map(|it| (it.api, it.call)).collect::<Vec<_>>()
        };
        let calls: &[Call] = if event.is_batch { &[Call::CloseOrder, Call::OrderQuery] } else { &[Call::CloseOrder] };
        let expected: Vec<_> = calls.iter().map(|&call| (Some(api), Some(call))).collect();
        let mut published: Vec<String> = self.sandbox.events.events().iter().map(published_order).collect();
        published.sort_unstable();
        says_closed(invocation)
            && published == if event.is_batch { event.orders.as_slice() } else { &[] }
            && event
                .orders
                .iter()
                .all(|order| self.gateway().order(order) == Some(TradeState::Closed) && exchanges(order) == expected)
    }
}

fn order_json(out_trade_no: &str) -> Value {
    json!({"sub_mch_id": "1900000109", "out_trade_no": out_trade_no, "nonce_str": "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"})
}

fn published_order(event: &event_bus::Event) -> String {
    event.detail.get("out_trade_no").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Whether this is what a direct call or SQS gets when all orders are closed.
fn says_closed(invocation: &Invocation) -> bool {
    let answer = invocation.json();
    match answer.get("batchItemFailures") {
        Some(failures) => failures.as_array().is_some_and(Vec::is_empty),
        None => ["returnCode", "resultCode"].iter().all(|name| answer.get(name).is_some_and(|code| code == "SUCCESS")),
    }
}
