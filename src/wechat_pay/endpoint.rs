//! WeChat Pay's endpoints: which hosts are allowed, and which one is asked first.

use std::{
    fmt,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use reqwest::Url;
use tokio::time::Instant;

/// How long an endpoint that failed stays second choice; as WeChat Pay's own SDK has it.
const SECOND_CHOICE: Duration = Duration::from_mins(3);

/// A base address of WeChat Pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    name: String,
    close_order: Url,
}

/// Why a text is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// No absolute URL.
    #[error("is not a URL")]
    NotAUrl,
    /// Another scheme, or plain HTTP to another machine.
    #[error("is not https:// (http:// is only for a loopback address, localhost or host.docker.internal)")]
    Insecure,
    /// A user, password, query or fragment.
    #[error("has a user, password, query or fragment")]
    NotABase,
}

impl Endpoint {
    /// Takes a base address: `https://`, or `http://` on this machine.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        let base = Url::parse(text).map_err(|_| InvalidEndpoint::NotAUrl)?;
        let is_secure = base.scheme() == "https" || base.scheme() == "http" && is_this_machine(&base);
        if !is_secure {
            return Err(InvalidEndpoint::Insecure);
        }
        let has_user = !base.username().is_empty() || base.password().is_some();
        if has_user || base.query().is_some() || base.fragment().is_some() {
            return Err(InvalidEndpoint::NotABase);
        }
        let name = base.as_str().trim_end_matches('/').to_owned();
        let close_order = Url::parse(&format!("{name}/pay/closeorder")).map_err(|_| InvalidEndpoint::NotAUrl)?;
        Ok(Self { name, close_order })
    }

    /// Where orders are closed.
    #[must_use]
    pub fn close_order_url(&self) -> &Url {
        &self.close_order
    }
}

/// The base address, for the log.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn is_this_machine(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    matches!(host, "localhost" | "host.docker.internal") || address.is_ok_and(|address| address.is_loopback())
}

/// The endpoints in order of preference, with a memory of which ones failed lately.
#[derive(Debug)]
pub struct Endpoints {
    preferred: Remembered,
    others: Vec<Remembered>,
    start: Instant,
}

#[derive(Debug)]
struct Remembered {
    endpoint: Endpoint,
    /// Milliseconds after `start` until which it is second choice.
    second_choice_until: AtomicU64,
}

impl Endpoints {
    /// None of them has failed yet.
    #[must_use]
    pub fn new(preferred: Endpoint, others: impl IntoIterator<Item = Endpoint>) -> Self {
        let remember = |endpoint| Remembered { endpoint, second_choice_until: AtomicU64::new(0) };
        Self {
            preferred: remember(preferred),
            others: others.into_iter().map(remember).collect(),
            start: Instant::now(),
        }
    }

    /// Where an order is sent first: the most preferred endpoint that did not fail lately.
    #[must_use]
    pub fn first(&self) -> &Endpoint {
        self.choose(None)
    }

    /// Where an order is sent next: another endpoint that did not fail lately, else the same if it did not fail, else
    /// another that did.
    #[must_use]
    pub fn after(&self, last: &Endpoint) -> &Endpoint {
        self.choose(Some(last))
    }

    fn choose(&self, last: Option<&Endpoint>) -> &Endpoint {
        let now = self.now();
        let rank = |it: &&Remembered| {
            (it.second_choice_until.load(Ordering::Relaxed) > now, last.is_some_and(|last| it.endpoint == *last))
        };
        let all = std::iter::once(&self.preferred).chain(&self.others);
        &all.min_by_key(rank).unwrap_or(&self.preferred).endpoint
    }

