//! WeChat Pay's endpoints, and which of them is asked first.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::base_url::{self, InvalidUrl};

/// How long an endpoint that failed stays second choice; as WeChat Pay's own SDK has it.
const FAILURE_COOLDOWN: Duration = Duration::from_mins(3);

/// Paths that are added to every base URL anyway.
const OWN_PATHS: [&str; 2] = ["/pay/closeorder", "/pay/orderquery"];

/// A base URL of WeChat Pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Takes a base URL: `https://`, or `http://` on this machine.
    ///
    /// # Errors
    /// [`InvalidUrl`] says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let url = base_url::parse(text)?;
        let base = url.as_str().trim_end_matches('/');
        if OWN_PATHS.into_iter().any(|path| base.ends_with(path)) {
            Err(InvalidUrl::Path)
        } else if base_url::has_path_at_wechat_pay(&url) {
            Err(InvalidUrl::PathAtWechatPay)
        } else {
            Ok(Self(base.to_owned()))
        }
    }

    /// The URL of a path that begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

/// The base URL, for the log.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The endpoints in order of preference, with a memory of which ones failed lately.
#[derive(Debug)]
pub struct Endpoints {
    preferred: Ranked,
    others: Vec<Ranked>,
    start: Instant,
}

#[derive(Debug)]
struct Ranked {
    endpoint: Endpoint,
    /// Milliseconds after `start` until which it is second choice.
    cooldown_until: AtomicU64,
}

impl Endpoints {
    /// None of them has failed yet.
    #[must_use]
    pub fn new(preferred: Endpoint, others: impl IntoIterator<Item = Endpoint>) -> Self {
        let ranked = |endpoint| Ranked { endpoint, cooldown_until: AtomicU64::new(0) };
        Self { preferred: ranked(preferred), others: others.into_iter().map(ranked).collect(), start: Instant::now() }
    }

    /// Where an order is sent first: the most preferred endpoint that did not fail lately.
    #[must_use]
    pub fn first(&self) -> &Endpoint {
        self.choose(|it| self.is_cooling(it))
    }

    /// Where an order is sent next: another endpoint that did not fail lately, else the same if it did not fail, else
    /// another that did.
    #[must_use]
    pub fn after(&self, last: &Endpoint) -> &Endpoint {
        self.choose(|it| (self.is_cooling(it), it.endpoint == *last))
    }

    /// Another endpoint, if there is one, rather one that did not fail lately.
    #[must_use]
    pub fn another(&self, last: &Endpoint) -> &Endpoint {
        self.choose(|it| (it.endpoint == *last, self.is_cooling(it)))
    }

    fn choose<Rank: Ord>(&self, rank: impl Fn(&Ranked) -> Rank) -> &Endpoint {
        &self.all().min_by_key(|it| rank(it)).unwrap_or(&self.preferred).endpoint
    }

    fn all(&self) -> impl Iterator<Item = &Ranked> {
        std::iter::once(&self.preferred).chain(&self.others)
    }

    fn is_cooling(&self, it: &Ranked) -> bool {
        it.cooldown_until.load(Ordering::Relaxed) > self.now()
    }

    /// Remembers that an endpoint failed.
    pub fn failed(&self, endpoint: &Endpoint) {
        let until = self.now() + u64::try_from(FAILURE_COOLDOWN.as_millis()).unwrap_or(u64::MAX);
        for it in self.all().filter(|it| it.endpoint == *endpoint) {
            it.cooldown_until.store(until, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_its_path_below_the_base() {
        for (base, expected) in [
            ("https://api.mch.weixin.qq.com", Ok("https://api.mch.weixin.qq.com/a/b")),
            ("https://api.mch.weixin.qq.com/", Ok("https://api.mch.weixin.qq.com/a/b")),
            ("https://proxy.example:8443/wechat/", Ok("https://proxy.example:8443/wechat/a/b")),
            ("https://api.mch.weixin.qq.com/pay/closeorder", Err(InvalidUrl::Path)),
            ("https://api.mch.weixin.qq.com/pay/orderquery/", Err(InvalidUrl::Path)),
            ("http://api.mch.weixin.qq.com", Err(InvalidUrl::Insecure)),
        ] {
            assert_eq!(Endpoint::parse(base).map(|it| it.url("/a/b")), expected.map(str::to_owned), "{base}");
        }
    }

    fn endpoints(hosts: &[&str]) -> Endpoints {
        let mut endpoints = hosts.iter().map(|host| Endpoint::parse(&format!("https://{host}")).unwrap());
        Endpoints::new(endpoints.next().unwrap(), endpoints)
    }

    /// Where three attempts go, if every one of them fails or none.
    fn three_attempts(endpoints: &Endpoints, fail: bool) -> Vec<String> {
        let mut endpoint = endpoints.first();
        let mut hosts = Vec::new();
        for _ in 0..3 {
            hosts.push(endpoint.to_string());
            if fail {
                endpoints.failed(endpoint);
            }
            endpoint = endpoints.after(endpoint);
        }
        hosts
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_failed_is_second_choice_for_three_minutes() {
        let endpoints = endpoints(&["a", "b"]);
        assert_eq!(three_attempts(&endpoints, false), ["https://a", "https://b", "https://a"]);
        endpoints.failed(endpoints.first());
        assert_eq!(endpoints.first().to_string(), "https://b");
        assert_eq!(three_attempts(&endpoints, false), ["https://b"; 3], "the one that answers is asked again");
        tokio::time::advance(FAILURE_COOLDOWN.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!(endpoints.first().to_string(), "https://b");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(endpoints.first().to_string(), "https://a");
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_they_are_asked_in_turn_and_the_preferred_one_first() {
        let endpoints = endpoints(&["a", "b"]);
        assert_eq!(three_attempts(&endpoints, true), ["https://a", "https://b", "https://a"]);
        assert_eq!(three_attempts(&endpoints, true), ["https://a", "https://b", "https://a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn another_endpoint_is_another_one_even_if_it_failed_lately() {
        let endpoints = endpoints(&["a", "b", "c"]);
        let another = |last: &Endpoint| endpoints.another(last).to_string();
        assert_eq!(another(endpoints.first()), "https://b");
        endpoints.failed(endpoints.after(endpoints.first()));
        assert_eq!(another(endpoints.first()), "https://c");
        endpoints.failed(endpoints.after(endpoints.first()));
        assert_eq!(another(endpoints.first()), "https://b");
    }

    #[test]
    fn a_single_endpoint_takes_every_attempt() {
        assert_eq!(three_attempts(&endpoints(&["a"]), true), ["https://a"; 3]);
    }
}
