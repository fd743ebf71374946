//! The key: read when it must be, kept for a while, read anew when the sign is refused.

use std::time::Duration;

use sandbox::{
    Sandbox,
    mock::gateway::{Fault, Times, TradeState},
    mock::identity::Identity,
    mock::secrets::Failure,
};
use serde_json::{Value, json};

use crate::support::{ORDER, World, function, ms, order, world, world_with};

const ROTATED: &str = "ffffffffffffffffffffffffffffffff";

async fn with_ttl(seconds: &str) -> World {
    world_with(Identity::default(), |function| function.env("SECRET_CACHE_TTL_SECONDS", seconds)).await
}

/// Rotates the key at the gateway and in the secret.
fn rotate(world: &World) {
    let rotated = world.sandbox.identity.with_key(ROTATED);
    world.sandbox.gateway.set_identity(rotated.clone());
    world.sandbox.secrets.set(&rotated.secret());
}

#[tokio::test]
async fn the_secret_is_read_once_at_the_start_and_kept() {
    let mut world = world().await;
    assert_eq!(world.sandbox.secrets.reads(), 1);
    for number in 0..5 {
        world.function.invoke(&order(&number.to_string())).await;
    }
    assert_eq!(world.sandbox.secrets.reads(), 1);
}

#[tokio::test]
async fn the_start_waits_two_seconds_for_the_secret_and_no_longer() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.secrets.set_failure(Some(Failure::Hang));
    let start = std::time::Instant::now();
    let mut function = function(&sandbox).start().await.unwrap();
    assert!((ms(1900)..ms(3000)).contains(&start.elapsed()), "{:?}", start.elapsed());
    sandbox.secrets.set_failure(None);
    assert_eq!(function.invoke(&order(ORDER)).await.json()["returnCode"], "SUCCESS");
}

#[tokio::test]
async fn a_secret_that_cant_be_read_is_told_and_the_next_order_tries_again() {
    for failure in [
        Failure::AccessDenied,
        Failure::InternalError,
        Failure::Throttled,
        Failure::Unavailable,
        Failure::Hang,
        Failure::Reset,
    ] {
        let sandbox = Sandbox::start().await.unwrap();
        sandbox.secrets.set_failure(Some(failure));
        let mut function = function(&sandbox).start().await.unwrap();
        let invocation = function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{failure:?} {invocation:?}");
        assert!(invocation.text().contains("nothing was sent"), "{invocation:?}");
        assert!(sandbox.gateway.received().is_empty());
        sandbox.secrets.set_failure(None);
        assert_eq!(function.invoke(&order(ORDER)).await.json()["returnCode"], "SUCCESS", "{failure:?}");
    }
}

#[tokio::test]
async fn a_malformed_secret_is_told_by_field_and_never_by_value() {
    let key = Identity::default().api_key;
    let with = |name: &str, value: Value| {
        let mut secret = Identity::default().secret();
        secret[name] = value;
        secret.to_string()
    };
    for (secret, field) in [
        (key.clone(), "JSON object"),
        ("[]".to_owned(), "JSON object"),
        (format!("{{\"api_key\":\"{key}\""), "JSON object"),
        (with("appid", json!("")), "appid"),
        (with("mch_id", json!(1_230_000_109)), "mch_id"),
        (with("api_key", json!(key[1..])), "api_key"),
        (with("api_key", json!(null)), "api_key"),
        (with("sub_appid", json!("wx 1")), "sub_appid"),
        (with("sign_type", json!("SHA-1")), "sign_type"),
    ] {
        let sandbox = Sandbox::start().await.unwrap();
        sandbox.secrets.set_text(&secret);
        let mut function = function(&sandbox).start().await.unwrap();
        let invocation = function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{secret}: {invocation:?}");
        assert!(invocation.text().contains(field), "{secret}: {invocation:?}");
        let logs = function.logs();
        assert!(!invocation.text().contains(&key[1..]) && !logs.contains(&key[1..]), "{logs}");
        assert!(sandbox.gateway.received().is_empty());
    }
}

