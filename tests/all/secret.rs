//! The key: read when it must be, cached for a while, read anew when a signature is rejected or does not match. What the
//! cache does in time is tested beside it, on a paused clock.

use sandbox::{
    Sandbox,
    mock::gateway::{Fault, Times, TradeState},
    mock::identity::Identity,
    mock::secrets::Failure,
};
use serde_json::{Value, json};

use crate::support::{ORDER, World, batch, function, ms, order, values, world, world_with};

const ROTATED: &str = "ffffffffffffffffffffffffffffffff";

/// A world whose function caches the secret for no time: each order reads it anew.
async fn uncached() -> World {
    world_with(Identity::default(), |function| function.env("SECRET_CACHE_TTL_SECONDS", "0")).await
}

/// Rotates the key at the gateway and in the secret.
fn rotate(world: &World) {
    let rotated = world.sandbox.identity.with_key(ROTATED);
    world.sandbox.gateway.set_identity(rotated.clone());
    world.sandbox.secrets.set(&rotated.secret());
}

#[tokio::test]
async fn the_secret_is_read_once_at_the_start_and_cached() {
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
async fn a_secret_that_cant_be_read_is_told_and_the_next_order_reads_again() {
    for (failure, cause) in [
        (Failure::AccessDenied, "Secrets Manager answered AccessDeniedException"),
        (Failure::NotFound, "Secrets Manager answered ResourceNotFoundException"),
        (Failure::DecryptionFailure, "Secrets Manager answered DecryptionFailure"),
        (Failure::InternalError, "Secrets Manager answered InternalServiceError"),
        (Failure::Throttled, "Secrets Manager answered ThrottlingException"),
        (Failure::Unavailable, "Secrets Manager answered with an error"),
        (Failure::Hang, "Secrets Manager did not answer in time"),
        (Failure::Reset, "Secrets Manager can't be reached: the connection was lost"),
    ] {
        let sandbox = Sandbox::start().await.unwrap();
        sandbox.secrets.set_failure(Some(failure));
        let mut function = function(&sandbox).start().await.unwrap();
        let invocation = function.invoke_within(&order(ORDER), ms(2000)).await;
        assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{failure:?} {invocation:?}");
        let text = invocation.text();
        assert!(text.contains("nothing was sent") && text.contains(cause), "{failure:?}: {text}");
        let line = &function.wait_for_order_lines(1).await[0];
        let expected = [json!("ERROR"), json!("not_sent"), json!("CredentialsUnavailable"), json!(cause)];
        assert_eq!(values(line, ["level", "outcome", "reason", "cause"]), expected, "{line}");
        assert!(sandbox.gateway.received().is_empty());
        sandbox.secrets.set_failure(None);
        assert_eq!(function.invoke(&order(ORDER)).await.json()["returnCode"], "SUCCESS", "{failure:?}");
    }
}

#[tokio::test]
async fn what_the_aws_settings_lack_is_named() {
    let sandbox = Sandbox::start().await.unwrap();
    for (variables, missing) in [
        (&["AWS_REGION", "AWS_DEFAULT_REGION"][..], "AWS_REGION is not set"),
        (&["AWS_ACCESS_KEY_ID"], "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set"),
    ] {
        let function = variables.iter().fold(function(&sandbox), |function, variable| function.env_remove(variable));
        let mut function = function.start().await.unwrap();
        let invocation = function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{invocation:?}");
        assert!(invocation.text().contains(missing), "{invocation:?}");
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
        (with("mch_type", json!("shop")), "mch_type"),
    ] {
        let sandbox = Sandbox::start().await.unwrap();
        sandbox.secrets.set_text(&secret);
        let mut function = function(&sandbox).start().await.unwrap();
        let invocation = function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{secret}: {invocation:?}");
        assert!(invocation.text().contains(field), "{secret}: {invocation:?}");
        function.wait_for_order_lines(1).await;
        let logs = function.logs();
        let warned = function.lines("the secret is malformed");
        assert!(warned.iter().all(|line| line["level"] == "WARN" && line["cause"].as_str().unwrap().contains(field)));
        assert!(!warned.is_empty(), "{logs}");
        assert!(!invocation.text().contains(&key[1..]) && !logs.contains(&key[1..]), "{logs}");
        assert!(sandbox.gateway.received().is_empty());
    }
}

#[tokio::test]
async fn a_secret_is_read_from_binary_and_behind_a_byte_order_mark() {
    let text = Identity::default().secret().to_string();
    let marked = format!("\u{feff}{text}");
    let mut world = uncached().await;
    for (number, binary) in (0..).zip([None, Some(text.as_bytes()), Some(marked.as_bytes())]) {
        match binary {
            None => world.sandbox.secrets.set_text(&marked),
            Some(binary) => world.sandbox.secrets.set_binary(binary),
        }
        let reply = world.function.invoke(&order(&number.to_string())).await.json();
        assert_eq!(reply["outcome"], "closed", "{number}: {reply}");
    }
}

#[tokio::test]
async fn the_secret_is_read_again_when_its_time_has_come() {
    let mut world = uncached().await;
    rotate(&world);
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["outcome"], "closed");
    assert_eq!(world.closed_at().len(), 1, "with the new key at once");
}

