//! The environment, read once. A wrong value stops the start with one line that names the variable, what is wrong
//! with it and what is right.

use std::{ffi::OsString, ops::RangeInclusive, time::Duration};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tracing::level_filters::LevelFilter;

use crate::{aws::Service, base_url, merchants::SecretId, queue::QueueUrl, wechat_pay::Endpoint};

/// The variable that holds the secret's name or ARN.
const SECRET_ID: &str = "WECHAT_PAY_SECRET_ID";
/// The variable that holds WeChat Pay's endpoints.
const ENDPOINTS: &str = "WECHAT_PAY_ENDPOINTS";
/// The variable that holds the time that one attempt may take.
const TIMEOUT: &str = "WECHAT_PAY_TIMEOUT_MS";
/// The variable that holds how long a read secret is used.
const TTL: &str = "SECRET_CACHE_TTL_SECONDS";
/// The variable that names a file of root certificates.
const ROOTS: &str = "SSL_CERT_FILE";
/// The variable that names the bus for outcome events.
const EVENT_BUS: &str = "OUTCOME_EVENT_BUS";
/// The variable that names the queue whose records may wait.
const ORDERS_QUEUE: &str = "ORDERS_QUEUE_URL";
/// The variable that names the queue of invalid orders.
const INVALID_ORDERS_QUEUE: &str = "INVALID_ORDERS_QUEUE_URL";
/// Lambda's variables for the log.
const LOG_FORMAT: &str = "AWS_LAMBDA_LOG_FORMAT";
const LOG_LEVEL: &str = "AWS_LAMBDA_LOG_LEVEL";

/// WeChat Pay's own hosts: <https://pay.weixin.qq.com/wiki/doc/api/jsapi_sl.php?chapter=23_4>.
const DEFAULT_ENDPOINTS: &str = "https://api.mch.weixin.qq.com,https://api2.mch.weixin.qq.com";
const DEFAULT_TIMEOUT_MS: u64 = 5000;
/// Up to the longest that a Lambda function runs: 15 minutes.
const TIMEOUT_MS: RangeInclusive<u64> = 1..=900_000;
const DEFAULT_TTL_SECONDS: u64 = 300;
/// Up to a year; 0 reads the secret for every order.
const TTL_SECONDS: RangeInclusive<u64> = 0..=31_536_000;

/// What the environment says.
#[derive(Debug)]
pub struct Config {
    /// `WECHAT_PAY_SECRET_ID`: name or ARN of the secret, or of one for each merchant.
    pub secret_id: SecretId,
    /// `WECHAT_PAY_ENDPOINTS`: the one that is preferred.
    pub preferred_endpoint: Endpoint,
    /// `WECHAT_PAY_ENDPOINTS`: the others, in order of preference.
    pub other_endpoints: Vec<Endpoint>,
    /// `WECHAT_PAY_TIMEOUT_MS`: one attempt, connect to last byte.
    pub timeout: Duration,
    /// `SECRET_CACHE_TTL_SECONDS`: how long a secret is cached.
    pub secret_ttl: Duration,
    /// `OUTCOME_EVENT_BUS`: name or ARN of the EventBridge bus for outcome events; none are published without it.
    pub outcome_event_bus: Option<String>,
    /// `ORDERS_QUEUE_URL` and `INVALID_ORDERS_QUEUE_URL`: the queue whose records may wait, and where invalid orders go.
    pub queues: Option<(QueueUrl, Option<QueueUrl>)>,
    /// `SSL_CERT_FILE`: the roots that every connection trusts; Mozilla's, built in, without it.
    pub roots: RootCertStore,
    /// What the log looks like.
    pub log: LogConfig,
}

/// What the log looks like: Lambda's own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `AWS_LAMBDA_LOG_FORMAT`: `JSON`, or `Text`, which is Lambda's default, in any case.
    pub is_json: bool,
    /// `AWS_LAMBDA_LOG_LEVEL`, in any case; INFO by default.
    pub level: LevelFilter,
    /// Which of the two has an unknown value, so that the log is JSON at INFO. Lambda sets both by itself, so this stops no
    /// start.
    pub unknown_variables: Option<String>,
}

