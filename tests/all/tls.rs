//! Connections: one file of roots for WeChat Pay and Secrets Manager, nobody else trusted, no proxy, and what is not HTTP.

use sandbox::{Sandbox, mock::gateway::TradeState, mock::tls::Authority};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

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

#[tokio::test]
async fn an_answer_that_is_not_http_is_told_as_that_and_another_endpoint_closes_the_order() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let not_http = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"-ERR unknown command 'POST'\r\n").await;
        }
    });
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.put_order(ORDER, TradeState::NotPay);
    let mut lost = function(&sandbox).env("WECHAT_PAY_ENDPOINTS", &not_http).start().await.unwrap();
    let invocation = lost.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "{invocation:?}");
    assert!(invocation.text().contains("[unknown]") && invocation.text().contains("not HTTP"), "{invocation:?}");
    let line = &lost.wait_for_order_lines(1).await[0];
    assert_eq!(line["attempts"], 3, "{line}");

    let both = format!("{not_http},{}", sandbox.gateway.urls());
    let mut function = function(&sandbox).env("WECHAT_PAY_ENDPOINTS", &both).start().await.unwrap();
    assert_eq!(function.invoke(&order(ORDER)).await.json()["outcome"], "closed");
    assert_eq!(function.wait_for_order_lines(1).await[0]["attempts"], 2);
}