#[tokio::test]
async fn the_secret_is_read_again_when_its_time_has_come() {
    let mut world = with_ttl("1").await;
    rotate(&world);
    tokio::time::sleep(ms(1100)).await;
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["resultCode"], "SUCCESS");
    assert_eq!(world.sandbox.gateway.received().len(), 1, "with the new key at once");
}

#[tokio::test]
async fn while_secrets_manager_is_down_the_kept_secret_serves_on_with_a_warning() {
    for failure in [Failure::InternalError, Failure::Throttled, Failure::Hang, Failure::Reset, Failure::AccessDenied] {
        let mut world = with_ttl("1").await;
        world.sandbox.secrets.set_failure(Some(failure));
        tokio::time::sleep(ms(1100)).await;
        let reply = world.function.invoke(&order(ORDER)).await.json();
        assert_eq!(reply["resultCode"], "SUCCESS", "{failure:?}");
        let logs = world.function.logs();
        assert!(logs.contains("\"level\":\"WARN\"") && logs.contains("the secret can't be read"), "{logs}");
    }
}

#[tokio::test]
async fn a_secret_that_turns_out_malformed_is_not_papered_over() {
    let mut world = with_ttl("1").await;
    world.sandbox.secrets.set_text("{}");
    tokio::time::sleep(ms(1100)).await;
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{invocation:?}");
}

#[tokio::test]
async fn a_rotated_key_is_noticed_by_the_refusal_and_the_order_closed_with_the_new_one() {
    let mut world = world().await;
    rotate(&world);
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["resultCode"], "SUCCESS");
    assert_eq!(world.sandbox.gateway.order(ORDER), Some(TradeState::Closed));
    assert_eq!((world.sandbox.secrets.reads(), world.sandbox.gateway.received().len()), (2, 2));
}

#[tokio::test]
async fn each_way_in_which_a_changed_key_shows_has_the_secret_read_anew() {
    let refused = "<xml><return_code>FAIL</return_code><return_msg>签名错误,请检查</return_msg></xml>";
    for fault in [Fault::Error("SIGNERROR"), Fault::Body(refused.into()), Fault::Forge] {
        let mut world = world().await;
        // Another sub_appid makes it another secret, and the key stays right.
        let changed = Identity { sub_appid: Some("wxchanged".to_owned()), ..Identity::default() };
        world.sandbox.secrets.set(&changed.secret());
        world.sandbox.gateway.fault_on_next_calls(Times::Next(1), fault.clone());
        let reply = world.function.invoke(&order(ORDER)).await.json();
        assert_eq!(reply["returnCode"], "SUCCESS", "{fault:?}: {reply}");
        let received = world.sandbox.gateway.received();
        assert_eq!(received.len(), 2, "{fault:?}");
        assert_eq!(received[1].fields["sub_appid"], "wxchanged");
    }
}

#[tokio::test]
async fn a_key_that_stays_wrong_is_returned_as_it_is_and_hammers_nobody() {
    let mut world = world().await;
    world.sandbox.gateway.set_identity(world.sandbox.identity.with_key(ROTATED));
    for number in 0..5 {
        let reply = world.function.invoke(&order(&number.to_string())).await.json();
        assert_eq!((&reply["returnCode"], &reply["returnMsg"]), (&json!("FAIL"), &json!("签名错误")));
    }
    assert_eq!(world.sandbox.secrets.reads(), 2, "once at the start and once a minute");
    assert_eq!(world.sandbox.gateway.received().len(), 5);
    let lines = world.function.wait_for_order_lines(5).await;
    assert!(lines.iter().all(|line| line["outcome"] == "sign_refused"), "{lines:?}");
}

#[tokio::test]
async fn a_forged_reply_stays_unbelieved_after_the_secret_was_read_anew() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Forge);
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "{invocation:?}");
    assert_eq!((world.sandbox.secrets.reads(), world.sandbox.gateway.received().len()), (2, 1));
}