/// A variable with a wrong value, or without the one it needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {problem}; expected {expected}")]
pub struct WrongVariable {
    variable: &'static str,
    problem: String,
    expected: &'static str,
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// [`WrongVariable`] for the first variable that is wrong.
    pub fn from_env() -> Result<Self, WrongVariable> {
        Self::read(std::env::var_os)
    }

    fn read(get: impl Fn(&'static str) -> Option<OsString>) -> Result<Self, WrongVariable> {
        let text = |variable, expected| match get(variable).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) if value.trim().is_empty() => Err(wrong(variable, "is empty", expected)),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(wrong(variable, "is not UTF-8", expected)),
        };
        let number = |variable, range: RangeInclusive<u64>, default, expected| match text(variable, expected)? {
            None => Ok(default),
            Some(value) => match value.parse() {
                Ok(number) if range.contains(&number) => Ok(number),
                Ok(_) => Err(wrong(variable, "is out of range", expected)),
                Err(_) => Err(wrong(variable, "is not a whole number", expected)),
            },
        };

        let timeout = number(TIMEOUT, TIMEOUT_MS, DEFAULT_TIMEOUT_MS, "milliseconds from 1 to 900000")?;
        let (preferred_endpoint, other_endpoints) =
            endpoints(text(ENDPOINTS, ENDPOINTS_HINT)?.as_deref().unwrap_or(DEFAULT_ENDPOINTS))?;
        for variable in
            [Service::SecretsManager, Service::EventBridge, Service::Sqs].iter().flat_map(|it| it.endpoint_variables())
        {
            let url = get(variable).filter(|url| !url.is_empty());
            let url = url.map(|url| base_url::parse(&url.to_string_lossy())).transpose();
            url.map_err(|invalid| wrong(variable, invalid.to_string(), AWS_ENDPOINT_HINT))?;
        }
        let ttl = number(TTL, TTL_SECONDS, DEFAULT_TTL_SECONDS, "seconds from 0 to 31536000")?;
        Ok(Self {
            secret_id: SecretId::parse(
                text(SECRET_ID, SECRET_HINT)?.ok_or_else(|| wrong(SECRET_ID, "is not set", SECRET_HINT))?,
            )
            .map_err(|invalid| wrong(SECRET_ID, invalid.to_string(), SECRET_HINT))?,
            preferred_endpoint,
            other_endpoints,
            timeout: Duration::from_millis(timeout),
            secret_ttl: Duration::from_secs(ttl),
            roots: roots(text(ROOTS, ROOTS_HINT)?.as_deref())?,
            outcome_event_bus: event_bus(get(EVENT_BUS))?,
            queues: queues(get(ORDERS_QUEUE), get(INVALID_ORDERS_QUEUE))?,
            log: LogConfig::read(get(LOG_FORMAT), get(LOG_LEVEL)),
        })
    }
}

impl LogConfig {
    fn read(format: Option<OsString>, level: Option<OsString>) -> Self {
        let upper = |value: Option<OsString>| value.unwrap_or_default().to_string_lossy().to_ascii_uppercase();
        let is_json = match upper(format).as_str() {
            "" | "TEXT" => Some(false),
            "JSON" => Some(true),
            _ => None,
        };
        let level = match upper(level).as_str() {
            "TRACE" => Some(LevelFilter::TRACE),
            "DEBUG" => Some(LevelFilter::DEBUG),
            "" | "INFO" => Some(LevelFilter::INFO),
            "WARN" => Some(LevelFilter::WARN),
            "ERROR" | "FATAL" => Some(LevelFilter::ERROR),
            _ => None,
        };
        let unknown_variables = match (is_json, level) {
            (Some(is_json), Some(level)) => return Self { is_json, level, unknown_variables: None },
            (None, Some(_)) => LOG_FORMAT.to_owned(),
            (Some(_), None) => LOG_LEVEL.to_owned(),
            (None, None) => format!("{LOG_FORMAT}, {LOG_LEVEL}"),
        };
        Self { is_json: true, level: LevelFilter::INFO, unknown_variables: Some(unknown_variables) }
    }
}

const SECRET_HINT: &str = "the name or ARN of the secret in AWS Secrets Manager, such as wechat-pay/close-order, or \
                           wechat-pay/{mch_id} for one secret per merchant";
