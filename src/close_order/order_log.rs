//! One log line per order: what became of it.

use std::{
    borrow::Cow,
    time::{Duration, Instant, SystemTime},
};

use tracing::{error, info, warn};

use super::Invocation;
use crate::{
    answer::Answer,
    fault::Fault,
    order::Order,
    outcome::Outcome,
    wechat_pay::{Call, Endpoint, Exchange, ExchangeError, Merchant, Payment, Reply, Signature},
};

/// Longest text of WeChat Pay's in the log, in characters.
const MAX_TEXT: usize = 128;

/// Longest `reason`, in characters.
const MAX_REASON: usize = 64;

/// How long overdue a record is that is called stuck when it fails: at the tenth attempt, three minutes apart.
const STUCK: Duration = Duration::from_mins(27);

/// What is known of an order so far; it outlives an attempt that panics.
#[derive(Debug)]
pub(super) struct OrderLog<'a> {
    start: Instant,
    invocation: Invocation<'a>,
    mch_id: Option<String>,
    sub_mch_id: Option<String>,
    out_trade_no: Option<String>,
    endpoint: Option<String>,
    /// How much came from that endpoint: nothing, something, a verified reply.
    endpoint_rank: u8,
    /// How many closeorder requests there were.
    attempts: u32,
    /// How many orderquery requests there were.
    queries: u32,
    /// Why the last query proved nothing.
    pub(super) query_cause: Option<Cow<'static, str>>,
    trade_state: Option<String>,
    transaction_id: Option<String>,
    wechat_pay_request_id: Option<String>,
    signatures: Vec<Signature>,
}

impl<'a> OrderLog<'a> {
    pub(super) fn new(invocation: Invocation<'a>) -> Self {
        Self {
            start: Instant::now(),
            invocation,
            mch_id: None,
            sub_mch_id: None,
            out_trade_no: None,
            endpoint: None,
            endpoint_rank: 0,
            attempts: 0,
            queries: 0,
            query_cause: None,
            trade_state: None,
            transaction_id: None,
            wechat_pay_request_id: None,
            signatures: Vec::new(),
        }
    }

    pub(super) fn order(&mut self, order: &Order) {
        self.mch_id = order.mch_id.as_ref().map(|mch_id| mch_id.as_str().to_owned());
        self.sub_mch_id = order.sub_mch_id.as_ref().map(|sub_mch_id| sub_mch_id.as_str().to_owned());
        self.out_trade_no = Some(order.out_trade_no.as_str().to_owned());
    }

    pub(super) fn merchant(&mut self, merchant: &Merchant) {
        self.mch_id = Some(merchant.mch_id().to_owned());
    }

    /// Whether the order came in a batch of messages.
    pub(super) fn is_in_a_batch(&self) -> bool {
        self.invocation.batch.is_some()
    }

    /// Tells the batch of a request that was sent.
    pub(super) fn sent(&self, mch_id: &str, met_rate_limit: bool) {
        if let Some(batch) = self.invocation.batch {
            batch.sent(mch_id, met_rate_limit);
        }
    }

    /// A request is about to be sent.
    pub(super) fn sends(&mut self, call: Call) {
        match call {
            Call::CloseOrder => self.attempts += 1,
            Call::OrderQuery => self.queries += 1,
        }
    }

