//! The `close-order` function: reads its configuration, makes its clients once, fetches the secret ahead of the first
//! order and serves Lambda's events until Lambda ends it.

use std::{env, io::Write, process::ExitCode, time::Duration};

use close_order::{close_order::CloseOrder, config::Config, http_client, log, merchant, trigger, wechat_pay};
use lambda_runtime::{Runtime, service_fn, tower::util::MapRequestLayer};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long the start may wait for the secret; what it misses, the first order reads.
const PREPARATION: Duration = Duration::from_secs(2);

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
        match serve().await {
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
    } else {
        None
    }
}

async fn serve() -> Result<(), Error> {
    let config = Config::from_env()?;
    log::start(config.log);
    let http = http_client::new(config.roots)?;
    let secrets = merchant::secrets_manager(http.clone(), |variable| env::var(variable).ok());
    let close_order = CloseOrder::new(
        merchant::KeptMerchant::new(secrets, config.secret_id, config.secret_ttl),
        wechat_pay::WechatPay::new(http, config.timeout),
        wechat_pay::Endpoints::new(config.preferred_endpoint, config.other_endpoints),
    );
    close_order.prepare(PREPARATION).await;
    Runtime::new(service_fn(|event| trigger::answer(&close_order, event)))
        .layer(MapRequestLayer::new(trigger::json_only))
        .run()
        .await
}