    /// Remembers that an endpoint failed.
    pub fn failed(&self, endpoint: &Endpoint) {
        let until = self.now() + u64::try_from(SECOND_CHOICE.as_millis()).unwrap_or(u64::MAX);
        let all = std::iter::once(&self.preferred).chain(&self.others);
        for it in all.filter(|it| it.endpoint == *endpoint) {
            it.second_choice_until.store(until, Ordering::Relaxed);
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
    fn https_goes_anywhere_and_http_only_to_this_machine() {
        for (text, expected) in [
            ("https://api.mch.weixin.qq.com", Ok("https://api.mch.weixin.qq.com/pay/closeorder")),
            ("https://api.mch.weixin.qq.com/", Ok("https://api.mch.weixin.qq.com/pay/closeorder")),
            ("https://proxy.example:8443/wechat/", Ok("https://proxy.example:8443/wechat/pay/closeorder")),
            ("http://127.0.0.1:9701", Ok("http://127.0.0.1:9701/pay/closeorder")),
            ("http://127.8.9.10", Ok("http://127.8.9.10/pay/closeorder")),
            ("http://[::1]:9701", Ok("http://[::1]:9701/pay/closeorder")),
            ("http://localhost:9701", Ok("http://localhost:9701/pay/closeorder")),
            ("http://host.docker.internal:9701", Ok("http://host.docker.internal:9701/pay/closeorder")),
            ("http://api.mch.weixin.qq.com", Err(InvalidEndpoint::Insecure)),
            ("http://localhost.example", Err(InvalidEndpoint::Insecure)),
            ("http://10.0.0.1", Err(InvalidEndpoint::Insecure)),
            ("ftp://127.0.0.1", Err(InvalidEndpoint::Insecure)),
            ("file:///etc/passwd", Err(InvalidEndpoint::Insecure)),
            ("api.mch.weixin.qq.com", Err(InvalidEndpoint::NotAUrl)),
            ("", Err(InvalidEndpoint::NotAUrl)),
            ("https://", Err(InvalidEndpoint::NotAUrl)),
            ("https://user:pass@api.mch.weixin.qq.com", Err(InvalidEndpoint::NotABase)),
            ("https://api.mch.weixin.qq.com/?a=1", Err(InvalidEndpoint::NotABase)),
            ("https://api.mch.weixin.qq.com/#a", Err(InvalidEndpoint::NotABase)),
        ] {
            let parsed = Endpoint::parse(text);
            assert_eq!(
                parsed.as_ref().map(|it| it.close_order_url().as_str()),
                expected.as_ref().map(|it| *it),
                "{text}"
            );
        }
    }

    fn endpoints(hosts: &[&str]) -> Endpoints {
        let mut endpoints = hosts.iter().map(|host| Endpoint::parse(&format!("https://{host}")).unwrap());
        Endpoints::new(endpoints.next().unwrap(), endpoints)
    }

    /// Three turns of an order whose every try fails, or none.
    fn three_turns(endpoints: &Endpoints, fail: bool) -> Vec<String> {
        let mut endpoint = endpoints.first();
        let mut turns = Vec::new();
        for _ in 0..3 {
            turns.push(endpoint.to_string());
            if fail {
                endpoints.failed(endpoint);
            }
            endpoint = endpoints.after(endpoint);
        }
        turns
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_failed_is_second_choice_for_three_minutes() {
        let endpoints = endpoints(&["a", "b"]);
        assert_eq!(three_turns(&endpoints, false), ["https://a", "https://b", "https://a"]);
        endpoints.failed(endpoints.first());
        assert_eq!(endpoints.first().to_string(), "https://b");
        assert_eq!(three_turns(&endpoints, false), ["https://b"; 3], "the one that answers is asked again");
        tokio::time::advance(SECOND_CHOICE.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!(endpoints.first().to_string(), "https://b");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(endpoints.first().to_string(), "https://a");
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_they_are_asked_in_turn_and_the_preferred_one_first() {
        let endpoints = endpoints(&["a", "b"]);
        assert_eq!(three_turns(&endpoints, true), ["https://a", "https://b", "https://a"]);
        assert_eq!(three_turns(&endpoints, true), ["https://a", "https://b", "https://a"]);
    }

    #[test]
    fn a_single_endpoint_takes_every_turn() {
        assert_eq!(three_turns(&endpoints(&["a"]), true), ["https://a"; 3]);
    }
}
