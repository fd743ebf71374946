//! Any JSON as an event, through every trigger: nothing panics, and every event is answered in the form of one of them,
//! or raised with an `errorType` of the contract.
#![no_main]

use std::time::Duration;

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
    orchestrator::HttpRequest,
    result::ConnectorError,
};
use close_order::{
    aws,
    close_order::CloseOrder,
    http_client,
    merchants::{Merchants, SecretId},
    trigger::Function,
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
    function: Function,
}

thread_local! {
    static WORLD: World = {
        let http = http_client::new(rustls::RootCertStore::empty()).unwrap();
        let variable = |name: &str| match name {
            "AWS_REGION" => Some("eu-central-1".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("fuzz".to_owned()),
            _ => None,
        };
        let settings = aws::settings(aws::Service::SecretsManager, http.clone(), variable).into_builder();
        let settings = settings.http_client(http_client_fn(|_, _| SharedHttpConnector::new(Nobody))).build();
        let endpoints = Endpoints::new(Endpoint::parse("http://127.0.0.1:9").unwrap(), []);
        let close_order = CloseOrder::new(
            Merchants::new(SecretId::One("secret".to_owned()), settings, Duration::ZERO),
            WechatPay::new(http),
            endpoints,
            Duration::from_millis(10),
        );
        World {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            function: Function::new(close_order, None, None),
        }
    };
}

fuzz_target!(|event: &str| {
    let Ok(payload) = RawValue::from_string(event.to_owned()) else { return };
    WORLD.with(|world| {
        let event = LambdaEvent::new(payload, Context::default());
        match world.runtime.block_on(world.function.handle(event)) {
            Ok(answer) => {
                let answer = serde_json::to_value(&answer).unwrap();
                let is_answer = answer["returnCode"] == "FAIL" && answer["outcome"] == "not_sent"
                    || answer["batchItemFailures"].is_array()
                    || (400..=503).contains(&answer["statusCode"].as_u64().unwrap());
                assert!(is_answer, "{answer}");
            }
            Err(raised) => {
                let error_types = ["CredentialsUnavailable", "UnsupportedEvent", "NotDue", "InvalidBatch"];
                assert!(error_types.contains(&raised.error_type.as_str()), "{raised:?}");
            }
        }
    });
});
