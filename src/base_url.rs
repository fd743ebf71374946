//! Base URLs from the environment: of WeChat Pay and of AWS.

use std::net::IpAddr;

use reqwest::Url;

/// Why a text is not a base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Not an absolute URL.
    #[error("is not a URL")]
    NotAUrl,
    /// Another scheme, or plain HTTP to another machine.
    #[error("is not https:// (http:// is only for a loopback address, localhost or host.docker.internal)")]
    Insecure,
    /// A host that is neither a DNS name nor an address.
    #[error("has a host that is neither a DNS name nor an address")]
    Host,
    /// A user, password, query or fragment.
    #[error("has a user, password, query or fragment")]
    NotABase,
    /// Something that the URL standard allows or repairs, and that is more likely a mistake: a `;` between two URLs.
    #[error("has a character other than letters, digits and - . _ ~ / after the host, or no // before it")]
    Character,
    /// A path that is added to every base URL anyway.
    #[error("ends in /pay/closeorder or /pay/orderquery, which are added to it: give the part before that")]
    Path,
    /// A path at WeChat Pay's own hosts, which have none: every order would meet a 404.
    #[error("has a path, and WeChat Pay's own hosts have none: give https:// and the host alone")]
    PathAtWechatPay,
}

/// The domains of WeChat Pay's own hosts.
const WECHAT_PAY: [&str; 2] = [".mch.weixin.qq.com", ".wechatpay.cn"];

/// Whether a base URL has a path at one of WeChat Pay's own hosts.
#[must_use]
pub(crate) fn has_path_at_wechat_pay(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    url.path() != "/" && WECHAT_PAY.iter().any(|domain| host.ends_with(domain))
}

/// Parses a base URL: `https://`, or `http://` on this machine.
///
/// # Errors
/// [`InvalidUrl`] says which rule it breaks.
pub(crate) fn parse(text: &str) -> Result<Url, InvalidUrl> {
    // The URL standard drops line ends and tabs, which would make one host of two lines.
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(InvalidUrl::NotAUrl);
    }
    let url = Url::parse(text).map_err(|_| InvalidUrl::NotAUrl)?;
    let is_secure = url.scheme() == "https" || url.scheme() == "http" && is_this_machine(&url);
    if !is_secure {
        return Err(InvalidUrl::Insecure);
    }
    if address(&url).is_none() && !url.host_str().is_some_and(is_dns_name) {
        return Err(InvalidUrl::Host);
    }
    let has_user = !url.username().is_empty() || url.password().is_some();
    if has_user || url.query().is_some() || url.fragment().is_some() {
        return Err(InvalidUrl::NotABase);
    }
    let (_, rest) = text.split_once("://").ok_or(InvalidUrl::Character)?;
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    if rest.contains('\\') || !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~/".contains(&b)) {
        return Err(InvalidUrl::Character);
    }
    Ok(url)
}

fn address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_this_machine(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "host.docker.internal"))
        || address(url).is_some_and(|address| address.is_loopback())
}

/// A name of letters, digits, hyphens and underscores between dots (RFC 1123, and the underscore that internal names
/// have).
fn is_dns_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wechat_pays_own_hosts_have_no_path() {
        for (text, expected) in [
            ("https://api.mch.weixin.qq.com", false),
            ("https://api2.mch.weixin.qq.com/", false),
            ("https://api.mch.weixin.qq.com/pay", true),
            ("https://API.mch.weixin.qq.com./v3", true),
            ("https://apihk.mch.weixin.qq.com/v3/", true),
            ("https://api.mch.weixin.qq.com//", true),
            ("https://api2.wechatpay.cn/pay", true),
            ("https://proxy.example/wechat", false),
            ("https://mch.weixin.qq.com.example/pay", false),
        ] {
            assert_eq!(has_path_at_wechat_pay(&parse(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn https_goes_anywhere_and_http_only_to_this_machine() {
        for (text, expected) in [
            ("https://api.mch.weixin.qq.com", Ok(())),
            ("https://api.mch.weixin.qq.com/", Ok(())),
            ("https://API.mch.weixin.qq.com.", Ok(())),
            ("https://proxy.example:8443/wechat/", Ok(())),
            ("https://10.0.0.1", Ok(())),
            ("https://[2001:db8::1]:8443", Ok(())),
            ("http://127.0.0.1:9701", Ok(())),
            ("http://127.8.9.10", Ok(())),
            ("http://[::1]:9701", Ok(())),
            ("http://localhost:9701", Ok(())),
            ("http://host.docker.internal:9701", Ok(())),
            ("http://api.mch.weixin.qq.com", Err(InvalidUrl::Insecure)),
            ("http://localhost.example", Err(InvalidUrl::Insecure)),
            ("http://10.0.0.1", Err(InvalidUrl::Insecure)),
            ("httpx://127.0.0.1", Err(InvalidUrl::Insecure)),
            ("ftp://127.0.0.1", Err(InvalidUrl::Insecure)),
            ("file:///etc/passwd", Err(InvalidUrl::Insecure)),
            ("api.mch.weixin.qq.com", Err(InvalidUrl::NotAUrl)),
            ("", Err(InvalidUrl::NotAUrl)),
            ("https://", Err(InvalidUrl::NotAUrl)),
            ("https://a\nhttps://b", Err(InvalidUrl::NotAUrl)),
            ("https://a\thttps://b", Err(InvalidUrl::NotAUrl)),
            ("https://a b", Err(InvalidUrl::NotAUrl)),
            ("https://a;b", Err(InvalidUrl::Host)),
            ("https://a;https://b", Err(InvalidUrl::Host)),
            ("https://a..b", Err(InvalidUrl::Host)),
            ("https://a!b", Err(InvalidUrl::Host)),
            ("https://a/;https://b", Err(InvalidUrl::Character)),
            ("https://a/|https://b", Err(InvalidUrl::Character)),
            ("https://a/%70ay/closeorder", Err(InvalidUrl::Character)),
            ("https:a", Err(InvalidUrl::Character)),
            ("https://a\\b", Err(InvalidUrl::Character)),
            ("https://user:pass@api.mch.weixin.qq.com", Err(InvalidUrl::NotABase)),
            ("https://api.mch.weixin.qq.com/?a=1", Err(InvalidUrl::NotABase)),
            ("https://api.mch.weixin.qq.com/#a", Err(InvalidUrl::NotABase)),
        ] {
            assert_eq!(parse(text).map(|_| ()), expected, "{text}");
        }
    }
}
