//! Several futures at once, but not all of them.

use std::future::Future;

use futures_util::{StreamExt, stream};

/// Runs futures, at most `limit` at once, and returns what they come to in the order in which they were given. One that
/// takes long holds up no other.
pub async fn all<F: Future>(futures: impl IntoIterator<Item = F>, limit: usize) -> Vec<F::Output> {
    let numbered = |(place, future): (usize, F)| async move { (place, future.await) };
    let numbered: Vec<_> = futures.into_iter().enumerate().map(numbered).collect();
    let mut outputs: Vec<_> = stream::iter(numbered).buffer_unordered(limit).collect().await;
    outputs.sort_by_key(|(place, _)| *place);
    outputs.into_iter().map(|(_, output)| output).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::all;

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_long_holds_up_no_other_and_the_order_stays() {
        let start = Instant::now();
        let wait = |seconds: u64| async move {
            sleep(Duration::from_secs(seconds)).await;
            (seconds, start.elapsed().as_secs())
        };
        let outputs = all([9, 1, 2, 1, 3].map(wait), 2).await;
        assert_eq!(outputs, [(9, 9), (1, 1), (2, 3), (1, 4), (3, 7)]);
    }
}