const AWS_ENDPOINT_HINT: &str =
    "the address of an AWS service, such as https://secretsmanager.eu-central-1.amazonaws.com";
const EVENT_BUS_HINT: &str = "the name or ARN of an EventBridge event bus";
const QUEUE_HINT: &str = "the URL of an SQS queue, such as https://sqs.eu-central-1.amazonaws.com/123456789012/orders";
const ENDPOINTS_HINT: &str = "base addresses joined by commas, such as https://api.mch.weixin.qq.com";
const ROOTS_HINT: &str = "the path of a PEM file with root certificates";

fn wrong(variable: &'static str, problem: impl Into<String>, expected: &'static str) -> WrongVariable {
    WrongVariable { variable, problem: problem.into(), expected }
}

/// An empty variable is how templates say that there is none.
fn event_bus(value: Option<OsString>) -> Result<Option<String>, WrongVariable> {
    let Some(bus) = value.filter(|bus| !bus.is_empty()) else { return Ok(None) };
    // PutEvents' own pattern for EventBusName, by which an ARN is one, too.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/.-_:".contains(&b);
    let is_right =
        |bus: &String| bus.len() <= 1600 && bus.bytes().all(is_plain) && bus.contains(':') == bus.starts_with("arn:");
    match bus.into_string().ok().filter(is_right) {
        Some(bus) => Ok(Some(bus)),
        None => Err(wrong(EVENT_BUS, "is neither a name nor an ARN", EVENT_BUS_HINT)),
    }
}

/// An empty variable is how templates say that there is none.
fn queues(
    orders: Option<OsString>,
    invalid_orders: Option<OsString>,
) -> Result<Option<(QueueUrl, Option<QueueUrl>)>, WrongVariable> {
    let parse = |variable, value: Option<OsString>| {
        let url = value.filter(|url| !url.is_empty()).map(|url| QueueUrl::parse(&url.to_string_lossy()));
        url.transpose().map_err(|invalid| wrong(variable, invalid.to_string(), QUEUE_HINT))
    };
    let invalid_orders = parse(INVALID_ORDERS_QUEUE, invalid_orders)?;
    match (parse(ORDERS_QUEUE, orders)?, invalid_orders) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            Err(wrong(INVALID_ORDERS_QUEUE, format!("is set without {ORDERS_QUEUE}"), "both, or neither of them"))
        }
        (Some(orders), Some(invalid)) if orders.is_same_queue(&invalid) => Err(wrong(
            INVALID_ORDERS_QUEUE,
            format!("names the queue of {ORDERS_QUEUE}"),
            "another queue: what is invalid would be redelivered for ever",
        )),
        (Some(orders), invalid_orders) => Ok(Some((orders, invalid_orders))),
    }
}

fn endpoints(list: &str) -> Result<(Endpoint, Vec<Endpoint>), WrongVariable> {
    let parse = |(number, text): (usize, &str)| {
        Endpoint::parse(text.trim())
            .map_err(|invalid| wrong(ENDPOINTS, format!("is wrong: entry {number} {invalid}"), ENDPOINTS_HINT))
    };
    let (preferred, others) = list.split_once(',').map_or((list, None), |(first, rest)| (first, Some(rest)));
    let others = (2..).zip(others.into_iter().flat_map(|others| others.split(',')));
    Ok((parse((1, preferred))?, others.map(parse).collect::<Result<_, _>>()?))
}

