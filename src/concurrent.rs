//! Several futures at once, but not all of them.

use std::future::Future;

use futures_util::{StreamExt, stream::FuturesUnordered};

/// Runs futures, at most `limit` at once, and returns what they come to in the order in which they were given. One that
/// takes long holds up no other. A future is taken from the iterator when it starts: a large batch has not all of them in
/// memory.
pub(crate) fn all<'a, I, F>(futures: I, limit: usize) -> impl Future<Output = Vec<F::Output>>
where
    I: IntoIterator<Item = F, IntoIter: Send + 'a>,
    F: Future + 'a,
{
    // Boxed, since the compiler can't see that a future which holds an iterator over borrowing closures is `Send`.
    let mut waiting: Box<dyn Iterator<Item = (usize, F)> + Send + 'a> = Box::new(futures.into_iter().enumerate());
    async move {
        let numbered = |(place, future): (usize, F)| async move { (place, future.await) };
        let mut running: FuturesUnordered<_> = waiting.by_ref().take(limit).map(numbered).collect();
        let mut outputs = Vec::with_capacity(running.len());
        while let Some(output) = running.next().await {
            outputs.push(output);
            running.extend(waiting.next().map(numbered));
        }
        outputs.sort_by_key(|(place, _)| *place);
        outputs.into_iter().map(|(_, output)| output).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        time::Duration,
    };

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

    #[tokio::test(start_paused = true)]
    async fn a_future_is_made_when_it_starts() {
        let (made, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let futures = (0..100).map(|_| {
            let made = made.fetch_add(1, Relaxed) + 1;
            assert!(made - ended.load(Relaxed) <= 3);
            async {
                sleep(Duration::from_secs(1)).await;
                ended.fetch_add(1, Relaxed);
            }
        });
        assert_eq!((all(futures, 3).await.len(), made.load(Relaxed)), (100, 100));
    }
}