    /// The code of a query's reply that shows no state.
    pub(super) fn code_of(&self, reply: &Reply) -> Cow<'static, str> {
        match reply.err_code() {
            Some(err_code) => self.text(err_code, MAX_REASON).into(),
            None => "an unsigned reply".into(),
        }
    }

    /// One exchange has ended. Of several closeorder requests the line names the endpoint whose reply counts, or else the
    /// last one that was asked.
    pub(super) fn exchange(&mut self, call: Call, endpoint: &Endpoint, exchange: &Exchange) {
        self.signatures.push(exchange.signature.clone());
        let rank = match exchange.result {
            Ok(_) => 2,
            Err(ExchangeError::Reply(_)) => 1,
            Err(ExchangeError::Send(_)) => 0,
        };
        if call == Call::CloseOrder && rank >= self.endpoint_rank {
            (self.endpoint, self.endpoint_rank) = (Some(endpoint.to_string()), rank);
        }
        // By closeorder's id rather than a query's, WeChat Pay's support finds the order.
        if call == Call::CloseOrder || self.wechat_pay_request_id.is_none() {
            let request_id = exchange.request_id.as_ref().map(|request_id| self.text(request_id, MAX_TEXT));
            self.wechat_pay_request_id = request_id.or(self.wechat_pay_request_id.take());
        }
    }

    /// What the query shows that the answer goes by.
    pub(super) fn proof(&mut self, payment: &Payment) {
        let text = |value: &Option<String>| value.as_ref().map(|value| self.text(value, MAX_REASON));
        (self.trade_state, self.transaction_id) = (text(&payment.trade_state), text(&payment.transaction_id));
    }

    /// Writes the line: INFO when the order is closed or paid, WARN when somebody has to look at it, ERROR when nobody
    /// knows, and for every fault.
    pub(super) fn write(mut self, answer: &Answer) {
        if let Some(invalid) = answer.result.as_ref().err().and_then(Fault::invalid) {
            let ids = &invalid.ids;
            self.mch_id = self.mch_id.or_else(|| ids.mch_id.as_ref().map(|it| it.as_str().to_owned()));
            self.sub_mch_id = ids.sub_mch_id.as_ref().map(|it| it.as_str().to_owned());
            self.out_trade_no = ids.out_trade_no.as_ref().map(|it| it.as_str().to_owned());
        }
        let reason = answer.reason().map(|reason| self.text(reason, MAX_REASON));
        let is_explained = matches!(answer.outcome, Outcome::Rejected | Outcome::Unknown | Outcome::Open);
        let said = |name: &str| {
            let value = answer.result.as_ref().ok().filter(|_| is_explained)?.get(name)?;
            Some(self.text(value, MAX_TEXT))
        };
        let return_msg = said("return_msg").filter(|text| text != "OK");
        let err_code_des = said("err_code_des");
        let cause = answer.result.as_ref().err().map(ToString::to_string);
        // What carries no order counts in no share of orders.
        let message = if answer.result.as_ref().err().is_some_and(Fault::is_no_order) { "no order" } else { "order" };
        let receipt = self.invocation.receipt.unwrap_or_default();
        let overdue = receipt.due_since.map(|due| SystemTime::now().duration_since(due).unwrap_or_default());
        let is_delivered_again =
            self.invocation.receipt.is_some() && !receipt.is_set_aside && !answer.outcome.is_terminal();
        let stuck = (is_delivered_again && overdue.is_some_and(|overdue| overdue >= STUCK)).then_some(true);
        let duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    outcome = answer.outcome.as_str(),
                    confirmed = answer.confirmed,
                    reason,
                    return_msg,
                    err_code_des,
                    cause,
                    query_cause = self.query_cause.as_deref(),
                    mch_id = self.mch_id,
                    sub_mch_id = self.sub_mch_id,
                    out_trade_no = self.out_trade_no,
                    message_id = self.invocation.message_id,
                    receives = receipt.receives,
                    overdue_s = overdue.map(|overdue| overdue.as_secs()),
                    stuck,
                    endpoint = self.endpoint,
                    attempts = self.attempts,
                    queries = self.queries,
                    trade_state = self.trade_state,
                    transaction_id = self.transaction_id,
                    duration_ms,
                    wechat_pay_request_id = self.wechat_pay_request_id,
                    requestId = self.invocation.request_id,
                    xray_trace_id = self.invocation.xray_trace_id,
                    cold_start = self.invocation.is_cold_start.then_some(true),
                    version = env!("CARGO_PKG_VERSION"),
                    "{message}"
                )
            };
        }
        match (&answer.result, answer.outcome) {
            _ if answer.is_rate_limited => line!(warn),
            (Err(fault), _) if fault.is_error() => line!(error),
            (_, Outcome::Unknown) => line!(error),
            (_, Outcome::Closed | Outcome::Paid) => line!(info),
            (_, Outcome::NotFound | Outcome::Open | Outcome::Rejected | Outcome::NotSent) => line!(warn),
        }
    }

    /// A text from the wire as the log may show it: no signature of this order, no control characters, no more than
    /// `limit` characters.
    fn text(&self, text: &str, limit: usize) -> String {
        let starts_with = |rest: &str, signature: &Signature| {
            rest.get(..signature.as_str().len()).is_some_and(|start| start.eq_ignore_ascii_case(signature.as_str()))
        };
        let (mut shown, mut characters, mut rest) = (String::new(), 0, text);
        // No further than is shown: a text of 64 KiB may repeat a signature two thousand times.
        while let Some(character) = rest.chars().next().filter(|_| characters < limit) {
            let masked = self.signatures.iter().find(|signature| starts_with(rest, signature));
            let (length, part): (usize, String) = match (masked, character) {
                (Some(signature), _) => (signature.as_str().len(), "***".to_owned()),
                (None, '"' | '\'' | '\\') => (1, character.to_string()),
                (None, _) => (character.len_utf8(), character.escape_debug().collect()),
            };
            let part: String = part.chars().take(limit - characters).collect();
            characters += part.chars().count();
            shown.push_str(&part);
            rest = rest.get(length..).unwrap_or_default();
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::wechat_pay::{Fields, v2::SignType};

    #[test]
    fn a_text_of_the_wire_shows_no_signature_and_no_control_characters() {
        let signature = SignType::Md5.sign(&SecretString::from("k"), &Fields::new());
        let mut log = OrderLog::new(Invocation::default());
        log.signatures.push(signature.clone());
        let shown = |text: &str| log.text(text, MAX_TEXT);
        let sign = signature.as_str();
        assert_eq!(shown(&format!("a{sign}b{}", sign.to_lowercase())), "a***b***");
        assert_eq!(shown("签名错误,\"请\\检查'"), "签名错误,\"请\\检查'");
        assert_eq!(shown("one\r\n\u{1b}[31mtwo\u{202e}"), "one\\r\\n\\u{1b}[31mtwo\\u{202e}");
        assert_eq!(shown(&"订".repeat(200)), "订".repeat(128));
        assert_eq!(shown(&format!("{}{sign}", "x".repeat(120))), format!("{}***", "x".repeat(120)));
        assert_eq!(shown(&format!("{}{sign}", "x".repeat(127))), format!("{}*", "x".repeat(127)));
    }

    #[test]
    fn masking_takes_no_longer_for_a_text_of_nothing_but_signatures() {
        let signature = SignType::Md5.sign(&SecretString::from("k"), &Fields::new());
        let mut log = OrderLog::new(Invocation::default());
        log.signatures.push(signature.clone());
        let text = signature.as_str().repeat(100_000);
        let start = Instant::now();
        assert_eq!(log.text(&text, MAX_TEXT), "***".repeat(43)[..MAX_TEXT]);
        assert!(start.elapsed().as_millis() < 100, "{:?}", start.elapsed());
    }
}