#[tokio::test]
async fn while_secrets_manager_is_down_the_cached_secret_serves_on_with_one_warning_and_no_other_line() {
    for (failure, cause) in [
        (Failure::InternalError, "Secrets Manager answered InternalServiceError"),
        (Failure::Throttled, "Secrets Manager answered ThrottlingException"),
        (Failure::Unavailable, "Secrets Manager answered with an error"),
        (Failure::Hang, "Secrets Manager did not answer in time"),
        (Failure::Reset, "Secrets Manager can't be reached: the connection was lost"),
    ] {
        let mut world = uncached().await;
        world.sandbox.secrets.set_failure(Some(failure));
        let invocation = world.function.invoke_within(&order(ORDER), ms(3000)).await;
        assert_eq!(invocation.json()["outcome"], "closed", "{failure:?}: {invocation:?}");
        world.function.wait_for_order_lines(1).await;
        let logs = world.function.logs();
        let warned = world.function.lines("the secret could not be read");
        assert_eq!(warned.len(), 1, "{logs}");
        let expected = [json!("WARN"), json!(cause), json!(true)];
        assert_eq!(values(&warned[0], ["level", "cause", "cached"]), expected, "{logs}");
        assert_eq!(logs.lines().count(), 3, "start, warning, order: {logs}");
    }
}

#[tokio::test]
async fn a_revoked_secret_is_not_used_any_more() {
    for (failure, code) in [
        (Failure::AccessDenied, "AccessDeniedException"),
        (Failure::NotFound, "ResourceNotFoundException"),
        (Failure::InvalidRequest, "InvalidRequestException"),
        (Failure::DecryptionFailure, "DecryptionFailure"),
    ] {
        let mut world = uncached().await;
        world.sandbox.secrets.set_failure(Some(failure));
        for _ in 0..2 {
            let invocation = world.function.invoke(&order(ORDER)).await;
            assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{code}: {invocation:?}");
            assert!(invocation.text().contains(code), "{invocation:?}");
        }
        let answer = world.function.invoke(&batch((0..10).map(|number| order(&number.to_string())))).await.json();
        assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 10, "{code}: {answer}");
        assert!(world.sandbox.gateway.received().is_empty(), "{code}");
        world.function.wait_for_order_lines(12).await;
        let warned = world.function.lines("the secret could not be read");
        assert!(!warned.is_empty() && warned.iter().all(|line| line["cached"] == false), "{warned:?}");
    }
}

#[tokio::test]
async fn a_secret_that_turns_malformed_is_not_covered_up_by_the_cached_one() {
    let mut world = uncached().await;
    world.sandbox.secrets.set_text("{}");
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{invocation:?}");
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn a_rotated_key_is_noticed_by_the_rejection_and_the_order_closed_with_the_new_one() {
    let mut world = world().await;
    rotate(&world);
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["outcome"], "closed");
    assert_eq!(world.sandbox.gateway.order(ORDER), Some(TradeState::Closed));
    assert_eq!((world.sandbox.secrets.reads(), world.closed_at().len()), (2, 2));
}

#[tokio::test]
async fn each_way_in_which_a_changed_key_shows_has_the_secret_read_anew() {
    for fault in [
        Fault::Error("SIGNERROR"),
        Fault::UnsignedFail("签名错误,请检查"),
        Fault::UnsignedFail("Sign Error"),
        Fault::UnsignedFail("invalid SIGNATURE"),
        Fault::Forge,
    ] {
        let mut world = world().await;
        // Another sub_appid makes it another secret, and the key stays right.
        let changed = Identity { sub_appid: Some("wxchanged".to_owned()), ..Identity::default() };
        world.sandbox.secrets.set(&changed.secret());
        world.sandbox.gateway.fault_on_next_calls(Times::Next(1), fault.clone());
        let reply = world.function.invoke(&order(ORDER)).await.json();
        assert_eq!(reply["outcome"], "closed", "{fault:?}: {reply}");
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
        assert_eq!(values(&reply, ["returnCode", "returnMsg", "outcome"]), ["FAIL", "签名错误", "rejected"]);
    }
    assert_eq!(world.sandbox.secrets.reads(), 2, "once at the start and once a minute");
    assert_eq!(world.sandbox.gateway.received().len(), 5);
    let lines = world.function.wait_for_order_lines(5).await;
    assert!(lines.iter().all(|line| line["reason"] == "signature" && line["level"] == "WARN"), "{lines:?}");
}

#[tokio::test]
async fn a_forged_reply_stays_unverified_after_the_secret_was_read_anew() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Forge);
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "{invocation:?}");
    assert_eq!((world.sandbox.secrets.reads(), world.closed_at().len()), (2, 1));
}

