//! The baseline of the benchmark: the least that a function on `lambda_runtime` can be. It answers every event with the
//! event itself.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::value::RawValue;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(|event: LambdaEvent<Box<RawValue>>| async { Ok::<_, Error>(event.payload) })).await
}
