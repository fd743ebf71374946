//! Any JSON as an event, through every trigger: nothing panics, and every event is answered in the form of one of them.
#![no_main]

use std::time::Duration;

use aws_sdk_secretsmanager::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
    orchestrator::HttpRequest,
    result::ConnectorError,
};
use close_order::{
    close_order::CloseOrder,
    fault::Fault,
    http_client,
    merchant::KeptMerchant,
    trigger,
    wechat_pay::{Endpoint, Endpoints, WechatPay},
};
use lambda_runtime::{Context, LambdaEvent};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

/// A Secrets Manager that is never there, so that no order is ever sent.
#[derive(Debug)]
struct Nobody;

impl HttpConnector for Nobody {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(Err(ConnectorError::user("nobody".into())))
    }
}

struct World {
    runtime: tokio::runtime::Runtime,
    close_order: CloseOrder,
}

thread_local! {
    static WORLD: World = {
        let secrets = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "fuzz"))
            .retry_config(RetryConfig::disabled())
            .http_client(http_client_fn(|_, _| SharedHttpConnector::new(Nobody)))
            .build();
        let secrets = KeptMerchant::new(Client::from_conf(secrets), "secret".to_owned(), Duration::ZERO);
        let http = http_client::new(rustls::RootCertStore::empty()).unwrap();
        let endpoints = Endpoints::new(Endpoint::parse("http://127.0.0.1:9").unwrap(), []);
        World {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            close_order: CloseOrder::new(secrets, WechatPay::new(http, Duration::from_millis(10)), endpoints),
        }
    };
}

fuzz_target!(|event: &str| {
    let Ok(payload) = RawValue::from_string(event.to_owned()) else { return };
    WORLD.with(|world| {
        let event = LambdaEvent::new(payload, Context::default());
        match world.runtime.block_on(trigger::answer(&world.close_order, event)) {
            Ok(answer) => {
                let answer = serde_json::to_value(&answer).unwrap();
                let is_answer = answer["returnCode"] == "FAIL"
                    || answer["batchItemFailures"].is_array()
                    || (400..=503).contains(&answer["statusCode"].as_u64().unwrap());
                assert!(is_answer, "{answer}");
            }
            // A batch with a message without an id has to come back as a whole.
            Err(fault) => {
                assert!(matches!(fault, Fault::CredentialsUnavailable { .. } | Fault::BadInput(_)), "{fault:?}");
            }
        }
    });
});
