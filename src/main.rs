//! The `close-order` function: reads its configuration, makes its clients once, reads the secret ahead of the first order
//! and serves Lambda's events until Lambda ends it.

use std::{
    env,
    io::Write,
    num::ParseIntError,
    process::ExitCode,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use close_order::{
    aws, close_order::CloseOrder, config::Config, http_client, log, merchants::Merchants,
    outcome_events::OutcomeEvents, queue::Queue, trigger, wechat_pay,
};
use lambda_runtime::{
    LambdaInvocation, Runtime, service_fn,
    tower::{Service, layer::layer_fn, util::MapRequestLayer},
};
use tokio::sync::Notify;
use tracing::info;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long the start may wait for the secret; what it misses, the first order reads.
const PREFETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// What Lambda sets and its runtime can't do without.
const LAMBDA: [&str; 4] = [
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let complaint = if let Some(wrong) = wrong_for_the_runtime() {
        format!("close-order: {wrong}")
    } else if let Some(missing) = LAMBDA.into_iter().find(|variable| env::var_os(variable).is_none()) {
        format!(
            "close-order is an AWS Lambda function that closes WeChat Pay orders; {missing} is not set, so this is not Lambda.\n\
             To try it here, run: cargo run -p sandbox -- invoke events/close-order.json"
        )
    } else {
        match Box::pin(serve()).await {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => format!("close-order: {error}"),
        }
    };
    let _ = writeln!(std::io::stderr(), "{complaint}");
    ExitCode::FAILURE
}

/// What Lambda's runtime would panic over.
fn wrong_for_the_runtime() -> Option<&'static str> {
    let is_wrong = |variable: &str, is_right: fn(&str) -> bool| env::var(variable).is_ok_and(|value| !is_right(&value));
    if is_wrong("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", |size| size.parse::<i32>().is_ok()) {
        Some("AWS_LAMBDA_FUNCTION_MEMORY_SIZE is not a whole number; expected the function's memory in megabytes")
    } else if is_wrong("AWS_LAMBDA_RUNTIME_API", |api| reqwest::Url::parse(&format!("http://{api}")).is_ok()) {
        Some("AWS_LAMBDA_RUNTIME_API is not an address; expected host:port")
    } else if is_wrong("AWS_LAMBDA_MAX_CONCURRENCY", is_concurrency) {
        Some(
            "AWS_LAMBDA_MAX_CONCURRENCY is not a whole number from 1 to 10000; expected what Lambda Managed Instances set",
        )
    } else {
        None
    }
}

/// The runtime starts as many workers, each with a connection and memory of its own. An empty value is how templates say
/// that there is none.
fn is_concurrency(value: &str) -> bool {
    value.is_empty() || value.parse().is_ok_and(|workers: u32| (1..=10_000).contains(&workers))
}

async fn serve() -> Result<(), Error> {
    let start = Instant::now();
    let config = Config::from_env()?;
    log::start(config.log);
    let http = http_client::new(config.roots)?;
    let secrets = aws::settings(aws::Service::SecretsManager, http.clone(), |variable| env::var(variable).ok());
    let outcome_events = config.outcome_event_bus.map(|bus| OutcomeEvents::new(bus, http.clone()));
    let queue = config.queues.map(|(orders, invalid_orders)| Queue::new(orders, invalid_orders, http.clone()));
    let endpoints: Vec<_> =
        [&config.preferred_endpoint].into_iter().chain(&config.other_endpoints).map(ToString::to_string).collect();
    let close_order = CloseOrder::new(
        Merchants::new(config.secret_id, secrets, config.secret_ttl),
        wechat_pay::WechatPay::new(http),
        wechat_pay::Endpoints::new(config.preferred_endpoint, config.other_endpoints),
        config.timeout,
    );
    let account = close_order.prefetch(PREFETCH_TIMEOUT).await;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        endpoints = endpoints.join(","),
        mch_type = account.as_ref().map(|account| account.merchant().mch_type().as_str()),
        secret_read = account.is_some(),
        duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        "start"
    );

    let function = Arc::new(trigger::Function::new(close_order, outcome_events, queue));
    let worker_ended = Arc::new(Notify::new());
    let runtime = Runtime::new(service_fn(move |event| {
        let function = Arc::clone(&function);
        async move { function.handle(event).await }
    }))
    .layer(MapRequestLayer::new(trigger::json_only))
    .layer(layer_fn(|inner| Watched { inner, _ended: Ended(Arc::clone(&worker_ended)) }));
    tokio::select! {
        biased;
        () = worker_ended.notified() => Err(WORKER_ENDED.into()),
        // What the runtime says of an invocation that it can't read quotes the caller.
        ended = runtime.run_concurrent() => ended.map_err(|error| {
            if error.is::<serde_json::Error>() {
                UNREADABLE_CONTEXT.into()
            } else if error.is::<ParseIntError>() {
                UNREADABLE_DEADLINE.into()
            } else {
                error
            }
        }),
    }
}

const UNREADABLE_CONTEXT: &str = "an invocation's client context or Cognito identity (the headers \
                                  Lambda-Runtime-Client-Context and Lambda-Runtime-Cognito-Identity) has another form than \
                                  Lambda's runtime for Rust expects; the process ends, and Lambda starts another";
const UNREADABLE_DEADLINE: &str = "an invocation's deadline (the header Lambda-Runtime-Deadline-Ms) is not a whole number of \
                                   milliseconds; the process ends, and Lambda starts another";
const WORKER_ENDED: &str = "an invocation could not be read (its client context, Cognito identity or deadline has another form \
                            than Lambda's runtime for Rust expects), or Lambda's Runtime API could not be reached; the \
                            process ends, and Lambda starts another";

/// A service that tells when it is dropped. On Lambda Managed Instances each of the runtime's workers has one and drops it
/// when it ends; the runtime would go on with fewer workers for good.
#[derive(Clone)]
struct Watched<S> {
    inner: S,
    _ended: Ended,
}

#[derive(Clone)]
struct Ended(Arc<Notify>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl<S: Service<LambdaInvocation>> Service<LambdaInvocation> for Watched<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> S::Future {
        self.inner.call(invocation)
    }
}
