//! The operation: key → signed request → verified reply → query where it is in doubt → answer. The only place that
//! decides.
//!
//! What follows an attempt is a table, `next_step`; when an order is queried and what that comes to are two more,
//! `decision`; `operation` goes by them.

mod backoff;
mod decision;
mod merchant_rules;
mod next_step;
mod operation;
mod order_log;
mod rate_limit;
#[cfg(test)]
mod scripts;

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
    order::{MchId, Order, Problem},
    wechat_pay::{Account, Endpoints, Exchanger, WechatPay},
};
use operation::Operation;
use order_log::OrderLog;
pub(crate) use rate_limit::Batch;
use rate_limit::NotWaitedFor;

/// Closes orders; one serves every invocation of a warm process.
#[derive(Debug)]
pub struct CloseOrder<E = WechatPay> {
    merchants: Merchants,
    wechat_pay: E,
    endpoints: Endpoints,
    /// The longest that one attempt may take, connect to last byte.
    timeout: Duration,
    not_waited_for: NotWaitedFor,
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
    /// What SQS says of that message, for the log.
    pub receipt: Option<Receipt>,
    /// Whether it is the first invocation of this process.
    pub is_cold_start: bool,
    /// The batch of messages that the order came in: nobody waits for its answer.
    pub(crate) batch: Option<&'a Batch>,
}

/// What SQS says of a message, and what the log says of its delay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Receipt {
    /// How often it was received, this time included.
    pub receives: Option<u64>,
    /// Its order's earliest time or its first receive, whichever is later.
    pub due_since: Option<SystemTime>,
    /// Whether it was sent to the queue of invalid orders, and so is not delivered again.
    pub is_set_aside: bool,
}

impl<E: Exchanger> CloseOrder<E> {
    /// Puts the parts together; nothing is read or sent yet.
    #[must_use]
    pub fn new(merchants: Merchants, wechat_pay: E, endpoints: Endpoints, timeout: Duration) -> Self {
        Self { merchants, wechat_pay, endpoints, timeout, not_waited_for: NotWaitedFor::default() }
    }

    /// Reads the secret ahead of the first order, as far as that succeeds in time, and returns it. A failure is not
    /// final: the first order reads it again and says so.
    pub async fn prefetch(&self, within: Duration) -> Option<Arc<Account>> {
        self.merchants.prefetch(Instant::now() + within).await
    }

    /// Closes an order, and leaves one line in the log that says what became of it. It answers by the `deadline`.
    /// `confirm_by_default` is what an order that says nothing of it gets.
    pub async fn close(
        &self,
        order: &Order,
        confirm_by_default: bool,
        deadline: Instant,
        invocation: Invocation<'_>,
    ) -> Answer {
        let mut log = OrderLog::new(invocation);
        log.order(order);
        let confirm = order.confirm.unwrap_or(confirm_by_default);
        // Boxed: a batch has ten of them, and every caller's future would hold it.
        let operation = Box::pin(async {
            match self.start(order, deadline, &mut log).await {
                Ok(mut operation) => operation.run(confirm).await,
                Err(fault) => {
                    // What never began because the others of its batch had to wait for the rate limit.
                    let never_began = fault == Fault::DeadlineExceeded { was_sent: false };
                    let is_rate_limited = never_began && invocation.batch.is_some_and(Batch::has_met_rate_limit);
                    Answer { is_rate_limited, ..Answer::fault(fault) }
                }
            }
        });
        let answer = without_panic(operation).await;
        log.write(&answer);
        answer
    }

    /// Takes what a batch that has ended showed of the rate limit: a merchant whose every request met it is not waited for
    /// for three minutes, so that its orders do not keep the places of others.
    pub(crate) fn end_batch(&self, batch: &Batch) {
        self.not_waited_for.learn(batch);
    }

    /// Everything that comes before the first request.
    async fn start<'a, 'l>(
        &'a self,
        order: &'a Order,
        deadline: Instant,
        log: &'a mut OrderLog<'l>,
    ) -> Result<Operation<'a, 'l, E>, Fault> {
        if let Some(wait) = order.wait(SystemTime::now())? {
            return Err(Fault::TooEarly(wait));
        }
        // A batch can be longer than its time: what has not begun by then does not begin.
        if deadline <= Instant::now() {
            return Err(Fault::DeadlineExceeded { was_sent: false });
        }
        let mch_id = order.mch_id.as_ref().map(MchId::as_str);
        let account = self.merchants.of(mch_id, deadline).await.map_err(|error| match error {
            MerchantError::Unnamed => order.contradicted(MchId::NAME, Problem::MISSING).into(),
            MerchantError::Unavailable { cause } => Fault::CredentialsUnavailable { cause },
            MerchantError::NoSuchMerchant { cause } => Fault::NoSuchMerchant { cause },
        })?;
        log.merchant(account.merchant());
        merchant_rules::check(order, account.merchant())?;
        Ok(Operation::new(self, order, account, deadline, log))
    }
}

/// Runs the operation; a panic in a library (the lints leave none in this code) becomes a fault, without its text, which
/// could quote what it choked on.
async fn without_panic(operation: impl Future<Output = Answer>) -> Answer {
    let answered = AssertUnwindSafe(operation).catch_unwind().await;
    answered.unwrap_or_else(|_| Answer::fault(Fault::InternalError))
}

/// Logs an event that no order could be read from.
pub(crate) fn log_fault(fault: Fault, invocation: Invocation<'_>) -> Answer {
    let answer = Answer::fault(fault);
    OrderLog::new(invocation).write(&answer);
    answer
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
