//! The world of a test: a sandbox of its own, and the real binary in it.

use std::time::{Duration, Instant};

use sandbox::{
    Sandbox,
    mock::function::{Function, FunctionBuilder},
    mock::gateway::{Call, TradeState},
    mock::identity::Identity,
};
use serde_json::{Value, json};

/// The number of the order that most tests close.
pub const ORDER: &str = "1217752501201407033233368018";

/// One test's world.
pub struct World {
    pub sandbox: Sandbox,
    pub function: Function,
}

impl World {
    /// Which endpoint took each closeorder request, from 0.
    pub fn closed_at(&self) -> Vec<usize> {
        self.taken(Call::CloseOrder)
    }

    /// Which endpoint took each orderquery request, from 0.
    pub fn queried_at(&self) -> Vec<usize> {
        self.taken(Call::OrderQuery)
    }

    fn taken(&self, call: Call) -> Vec<usize> {
        let received = self.sandbox.gateway.received();
        received.iter().filter(|it| it.call == Some(call)).map(|it| it.endpoint).collect()
    }

    /// The last line about an order, once there are so many.
    pub async fn order_line(&self, count: usize) -> Value {
        let mut lines = self.function.wait_for_order_lines(count).await;
        assert_eq!(lines.len(), count, "{lines:?}");
        lines.pop().unwrap()
    }
}

/// Runs a program with no more data than the memory of the smallest Lambda function, 128 MiB.
const IN_LITTLE_MEMORY: &str = "ulimit -d 131072 && exec \"$0\"";

/// A function of the binary under test, in this sandbox, with no more memory than the smallest Lambda function.
pub fn function(sandbox: &Sandbox) -> FunctionBuilder {
    sandbox.function("/bin/sh").arg("-c").arg(IN_LITTLE_MEMORY).arg(env!("CARGO_BIN_EXE_close-order"))
}

/// A world with one unpaid order.
pub async fn world() -> World {
    world_with(Identity::default(), |function| function).await
}

/// A world of another merchant or another function.
pub async fn world_with(identity: Identity, adapt: impl FnOnce(FunctionBuilder) -> FunctionBuilder) -> World {
    let sandbox = Sandbox::start_as(identity).await.unwrap();
    sandbox.gateway.put_order(ORDER, TradeState::NotPay);
    let function = adapt(function(&sandbox)).start().await.unwrap();
    World { sandbox, function }
}

/// An order to close.
pub fn order(out_trade_no: &str) -> Value {
    json!({"sub_mch_id": "1900000109", "out_trade_no": out_trade_no, "nonce_str": "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"})
}

/// An event of the collection that the README and the emulators use too.
pub fn event(name: &str) -> Value {
    let path = format!("{}/events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A batch of messages with these bodies; the message ids are their places.
pub fn batch(bodies: impl IntoIterator<Item = Value>) -> Value {
    let template = event("sqs")["Records"][0].clone();
    let records = bodies.into_iter().enumerate().map(|(place, body)| {
        let mut record = template.clone();
        record["messageId"] = json!(place.to_string());
        record["body"] = json!(body.to_string());
        record
    });
    json!({"Records": records.collect::<Vec<_>>()})
}

/// All that a function logged, once it holds this text: a line can come later than the answer.
pub async fn wait_for_log(function: &Function, text: &str) -> String {
    let start = Instant::now();
    while !function.logs().contains(text) {
        assert!(start.elapsed() < Duration::from_secs(5), "no {text:?} in {}", function.logs());
        tokio::time::sleep(ms(5)).await;
    }
    function.logs()
}

/// Half a second: a short timeout for one attempt.
pub const SHORT_MS: &str = "500";

/// So many milliseconds.
pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Gives a test's numbers names: `values(&json, ["a", "b"])`.
pub fn values<const N: usize>(value: &Value, names: [&str; N]) -> [Value; N] {
    names.map(|name| value[name].clone())
}

/// A moment so many seconds from now as `time_start` has it: Beijing time.
pub fn beijing_time(seconds_from_now: i64) -> String {
    moment(seconds_from_now + 8 * 60 * 60, ["", "", ""])
}

/// A moment so many seconds from now as `close_at` has it.
pub fn rfc3339(seconds_from_now: i64) -> String {
    format!("{}Z", moment(seconds_from_now, ["-", "T", ":"]))
}

fn moment(seconds_from_now: i64, [of_date, between, of_time]: [&str; 3]) -> String {
    let time = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds_from_now);
    let (date, time) = (time.date(), time.time());
    format!(
        "{:04}{of_date}{:02}{of_date}{:02}{between}{:02}{of_time}{:02}{of_time}{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}