#[tokio::test]
async fn a_key_rotated_before_a_batch_of_ten_fails_none_of_it_and_costs_one_read() {
    let mut world = world().await;
    rotate(&world);
    let numbers: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    for number in &numbers {
        world.sandbox.gateway.put_order(number, TradeState::NotPay);
    }
    let answer = world.function.invoke(&batch(numbers.iter().map(|number| order(number)))).await.json();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert!(numbers.iter().all(|number| world.sandbox.gateway.order(number) == Some(TradeState::Closed)));
    assert_eq!(world.sandbox.secrets.reads(), 2);
}

#[tokio::test]
async fn when_reading_anew_fails_the_reply_is_returned_as_it_is() {
    let mut world = world().await;
    rotate(&world);
    world.sandbox.secrets.set_failure(Some(Failure::Unavailable));
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["returnMsg"], "签名错误");
    world.sandbox.secrets.set_failure(None);
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["returnMsg"], "签名错误", "not before a minute");
}

#[tokio::test]
async fn a_hanging_secrets_manager_does_not_outlast_the_invocation() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.secrets.set_failure(Some(Failure::Hang));
    let mut function = function(&sandbox).start().await.unwrap();
    let invocation = function.invoke_within(&order(ORDER), ms(1000)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{invocation:?}");
    assert!(sandbox.gateway.received().is_empty(), "and so nothing was sent");
}

#[tokio::test]
async fn a_reply_in_hand_is_not_lost_while_the_secret_is_read_anew() {
    for time in [700, 3000] {
        let mut world = world().await;
        world.sandbox.secrets.set_failure(Some(Failure::Hang));
        world.sandbox.gateway.fault_on_order(ORDER, Times::Always, Fault::Error("SIGNERROR"));
        let reply = world.function.invoke_within(&order(ORDER), ms(time)).await.json();
        assert_eq!(values(&reply, ["err_code", "outcome"]), ["SIGNERROR", "rejected"], "{time}: {reply}");
    }
}

#[tokio::test]
async fn one_order_that_has_the_secret_read_anew_does_not_hold_up_the_others() {
    let mut world = world().await;
    world.sandbox.secrets.set_failure(Some(Failure::Hang));
    world.sandbox.gateway.fault_on_order("0", Times::Always, Fault::Error("SIGNERROR"));
    let event = batch((0..30).map(|number| order(&number.to_string())));
    let answer = world.function.invoke_within(&event, ms(3000)).await.json();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "0"}]}));
}

#[tokio::test]
async fn a_key_that_is_read_anew_at_the_last_attempt_signs_the_query_and_the_next_order() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_order("1", Times::Next(2), Fault::Status(500));
    rotate(&world);
    let reply = world.function.invoke(&order("1")).await.json();
    assert_eq!(values(&reply, ["outcome", "confirmed"]), [json!("not_found"), json!(true)], "{reply}");
    assert_eq!((world.closed_at().len(), world.sandbox.secrets.reads()), (3, 2));
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["outcome"], "closed");
    assert_eq!(world.closed_at().len(), 4, "with the new key at once");
}

#[tokio::test]
async fn a_new_key_of_a_merchant_whom_the_order_does_not_fit_is_not_used() {
    let mut world = world().await;
    let rotated = world.sandbox.identity.with_key(ROTATED);
    world.sandbox.gateway.set_identity(rotated.clone());
    let mut secret = rotated.secret();
    secret["mch_type"] = json!("merchant");
    if let Some(fields) = secret.as_object_mut() {
        fields.remove("sub_appid");
    }
    world.sandbox.secrets.set(&secret);
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["returnMsg"], "签名错误");
    assert_eq!((world.closed_at().len(), world.sandbox.secrets.reads()), (1, 2));
}

#[tokio::test]
async fn a_cached_key_serves_an_order_that_has_less_time_than_a_hanging_refresh() {
    let mut world = uncached().await;
    world.sandbox.secrets.set_failure(Some(Failure::Hang));
    let answer = world.function.invoke_within(&order(ORDER), ms(1500)).await.json();
    assert_eq!(answer["outcome"], "closed", "{answer}");
    let event = batch((0..8).map(|number| order(&number.to_string())));
    let invocation = world.function.invoke_within(&event, ms(3000)).await;
    assert_eq!(invocation.json(), json!({"batchItemFailures": []}));
    assert!(invocation.took < ms(2500), "held up once, not eight times: {:?}", invocation.took);
}

#[tokio::test]
async fn a_connection_that_died_while_the_process_was_frozen_costs_no_order() {
    let mut world = uncached().await;
    world.sandbox.secrets.set_failure(Some(Failure::ResetOnReuse));
    let before = world.sandbox.secrets.reads();
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["outcome"], "closed");
    assert_eq!(world.sandbox.secrets.reads() - before, 2, "the SDK's second attempt brings the secret");
    assert!(world.function.lines("the secret could not be read").is_empty());
}
