//! The operation: key → signed request → verified reply → query where it is in doubt → answer. The only place that
//! decides.
//!
//! What follows an attempt is a table, `next_step`; when an order is queried and what that comes to are two more,
//! `decision`; `operation` goes by them.

mod decision;
mod merchant_rules;
mod next_step;
mod operation;
mod order_log;

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use tokio::time::Instant;

use crate::{
    answer::Answer,
    fault::Fault,
    merchants::{MerchantError, Merchants},
    order::{Age, Invalid, Order, Problem, TimeStart},
    wechat_pay::{Endpoints, Merchant, WechatPay},
};
use operation::Operation;
use order_log::OrderLog;

/// Closes orders; one serves every invocation of a warm process.
#[derive(Debug)]
pub struct CloseOrder {
    merchants: Merchants,
    wechat_pay: WechatPay,
    endpoints: Endpoints,
    /// The longest that one attempt may take, connect to last byte.
    timeout: Duration,
}

/// Which invocation an order came with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Invocation<'a> {
    /// Lambda's request id, for the log.
    pub request_id: &'a str,
    /// The X-Ray trace, for the log.
    pub xray_trace_id: Option<&'a str>,
    /// The SQS message that the order came in, for the log.
    pub message_id: Option<&'a str>,
    /// Whether it is the first invocation of this process.
    pub is_cold_start: bool,
}

impl CloseOrder {
    /// Puts the parts together; nothing is read or sent yet.
    #[must_use]
    pub fn new(merchants: Merchants, wechat_pay: WechatPay, endpoints: Endpoints, timeout: Duration) -> Self {
        Self { merchants, wechat_pay, endpoints, timeout }
    }

    /// Reads the secret ahead of the first order, as far as that succeeds in time, and returns it. A failure is not
    /// final: the first order reads it again and says so.
    pub async fn prefetch(&self, within: Duration) -> Option<Arc<Merchant>> {
        self.merchants.prefetch(Instant::now() + within).await
    }

    /// Closes an order, and leaves one line in the log that says what became of it, or why it is not one. It answers by the
    /// `deadline`. `confirm_by_default` is what an order that says nothing of it gets.
    pub async fn close(
        &self,
        order: Result<Order, Invalid>,
        confirm_by_default: bool,
        deadline: Instant,
        invocation: Invocation<'_>,
    ) -> Answer {
        let mut log = OrderLog::new(invocation);
        let answer = match order {
            Err(invalid) => Answer::fault(invalid.into()),
            Ok(order) => {
                log.order(&order);
                let confirm = order.confirm.unwrap_or(confirm_by_default);
                let operation = async {
                    match self.start(&order, deadline, &mut log).await {
                        Ok(mut operation) => operation.run(confirm).await,
                        Err(fault) => Answer::fault(fault),
                    }
                };
                without_panic(operation).await
            }
        };
        log.write(&answer);
        answer
    }

    /// Logs an event that no order could be read from.
    pub fn log_fault(&self, fault: Fault, invocation: Invocation<'_>) -> Answer {
        let answer = Answer::fault(fault);
        OrderLog::new(invocation).write(&answer);
        answer
    }

    /// Everything that comes before the first request.
    async fn start<'a, 'l>(
        &'a self,
        order: &'a Order,
        deadline: Instant,
        log: &'a mut OrderLog<'l>,
    ) -> Result<Operation<'a, 'l>, Fault> {
        match order.time_start.map(|time_start| time_start.age(SystemTime::now())) {
            None | Some(Age::OldEnough) => {}
            Some(Age::TooYoung(wait)) => {
                let retry_after_seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                return Err(Fault::TooYoung { retry_after_seconds });
            }
            Some(Age::FarFuture) => {
                let zh = "不能晚于当前北京时间24小时以上";
                let en = "must not be more than 24 hours in the future, Beijing time";
                return Err(order.invalid(TimeStart::NAME, Problem { zh, en }).into());
            }
        }
        // A batch can be longer than its time: what has not begun by then does not begin.
        if deadline <= Instant::now() {
            return Err(Fault::DeadlineExceeded { was_sent: false });
        }
        let merchant = self.merchants.of(None, deadline).await.map_err(|error| match error {
            MerchantError::Unnamed => Fault::from(order.invalid("mch_id", Problem::MISSING)),
            MerchantError::Unavailable { cause } => Fault::CredentialsUnavailable { cause },
            MerchantError::NoSuchMerchant { cause } => Fault::NoSuchMerchant { cause },
        })?;
        log.merchant(&merchant);
        merchant_rules::check(order, &merchant)?;
        Ok(Operation::new(self, order, merchant, deadline, log))
    }
}

/// Runs the operation; a panic in a library (the lints leave none in this code) becomes a fault, without its text, which
/// could quote what it choked on.
async fn without_panic(operation: impl Future<Output = Answer>) -> Answer {
    let answered = AssertUnwindSafe(operation).catch_unwind().await;
    answered.unwrap_or_else(|_| Answer::fault(Fault::InternalError))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    #[tokio::test]
    async fn a_panic_is_a_fault_of_its_own() {
        let answer = without_panic(async { panic!("quotes a secret") }).await;
        assert_eq!((answer.outcome, answer.reason()), (Outcome::Unknown, Some("InternalError")));
        assert!(!serde_json::to_value(&answer).unwrap()["errMsg"].to_string().contains("quotes"));
    }
}
