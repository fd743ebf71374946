//! A short chaos run; `cargo run --release -p sandbox -- chaos` makes long ones.

use std::path::Path;

use sandbox::chaos::{self, Plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_everything_goes_wrong_the_books_balance() {
    let program = Path::new(env!("CARGO_BIN_EXE_close-order"));
    let books = chaos::run(Plan::new(300, 20_261_123), program, 4, |_, _| ()).await.unwrap();
    assert!(books.balance(), "{books}");
    for account in &books.accounts()[..8] {
        assert!(account.checked > 0, "{}: {books}", account.rule);
    }
}
