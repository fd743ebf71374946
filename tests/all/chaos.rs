//! A short chaos run; `cargo run --release -p sandbox -- chaos` makes long ones.

use std::path::Path;

use sandbox::chaos;

/// With this seed, every rule is put to the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_everything_goes_wrong_the_ledger_is_consistent() {
    let program = Path::new(env!("CARGO_BIN_EXE_close-order"));
    let ledger = chaos::run(240, 7, program, 2).await.unwrap();
    assert!(ledger.is_consistent(), "{ledger}");
    for rule in &ledger.rules {
        assert!(rule.checked > 0, "{}: {ledger}", rule.text);
    }
}
