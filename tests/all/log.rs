//! The log: one line for each order that says what became of it, one for each start, and nothing else unless it helps.

use sandbox::{
    Sandbox,
    mock::function::Invocation,
    mock::gateway::{Call, Fault, Times, TradeState, transaction_id},
    mock::identity::Identity,
    mock::secrets::Failure,
    mock::signed_xml,
};
use serde_json::{Value, json};

use crate::support::{ORDER, World, batch, beijing_time, function, order, values, wait_for_log, world, world_with};

const TARGET: &str = "close_order::close_order::order_log";

/// A line without what differs from run to run, which has to be there.
fn lasting(mut line: Value) -> Value {
    let fields = line.as_object_mut().unwrap();
    let timestamp = fields.remove("timestamp").unwrap();
    assert!(timestamp.as_str().unwrap().ends_with('Z'), "{timestamp}");
    assert!(fields.remove("duration_ms").unwrap().as_u64().unwrap() < 5000);
    line
}

/// What every line of a direct call about a valid order has, with what this one adds.
fn line(world: &World, invocation: &Invocation, number: u64, fields: &Value) -> Value {
    let trace_id = invocation.ids.trace_id.split(';').next().unwrap().strip_prefix("Root=").unwrap();
    let mut line = json!({
        "message": "order", "confirmed": false, "version": env!("CARGO_PKG_VERSION"), "target": TARGET, "mch_id": world.sandbox.identity.mch_id, "sub_mch_id": "1900000109",
        "endpoint": world.sandbox.gateway.endpoints()[0].url(), "attempts": 1, "queries": 0,
        "wechat_pay_request_id": format!("SANDBOX-{number:016X}-0"),
        "requestId": invocation.ids.request_id, "xray_trace_id": trace_id,
    });
    for (name, value) in fields.as_object().unwrap() {
        match value {
            Value::Null => line.as_object_mut().unwrap().remove(name),
            value => line.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    line
}

#[tokio::test]
async fn a_line_says_all_of_what_became_of_an_order_whatever_that_is() {
    let mut world = world().await;
    let gateway = world.sandbox.gateway.clone();
    gateway.put_order("paid", TradeState::Success);
    gateway.put_order("paying", TradeState::UserPaying);
    for (out_trade_no, fault) in [
        ("limited", Fault::Error("FREQUENCY_LIMITED")),
        ("no_permission", Fault::Error("NOAUTH")),
        ("mismatch", Fault::UnsignedFail("商户号mch_id与appid不匹配")),
        ("signature", Fault::UnsignedFail("签名错误")),
        ("rate", Fault::UnsignedFail("频率限制")),
        ("page", Fault::Edit(vec![("mch_id", Some("1".to_owned()))])),
    ] {
        gateway.fault_on_order_call(out_trade_no, Call::CloseOrder, Times::Always, fault);
        gateway.fault_on_order_call(out_trade_no, Call::OrderQuery, Times::Always, Fault::Error("SYSTEMERROR"));
    }
    let paid = transaction_id("paid");
    let mut exchanges = 1;
    for (place, (out_trade_no, confirm, fields)) in [
        (ORDER, false, json!({"level": "INFO", "outcome": "closed", "cold_start": true})),
        (
            ORDER,
            true,
            json!({"level": "INFO", "outcome": "closed", "confirmed": true, "reason": "ORDERCLOSED", "queries": 1,
            "trade_state": "CLOSED"}),
        ),
        ("paid", false, json!({"level": "INFO", "outcome": "paid", "reason": "ORDERPAID"})),
        (
            "paid",
            true,
            json!({"level": "INFO", "outcome": "paid", "confirmed": true, "reason": "ORDERPAID", "queries": 1,
            "trade_state": "SUCCESS", "transaction_id": paid}),
        ),
        ("nobody", true, json!({"level": "WARN", "outcome": "not_found", "confirmed": true, "reason": "ORDERNOTEXIST", "queries": 1})),
        (
            "paying",
            false,
            json!({"level": "WARN", "outcome": "open", "confirmed": true, "reason": "USERPAYING", "queries": 1,
            "err_code_des": "用户支付中,需要输入密码", "trade_state": "USERPAYING"}),
        ),
        (
            "limited",
            false,
            json!({"level": "WARN", "outcome": "unknown", "reason": "rate_limited", "queries": 1,
            "err_code_des": "频率限制", "query_cause": "SYSTEMERROR"}),
        ),
        (
            "no_permission",
            false,
            json!({"level": "WARN", "outcome": "rejected", "reason": "NOAUTH",
            "err_code_des": "系统错误"}),
        ),
        (
            "mismatch",
            true,
            json!({"level": "WARN", "outcome": "rejected", "reason": "unsigned_fail",
            "return_msg": "商户号mch_id与appid不匹配"}),
        ),
        (
            "signature",
            false,
            json!({"level": "WARN", "outcome": "rejected", "reason": "signature",
            "return_msg": "签名错误"}),
        ),
        (
            "rate",
            false,
            json!({"level": "WARN", "outcome": "unknown", "reason": "rate_limited",
            "return_msg": "频率限制"}),
        ),
        (
            "page",
            false,
            json!({"level": "ERROR", "outcome": "unknown", "reason": "ReplyInvalid", "queries": 1,
            "cause": "its mch_id is not the one that was sent", "query_cause": "SYSTEMERROR"}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut event = order(out_trade_no);
        event["confirm"] = json!(confirm);
        let invocation = world.function.invoke(&event).await;
        let mut expected = line(&world, &invocation, exchanges, &fields);
        expected["out_trade_no"] = json!(out_trade_no);
        assert_eq!(lasting(world.order_line(place + 1).await), expected, "{out_trade_no}");
        exchanges = 1 + u64::try_from(gateway.received().len()).unwrap();
    }
}

#[tokio::test]
async fn a_line_says_why_nothing_was_sent_and_names_the_order_as_far_as_it_is_valid() {
    let mut world = world().await;
    world.function.invoke(&order("first")).await;
    let nothing = json!({"level": "WARN", "outcome": "not_sent", "mch_id": null, "endpoint": null,
        "wechat_pay_request_id": null, "attempts": 0});
    for (place, (event, fields)) in [
        (json!({"sub_mch_id": "1900000109", "out_trade_no": 1}),
            json!({"reason": "invalid_input", "cause": "out_trade_no must be a JSON string (a number would lose digits)"})),
        (json!({"sub_mch_id": "x", "out_trade_no": "2"}),
            json!({"reason": "invalid_input", "cause": "sub_mch_id must be 1 to 32 digits", "out_trade_no": "2",
                "sub_mch_id": null})),
        (json!({"out_trade_no": "3"}),
            json!({"reason": "invalid_input", "out_trade_no": "3", "sub_mch_id": null,
                "mch_id": world.sandbox.identity.mch_id,
                "cause": "sub_mch_id is required for a service provider's order; an ordinary merchant puts \"mch_type\": \
                          \"merchant\" into the secret"})),
        (json!({"sub_mch_id": "1900000109", "out_trade_no": "4", "time_start": beijing_time(-10)}),
            json!({"reason": "too_young", "cause": "the order is less than five minutes old", "out_trade_no": "4"})),
        (json!({"detail-type": "Order Timeout", "source": "shop", "detail": {"out_trade_no": "5"}}),
            json!({"reason": "UnsupportedEvent", "level": "ERROR", "sub_mch_id": null, "message": "no order"})),
    ]
    .into_iter()
    .enumerate()
    {
        let invocation = world.function.invoke(&event).await;
        let mut all = nothing.clone();
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let mut logged = match fields["message"].as_str() {
            Some(message) => lasting(world.function.wait_for_lines(message, 1).await.remove(0)),
            None => lasting(world.order_line(place + 2).await),
        };
        if fields.get("cause").is_none() {
            assert!(logged.as_object_mut().unwrap().remove("cause").unwrap().as_str().unwrap().contains("EventBridge"));
        }
        assert_eq!(logged, line(&world, &invocation, 0, &all), "{event}");
    }
}

#[tokio::test]
async fn an_ordinary_merchants_line_has_no_sub_merchant() {
    let mut world = world_with(Identity::merchant(), |function| function).await;
    let invocation = world.function.invoke(&json!({"out_trade_no": ORDER})).await;
    let fields =
        json!({"level": "INFO", "outcome": "closed", "cold_start": true, "sub_mch_id": null, "out_trade_no": ORDER});
    assert_eq!(lasting(world.order_line(1).await), line(&world, &invocation, 1, &fields));
    let start = lasting(world.function.lines("start").swap_remove(0));
    assert_eq!(start["mch_type"], "merchant");
}

#[tokio::test]
async fn every_record_of_a_batch_has_a_line_with_its_message_id_readable_or_not() {
    let mut world = world().await;
    let mut event = batch([order(ORDER), json!("no order"), json!({"out_trade_no": "3"}), order("4")]);
    event["Records"][3]["body"] = json!({"is": "no text"});
    let invocation = world.function.invoke(&event).await;
    let mut lines = world.function.wait_for_order_lines(2).await;
    lines.extend(world.function.wait_for_lines("no order", 2).await);
    lines.sort_by_key(|line| line["message_id"].to_string());
    let names = ["message_id", "outcome", "out_trade_no", "requestId", "cold_start"];
    let request_id = json!(invocation.ids.request_id);
    for (line, (message_id, outcome, out_trade_no)) in lines.iter().zip([
        ("0", "closed", json!(ORDER)),
        ("1", "not_sent", Value::Null),
        ("2", "not_sent", json!("3")),
        ("3", "not_sent", Value::Null),
    ]) {
        let expected = [json!(message_id), json!(outcome), out_trade_no, request_id.clone(), json!(true)];
        assert_eq!(values(line, names), expected, "{line}");
    }
    event["Records"][1].as_object_mut().unwrap().remove("messageId");
    let invocation = world.function.invoke(&event).await;
    assert_eq!(invocation.error_type().as_deref(), Some("InvalidBatch"), "{invocation:?}");
    let invalid = &world.function.wait_for_lines("invalid batch", 1).await[0];
    let expected = [json!("ERROR"), json!("InvalidBatch"), json!(invocation.ids.request_id)];
    assert_eq!(values(invalid, ["level", "reason", "requestId"]), expected, "{invalid}");
}

#[tokio::test]
async fn a_text_of_the_wire_shows_no_signature_of_the_order_and_no_control_characters() {
    let mut world = world().await;
    world.function.invoke(&order(ORDER)).await;
    let signature = world.sandbox.gateway.received()[0].fields["sign"].clone();
    let echo = format!("参数错误: sign={signature},\r\n\u{85}{}", signature.to_lowercase());
    let fields = [("return_code".to_owned(), "FAIL".to_owned()), ("return_msg".to_owned(), echo)];
    let fail = Fault::Body(signed_xml::xml(&fields.into()).into_bytes());
    world.sandbox.gateway.fault_on_next_calls(Times::Always, fail);
    world.function.invoke(&order(ORDER)).await;
    let line = world.order_line(2).await;
    assert_eq!(line["return_msg"], "参数错误: sign=***,\\r\\n\\u{85}***", "{line}");
    assert!(!world.function.logs().contains(&signature));

    let long = Fault::Body(
        format!("<xml><return_code>FAIL</return_code><return_msg>{}</return_msg></xml>", "长".repeat(200)).into(),
    );
    world.sandbox.gateway.clear_faults();
    world.sandbox.gateway.fault_on_next_calls(Times::Always, long);
    world.function.invoke(&order(ORDER)).await;
    assert_eq!(world.order_line(3).await["return_msg"], "长".repeat(128));
}

#[tokio::test]
async fn a_start_has_one_line_that_says_with_what_the_function_began() {
    let sandbox = Sandbox::start().await.unwrap();
    let with_secret = function(&sandbox).start().await.unwrap();
    sandbox.secrets.set_failure(Some(Failure::AccessDenied));
    let without = function(&sandbox).start().await.unwrap();
    for (function, secret) in
        [(with_secret, json!({"mch_type": "partner", "secret_read": true})), (without, json!({"secret_read": false}))]
    {
        let start = function.wait_for_lines("start", 1).await.swap_remove(0);
        let mut expected = json!({"level": "INFO", "message": "start", "version": env!("CARGO_PKG_VERSION"),
            "endpoints": sandbox.gateway.urls(), "target": "close_order"});
        expected.as_object_mut().unwrap().extend(secret.as_object().unwrap().clone());
        assert_eq!(lasting(start), expected);
    }
}

#[tokio::test]
async fn the_log_can_be_text() {
    let sandbox = Sandbox::start().await.unwrap();
    for format in [Some("Text"), None] {
        let function = function(&sandbox).env_remove("AWS_LAMBDA_LOG_FORMAT");
        let function =
            format.into_iter().fold(function, |function, format| function.env("AWS_LAMBDA_LOG_FORMAT", format));
        let mut function = function.start().await.unwrap();
        function.invoke(&order(ORDER)).await;
        let logs = wait_for_log(&function, "outcome=\"closed\"").await;
        assert!(logs.lines().all(|line| line.contains(" INFO close_order")), "{logs}");
    }
}

#[tokio::test]
async fn the_log_has_nothing_below_its_level() {
    for (level, expected) in [("WARN", &["rejected", "unknown"][..]), ("error", &["unknown"]), ("Fatal", &["unknown"])]
    {
        let mut world = world_with(Identity::default(), |function| function.env("AWS_LAMBDA_LOG_LEVEL", level)).await;
        world.sandbox.gateway.fault_on_order("1", Times::Always, Fault::Error("NOAUTH"));
        world.sandbox.gateway.fault_on_order("2", Times::Always, Fault::Error("SOMETHING_NEW"));
        for out_trade_no in ["0", "1", "2"] {
            world.function.invoke(&order(out_trade_no)).await;
        }
        let logs = wait_for_log(&world.function, "\"outcome\":\"unknown\"").await;
        let outcomes: Vec<_> = world.function.lines("order").iter().map(|line| line["outcome"].clone()).collect();
        assert_eq!(outcomes, expected, "{level}");
        assert_eq!(logs.lines().count(), expected.len(), "{level}: {logs}");
    }
}

#[tokio::test]
async fn lambdas_log_variables_are_read_in_any_case_and_an_unknown_value_is_a_warning() {
    let sandbox = Sandbox::start().await.unwrap();
    for (variable, value) in [
        ("AWS_LAMBDA_LOG_FORMAT", "json"),
        ("AWS_LAMBDA_LOG_LEVEL", "info"),
        ("AWS_LAMBDA_LOG_FORMAT", "canary-format"),
        ("AWS_LAMBDA_LOG_LEVEL", "canary-level"),
    ] {
        let mut function = function(&sandbox).env(variable, value).start().await.unwrap();
        function.invoke(&order(ORDER)).await;
        function.wait_for_order_lines(1).await;
        let logs = function.logs();
        assert_eq!(function.lines("start").len(), 1, "JSON at INFO: {logs}");
        assert!(!logs.contains("canary"), "{logs}");
        let warned = logs.lines().filter(|line| line.contains("\"level\":\"WARN\"")).collect::<Vec<_>>();
        assert_eq!(warned.len(), usize::from(value.starts_with("canary")), "{logs}");
        assert!(warned.iter().all(|line| line.contains(variable)), "{logs}");
    }
}
