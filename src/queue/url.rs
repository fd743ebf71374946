//! Which queue a URL, or a record's ARN, names.

use std::fmt;

use crate::base_url::{self, InvalidUrl};

/// The longest name of a queue (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html>).
const MAX_NAME: usize = 80;

/// The URL of a queue, which ends in its account and name: `https://sqs.eu-central-1.amazonaws.com/123456789012/orders`,
/// or an emulator's, `http://127.0.0.1:4566/000000000000/orders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueUrl {
    url: String,
    account: String,
    name: String,
}

/// Why a text is not the URL of a queue that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQueueUrl {
    /// Not a URL, or one that breaks the rules for every address.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// Another path.
    #[error("does not end in an account of 12 digits and the name of a queue")]
    Path,
    /// A FIFO queue: records behind one that waits would wait, too.
    #[error("names a FIFO queue, which is not supported")]
    Fifo,
}

impl QueueUrl {
    /// Takes the URL of a queue.
    ///
    /// # Errors
    /// [`InvalidQueueUrl`] says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidQueueUrl> {
        base_url::parse(text)?;
        let (rest, name) = text.rsplit_once('/').ok_or(InvalidQueueUrl::Path)?;
        let (_, account) = rest.rsplit_once('/').ok_or(InvalidQueueUrl::Path)?;
        let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        let bare = name.strip_suffix(".fifo").unwrap_or(name);
        let is_name = !bare.is_empty() && name.len() <= MAX_NAME;
        if !is_account || !is_name || !bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
            return Err(InvalidQueueUrl::Path);
        }
        if bare != name {
            return Err(InvalidQueueUrl::Fifo);
        }
        Ok(Self { url: text.to_owned(), account: account.to_owned(), name: name.to_owned() })
    }

    /// Whether a record's `eventSourceARN`, `arn:aws:sqs:REGION:ACCOUNT:NAME`, names this queue.
    #[must_use]
    pub(crate) fn is_named_by(&self, arn: &str) -> bool {
        let parts: Vec<_> = arn.split(':').collect();
        matches!(parts[..], ["arn", _, "sqs", _, account, name] if account == self.account && name == self.name)
    }

    /// Whether another URL names the same queue.
    #[must_use]
    pub(crate) fn is_same_queue(&self, other: &Self) -> bool {
        self.account == other.account && self.name == other.name
    }
}

/// The URL as it was given.
impl fmt::Display for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: &str = "https://sqs.eu-central-1.amazonaws.com/123456789012/orders";

    #[test]
    fn a_queues_url_ends_in_its_account_and_its_name() {
        let long = "x".repeat(MAX_NAME);
        for (text, expected) in [
            (ORDERS, Ok(())),
            ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/Orders_1-a", Ok(())),
            ("https://vpce-0a-1b.sqs.eu-central-1.vpce.amazonaws.com/123456789012/orders", Ok(())),
            ("http://127.0.0.1:4566/000000000000/orders", Ok(())),
            ("http://localhost:4566/queue/eu-central-1/000000000000/orders", Ok(())),
            (&format!("https://sqs/123456789012/{long}"), Ok(())),
            (&format!("https://sqs/123456789012/{long}x"), Err(InvalidQueueUrl::Path)),
            ("https://sqs.eu-central-1.amazonaws.com/123456789012/orders.fifo", Err(InvalidQueueUrl::Fifo)),
            ("https://sqs.eu-central-1.amazonaws.com/123456789012/orders/", Err(InvalidQueueUrl::Path)),
            ("https://sqs.eu-central-1.amazonaws.com/12345678901/orders", Err(InvalidQueueUrl::Path)),
            ("https://sqs.eu-central-1.amazonaws.com/12345678901a/orders", Err(InvalidQueueUrl::Path)),
            ("https://sqs.eu-central-1.amazonaws.com/123456789012/", Err(InvalidQueueUrl::Path)),
            ("https://sqs.eu-central-1.amazonaws.com/123456789012/.fifo", Err(InvalidQueueUrl::Path)),
            ("https://sqs.eu-central-1.amazonaws.com/123456789012/a.b", Err(InvalidQueueUrl::Path)),
            ("https://sqs.eu-central-1.amazonaws.com/orders", Err(InvalidQueueUrl::Path)),
            ("https://sqs!/123456789012/orders", Err(InvalidUrl::Host.into())),
            ("https://sqs.eu-central-1.amazonaws.com", Err(InvalidQueueUrl::Path)),
            ("http://sqs.eu-central-1.amazonaws.com/123456789012/orders", Err(InvalidUrl::Insecure.into())),
            ("arn:aws:sqs:eu-central-1:123456789012:orders", Err(InvalidUrl::Insecure.into())),
            ("orders", Err(InvalidUrl::NotAUrl.into())),
        ] {
            assert_eq!(QueueUrl::parse(text).map(|_| ()), expected, "{text}");
        }
    }

    #[test]
    fn an_arn_names_a_queue_by_account_and_name() {
        let orders = QueueUrl::parse(ORDERS).unwrap();
        for (arn, expected) in [
            ("arn:aws:sqs:eu-central-1:123456789012:orders", true),
            ("arn:aws-cn:sqs:cn-north-1:123456789012:orders", true),
            ("arn:aws:sqs:eu-central-1:123456789012:Orders", false),
            ("arn:aws:sqs:eu-central-1:123456789012:orders-2", false),
            ("arn:aws:sqs:eu-central-1:223456789012:orders", false),
            ("arn:aws:sns:eu-central-1:123456789012:orders", false),
            ("arn:aws:sqs:eu-central-1:123456789012:orders:x", false),
            ("123456789012:orders", false),
            ("", false),
        ] {
            assert_eq!(orders.is_named_by(arn), expected, "{arn}");
        }
        let same = |url| orders.is_same_queue(&QueueUrl::parse(url).unwrap());
        assert!(same("https://queue.amazonaws.com/123456789012/orders"));
        assert!(!same("https://sqs.eu-central-1.amazonaws.com/123456789012/invalid"));
        assert!(!same("https://sqs.eu-central-1.amazonaws.com/223456789012/orders"));
    }
}