fn roots(file: Option<&str>) -> Result<RootCertStore, WrongVariable> {
    let Some(file) = file else {
        return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
    };
    let pem = std::fs::read(file)
        .map_err(|error| wrong(ROOTS, format!("names a file that can't be read ({})", error.kind()), ROOTS_HINT))?;
    let mut roots = RootCertStore::empty();
    // Public bundles hold a certificate or two that rustls can't parse; the others serve.
    let (added, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if added == 0 {
        return Err(wrong(ROOTS, "names a file without a certificate", ROOTS_HINT));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
        let find = |variable| variables.iter().find(|(name, _)| *name == variable).map(|(_, value)| value.into());
        Config::read(find).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn only_the_secret_is_required() {
        let config = read(&[(SECRET_ID, "wechat-pay")]).unwrap();
        assert_eq!(config.secret_id, SecretId::One("wechat-pay".to_owned()));
        assert_eq!(config.preferred_endpoint.to_string(), "https://api.mch.weixin.qq.com");
        let others: Vec<_> = config.other_endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(others, ["https://api2.mch.weixin.qq.com"]);
        assert_eq!((config.timeout, config.secret_ttl), (Duration::from_secs(5), Duration::from_mins(5)));
        assert_eq!(config.log, LogConfig { is_json: false, level: LevelFilter::INFO, unknown_variables: None });
        assert_eq!(config.outcome_event_bus, None);
        assert_eq!(config.queues, None);
        assert!(config.roots.len() > 100, "Mozilla's roots");
    }

    #[test]
    fn every_variable_is_read() {
        let config = read(&[
            (SECRET_ID, "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:wechat-pay-AbCdEf"),
            (ENDPOINTS, "http://127.0.0.1:9701, https://api2.mch.weixin.qq.com"),
            (TIMEOUT, "1"),
            (TTL, "0"),
            (EVENT_BUS, "orders"),
            (LOG_FORMAT, "JSON"),
            (LOG_LEVEL, "FATAL"),
        ])
        .unwrap();
        assert_eq!(config.other_endpoints.len(), 1);
        assert_eq!((config.timeout, config.secret_ttl), (Duration::from_millis(1), Duration::ZERO));
        assert_eq!(config.log, LogConfig { is_json: true, level: LevelFilter::ERROR, unknown_variables: None });
        assert_eq!(config.outcome_event_bus.as_deref(), Some("orders"));
    }

    #[test]
    fn a_wrong_value_is_told_by_variable_problem_and_rule() {
        for (variable, value, problem) in [
            (SECRET_ID, "", "is empty"),
            (SECRET_ID, "wechat-pay/{mchId}", "has a { or } other than in {mch_id} at its end"),
            (SECRET_ID, "wechat-pay{mch_id}", "has a { or } other than in {mch_id} at its end"),
            (
                ENDPOINTS,
                "https://a,https://api.mch.weixin.qq.com/pay",
                "is wrong: entry 2 has a path, and WeChat Pay's own",
            ),
            ("AWS_ENDPOINT_URL_SQS", "http://10.0.0.1", "is not https://"),
            (ENDPOINTS, " ", "is empty"),
            (ENDPOINTS, "https://a,", "is wrong: entry 2 is not a URL"),
            (ENDPOINTS, "https://a,http://b", "is wrong: entry 2 is not https://"),
            (ENDPOINTS, "https://a;https://b", "is wrong: entry 1 has a host"),
            (ENDPOINTS, "https://a\nhttps://b", "is wrong: entry 1 is not a URL"),
            (ENDPOINTS, "https://a/pay/closeorder", "is wrong: entry 1 ends in /pay/closeorder"),
            (EVENT_BUS, "my bus", "is neither a name nor an ARN"),
            (EVENT_BUS, "events:bus", "is neither a name nor an ARN"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "localhost", "is not a URL"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://10.0.0.1", "is not https://"),
            ("AWS_ENDPOINT_URL_EVENTBRIDGE", "httpx://127.0.0.1", "is not https://"),
            ("AWS_ENDPOINT_URL", "ftp://a", "is not https://"),
            (TIMEOUT, "", "is empty"),
            (TIMEOUT, "0", "is out of range"),
            (TIMEOUT, "900001", "is out of range"),
            (TIMEOUT, "5s", "is not a whole number"),
            (TIMEOUT, "-1", "is not a whole number"),
            (TTL, "1.5", "is not a whole number"),
            (TTL, "99999999999", "is out of range"),
            (ROOTS, "/nonexistent.pem", "names a file that can't be read (entity not found)"),
            (ROOTS, "/dev/null", "names a file without a certificate"),
            (ROOTS, "", "is empty"),
        ] {
            let mut variables = vec![(variable, value)];
            if variable != SECRET_ID {
                variables.push((SECRET_ID, "wechat-pay"));
            }
            let message = read(&variables).unwrap_err();
            assert!(message.starts_with(&format!("{variable} {problem}")), "{message}");
            assert!(message.contains("; expected ") && !message.contains('\n'), "{message}");
        }
        assert!(read(&[]).unwrap_err().starts_with("WECHAT_PAY_SECRET_ID is not set; expected"));
    }

    #[test]
    fn a_bus_is_a_name_or_an_arn_and_an_empty_one_is_none() {
        for (value, expected) in [
            ("", None),
            ("default", Some("default")),
            ("partner/shop_1.orders-2", Some("partner/shop_1.orders-2")),
            (
                "arn:aws-cn:events:cn-north-1:123456789012:event-bus/orders",
                Some("arn:aws-cn:events:cn-north-1:123456789012:event-bus/orders"),
            ),
        ] {
            let config = read(&[(SECRET_ID, "wechat-pay"), (EVENT_BUS, value)]).unwrap();
            assert_eq!(config.outcome_event_bus.as_deref(), expected);
        }
    }

    #[test]
    fn a_queue_may_have_one_for_invalid_orders_beside_it() {
        let url = |name: &str| format!("https://sqs.eu-central-1.amazonaws.com/123456789012/{name}");
        let queues = |orders: &str, invalid: &str| {
            let variables = [(SECRET_ID, "wechat-pay"), (ORDERS_QUEUE, orders), (INVALID_ORDERS_QUEUE, invalid)];
            let queues = read(&variables)?.queues;
            Ok::<_, String>(
                queues.map(|(orders, invalid)| (orders.to_string(), invalid.map(|invalid| invalid.to_string()))),
            )
        };
        let (orders, invalid) = (url("orders"), url("invalid"));
        assert_eq!(queues("", ""), Ok(None));
        assert_eq!(queues(&orders, ""), Ok(Some((orders.clone(), None))));
        assert_eq!(queues(&orders, &invalid), Ok(Some((orders.clone(), Some(invalid.clone())))));
        for (orders, invalid, problem) in [
            ("", &*invalid, "INVALID_ORDERS_QUEUE_URL is set without ORDERS_QUEUE_URL; expected"),
            (&orders, &orders, "INVALID_ORDERS_QUEUE_URL names the queue of ORDERS_QUEUE_URL; expected another queue"),
            (&orders, "https://queue.amazonaws.com/123456789012/orders", "INVALID_ORDERS_QUEUE_URL names the queue of"),
            (&orders, "invalid", "INVALID_ORDERS_QUEUE_URL is not a URL; expected"),
            ("orders", "", "ORDERS_QUEUE_URL is not a URL; expected"),
            (&format!("{orders}.fifo"), "", "ORDERS_QUEUE_URL names a FIFO queue, which is not supported; expected"),
            (&orders, &format!("{invalid}.fifo"), "INVALID_ORDERS_QUEUE_URL names a FIFO queue"),
            ("http://10.0.0.1/123456789012/orders", "", "ORDERS_QUEUE_URL is not https://"),
            ("https://sqs.eu-central-1.amazonaws.com/orders", "", "ORDERS_QUEUE_URL does not end in an account"),
        ] {
            let message = queues(orders, invalid).unwrap_err();
            assert!(message.starts_with(problem), "{message}");
        }
    }

    #[test]
    fn the_log_variables_are_read_in_any_case_and_an_unknown_value_stops_nothing() {
        for (format, level, expected) in [
            ("json", "info", (true, LevelFilter::INFO, None)),
            ("JSON", "Debug", (true, LevelFilter::DEBUG, None)),
            ("text", "WARN", (false, LevelFilter::WARN, None)),
            ("YAML", "ERROR", (true, LevelFilter::INFO, Some(LOG_FORMAT))),
            ("Text", "LOUD", (true, LevelFilter::INFO, Some(LOG_LEVEL))),
            ("YAML", "LOUD", (true, LevelFilter::INFO, Some("AWS_LAMBDA_LOG_FORMAT, AWS_LAMBDA_LOG_LEVEL"))),
        ] {
            let log = read(&[(SECRET_ID, "wechat-pay"), (LOG_FORMAT, format), (LOG_LEVEL, level)]).unwrap().log;
            assert_eq!((log.is_json, log.level, log.unknown_variables.as_deref()), expected, "{format} {level}");
        }
    }
}
