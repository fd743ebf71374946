//! HTTPS: one file of roots for WeChat Pay and Secrets Manager, and nobody else trusted.

use sandbox::{Sandbox, mock::gateway::TradeState, mock::tls::Authority};

use crate::support::{ORDER, function, order};

#[tokio::test]
async fn only_the_roots_of_ssl_cert_file_are_trusted_and_by_every_connection() {
    let authority = Authority::new().unwrap();
    let sandbox = Sandbox::start_over_tls(&authority).await.unwrap();
    sandbox.gateway.put_order(ORDER, TradeState::NotPay);
    let file = std::env::temp_dir().join(format!("close-order-roots-{}.pem", std::process::id()));

    std::fs::write(&file, Authority::new().unwrap().pem()).unwrap();
    for roots in [Some(file.to_str().unwrap()), None] {
        let builder = function(&sandbox);
        let builder = roots.into_iter().fold(builder, |builder, file| builder.env("SSL_CERT_FILE", file));
        let mut stranger = builder.start().await.unwrap();
        let invocation = stranger.invoke(&order(ORDER)).await;
        assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{invocation:?}");
        assert_eq!(sandbox.secrets.reads(), 0, "not even the request was seen");
    }

    std::fs::write(&file, authority.pem()).unwrap();
    let mut friend = function(&sandbox).env("SSL_CERT_FILE", file.to_str().unwrap()).start().await.unwrap();
    assert_eq!(friend.invoke(&order(ORDER)).await.json()["outcome"], "closed");
    assert_eq!(sandbox.gateway.order(ORDER), Some(TradeState::Closed));
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn no_proxy_of_the_environment_is_used() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.put_order(ORDER, TradeState::NotPay);
    let variables = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let proxied = variables.into_iter().fold(function(&sandbox), |it, name| it.env(name, "http://127.0.0.1:9"));
    let mut function = proxied.start().await.unwrap();
    assert_eq!(function.invoke(&order(ORDER)).await.json()["outcome"], "closed");
}
