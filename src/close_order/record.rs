//! One log line an order: what became of it.

use std::time::Instant;

use tracing::{error, info, warn};

use crate::{
    fault::Fault,
    order::Order,
    wechat_pay::{Answer, Endpoint, Reply, Unreached, Verdict},
};

/// What is known of an order's way so far; it outlives a try that the deadline cuts short.
#[derive(Debug)]
pub(super) struct Record<'a> {
    start: Instant,
    aws_request_id: &'a str,
    sub_mch_id: Option<String>,
    out_trade_no: Option<String>,
    endpoint: Option<String>,
    tries: u32,
    wechat_pay_request_id: Option<String>,
}

impl<'a> Record<'a> {
    pub(super) fn new(aws_request_id: &'a str) -> Self {
        Self {
            start: Instant::now(),
            aws_request_id,
            sub_mch_id: None,
            out_trade_no: None,
            endpoint: None,
            tries: 0,
            wechat_pay_request_id: None,
        }
    }

    pub(super) fn order(&mut self, order: &Order) {
        self.sub_mch_id = Some(order.sub_mch_id.as_str().to_owned());
        self.out_trade_no = Some(order.out_trade_no.as_str().to_owned());
    }

    pub(super) fn tries_at(&mut self, endpoint: &Endpoint) {
        self.tries += 1;
        self.endpoint = Some(endpoint.to_string());
    }

    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    pub(super) fn answer(&mut self, answer: &Result<Answer, Unreached>) {
        self.wechat_pay_request_id = answer.as_ref().ok().and_then(|answer| answer.request_id.clone());
    }

    /// Writes the line: INFO when the order is settled, WARN when it was refused, ERROR when nobody knows.
    pub(super) fn write(mut self, outcome: &Result<Reply, Fault>) {
        if let Err(Fault::BadInput(invalid)) = outcome {
            self.sub_mch_id = invalid.sub_mch_id.as_ref().map(|it| it.as_str().to_owned());
            self.out_trade_no = invalid.out_trade_no.as_ref().map(|it| it.as_str().to_owned());
        }
        let err_code = outcome.as_ref().ok().and_then(Reply::err_code);
        let cause = outcome.as_ref().err();
        let name = match outcome {
            Ok(reply) => reply.verdict().as_str(),
            Err(fault) => fault.error_type(),
        };
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    outcome = name,
                    err_code,
                    sub_mch_id = self.sub_mch_id,
                    out_trade_no = self.out_trade_no,
                    endpoint = self.endpoint,
                    tries = self.tries,
                    duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX),
                    wechat_pay_request_id = self.wechat_pay_request_id,
                    aws_request_id = self.aws_request_id,
                    cause = cause.map(tracing::field::display),
                    "order"
                )
            };
        }
        match outcome {
            Ok(reply) => match reply.verdict() {
                Verdict::Closed | Verdict::AlreadyClosed | Verdict::Paid | Verdict::NotFound => line!(info),
                Verdict::SystemError | Verdict::SignRefused | Verdict::Refused => line!(warn),
            },
            Err(fault) if fault.is_refusal() => line!(warn),
            Err(_) => line!(error),
        }
    }
}