#[tokio::test]
async fn a_batch_that_meets_a_rotated_key_reads_the_secret_once() {
    let mut world = world().await;
    rotate(&world);
    let template = crate::support::event("sqs")["Records"][0].clone();
    let records: Vec<Value> = (0..10)
        .map(|number| {
            let mut record = template.clone();
            record["body"] = json!(order(&number.to_string()).to_string());
            record["messageId"] = json!(number.to_string());
            record
        })
        .collect();
    let answer = world.function.invoke(&json!({"Records": records})).await.json();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(world.sandbox.secrets.reads(), 2);
}

#[tokio::test]
async fn when_reading_anew_fails_the_reply_is_returned_as_it_is() {
    let mut world = world().await;
    rotate(&world);
    world.sandbox.secrets.set_failure(Some(Failure::AccessDenied));
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["returnMsg"], "签名错误");
    world.sandbox.secrets.set_failure(None);
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["returnMsg"], "签名错误", "not before a minute");
}

#[tokio::test]
async fn a_hanging_secrets_manager_does_not_outlast_the_invocation() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.secrets.set_failure(Some(Failure::Hang));
    let mut function = function(&sandbox).start().await.unwrap();
    let invocation = function.invoke_within(&order(ORDER), Duration::from_secs(1)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{invocation:?}");
    assert!(sandbox.gateway.received().is_empty(), "and so nothing was sent");
}

#[tokio::test]
async fn while_secrets_manager_hangs_short_invocations_go_on_with_the_kept_secret() {
    let mut world = with_ttl("1").await;
    world.sandbox.secrets.set_failure(Some(Failure::Hang));
    for number in ["1", "2", "3"] {
        tokio::time::sleep(ms(1100)).await;
        let invocation = world.function.invoke_within(&order(number), Duration::from_secs(3)).await;
        assert_eq!(invocation.json()["resultCode"], "SUCCESS", "{invocation:?}");
    }
}

#[tokio::test]
async fn a_reply_in_hand_is_not_lost_while_the_secret_is_read_anew() {
    for time in [700, 3000] {
        let mut world = world().await;
        world.sandbox.secrets.set_failure(Some(Failure::Hang));
        world.sandbox.gateway.fault_on_order(ORDER, Times::Always, Fault::Error("SIGNERROR"));
        let invocation = world.function.invoke_within(&order(ORDER), ms(time)).await;
        assert_eq!(invocation.json()["err_code"], "SIGNERROR", "{time}: {invocation:?}");
    }
}

#[tokio::test]
async fn one_order_that_has_the_secret_read_anew_does_not_hold_up_the_others() {
    let mut world = world().await;
    world.sandbox.secrets.set_failure(Some(Failure::Hang));
    world.sandbox.gateway.fault_on_order("0", Times::Always, Fault::Error("SIGNERROR"));
    let template = crate::support::event("sqs")["Records"][0].clone();
    let records = (0..30).map(|number| {
        let mut record = template.clone();
        record["body"] = json!(order(&number.to_string()).to_string());
        record["messageId"] = json!(number.to_string());
        record
    });
    let event = json!({"Records": records.collect::<Vec<_>>()});
    let answer = world.function.invoke_within(&event, Duration::from_secs(3)).await.json();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "0"}]}));
}

#[tokio::test]
async fn a_sign_that_is_refused_at_the_last_try_has_the_secret_read_for_the_next_order() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_order("1", Times::Next(2), Fault::Status(500));
    rotate(&world);
    assert_eq!(world.function.invoke(&order("1")).await.json()["returnMsg"], "签名错误");
    assert_eq!((world.sandbox.gateway.received().len(), world.sandbox.secrets.reads()), (3, 2));
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["resultCode"], "SUCCESS");
    assert_eq!(world.sandbox.gateway.received().len(), 4, "with the new key at once");
}
