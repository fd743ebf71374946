//! The operation: credentials → sign → send → believe → answer, or try again. The only place that decides.
//!
//! A failed try goes to the next endpoint, a refused sign to Secrets Manager, everything else back to the caller; what
//! follows what is a table, `next_step`. The loop around it only sends and sleeps, and all of it ends at the deadline.

mod next_step;
mod record;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    fault::Fault,
    merchant::{KeptMerchant, Merchant},
    order::{Invalid, Order},
    wechat_pay::{Answer, CloseRequest, Disbelief, Endpoints, NotFlat, Reply, Unreached, Verdict, WechatPay},
};
use next_step::{Happened, MAX_TRIES, NextStep, next_step};
use record::Record;

/// Mean pause after the first failed try; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// Closes orders; one serves every invocation of a warm process.
#[derive(Debug)]
pub struct CloseOrder {
    merchant: KeptMerchant,
    wechat_pay: WechatPay,
    endpoints: Endpoints,
}

/// Which invocation an order came with, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// Lambda's request id, for the log.
    pub request_id: &'a str,
    /// When the answer must be on its way.
    pub deadline: Instant,
}

impl CloseOrder {
    /// Puts the parts together; nothing is read or sent yet.
    #[must_use]
    pub fn new(merchant: KeptMerchant, wechat_pay: WechatPay, endpoints: Endpoints) -> Self {
        Self { merchant, wechat_pay, endpoints }
    }

    /// Reads the secret ahead of the first order, as far as that succeeds in time. A failure is not final: the first
    /// order tries again and says so.
    pub async fn prepare(&self, within: Duration) {
        let _ = tokio::time::timeout(within, self.merchant.current()).await;
    }

    /// Closes an order, and leaves one line in the log that says what became of it, or that it was none.
    ///
    /// # Errors
    /// [`Fault`], with its refusals, when there is no believed reply to give back.
    pub async fn close(&self, order: Result<Order, Invalid>, invocation: Invocation<'_>) -> Result<Reply, Fault> {
        let mut record = Record::new(invocation.request_id);
        let outcome = match order {
            Err(invalid) => Err(Fault::BadInput(invalid)),
            Ok(order) => {
                record.order(&order);
                self.close_in_time(&order, invocation.deadline, &mut record).await
            }
        };
        record.write(&outcome);
        outcome
    }

    async fn close_in_time(&self, order: &Order, deadline: Instant, record: &mut Record<'_>) -> Result<Reply, Fault> {
        if let Some(wait) = order.time_start.and_then(|time_start| time_start.too_young_for(SystemTime::now())) {
            let retry_after_seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            return Err(Fault::TooYoung { retry_after_seconds });
        }
        // A batch can be longer than its time: what has not begun by then does not begin.
        if deadline <= Instant::now() {
            return Err(Fault::DeadlineExceeded);
        }
        let in_vain = |_| Fault::CredentialsUnavailable { cause: "Secrets Manager did not answer in time".into() };
        let merchant = timeout_at(deadline, self.merchant.current()).await.map_err(in_vain)??;
        timeout_at(deadline, self.send_and_believe(order, merchant, deadline, record))
            .await
            .unwrap_or(Err(Fault::DeadlineExceeded))
    }

    async fn send_and_believe(
        &self,
        order: &Order,
        mut merchant: Arc<Merchant>,
        deadline: Instant,
        record: &mut Record<'_>,
    ) -> Result<Reply, Fault> {
        let mut endpoint = self.endpoints.first();
        let mut settled = None;
        loop {
            record.tries_at(endpoint);
            let request = CloseRequest::new(order, &merchant);
            let answer = self.wechat_pay.send(endpoint, &request).await;
            record.answer(&answer);
            let (happened, result) = judge(answer, &request);
            if matches!(happened, Happened::NoConnection | Happened::NoReply) {
                self.endpoints.failed(endpoint);
            }
            let outcome = settle(settled.take(), happened, result);
            match next_step(happened, record.tries()) {
                NextStep::Answer => return outcome,
                NextStep::NextEndpoint => {
                    sleep(pause(record.tries())).await;
                    endpoint = self.endpoints.after(endpoint);
                }
                // Also after the last try, for the sake of the next order; and bounded here too, where the reply is in hand.
                NextStep::NewSecret => match timeout_at(deadline, self.merchant.changed_since(&merchant)).await {
                    Ok(Some(changed)) if record.tries() < MAX_TRIES => merchant = changed,
                    _ => return outcome,
                },
            }
            settled = Some(outcome);
        }
    }
}

/// What an answer is worth: what happened, for the next step, and what the caller would get.
fn judge(answer: Result<Answer, Unreached>, request: &CloseRequest<'_>) -> (Happened, Result<Reply, Fault>) {
    let believed = match answer {
        Err(unreached) => {
            let is_unsent = unreached == Unreached::NoConnection;
            let happened = if is_unsent { Happened::NoConnection } else { Happened::NoReply };
            return (happened, Err(Fault::GatewayUnreachable { cause: unreached.to_string().into() }));
        }
        Ok(Answer { status: status @ 500.., .. }) => {
            return (Happened::NoReply, Err(Fault::ReplyInvalid { cause: format!("HTTP status {status}").into() }));
        }
        Ok(Answer { body: None, .. }) => Err(NotFlat::TooLarge.into()),
        Ok(Answer { body: Some(body), .. }) => Reply::believe(&body, request),
    };
    let happened = match &believed {
        Ok(reply) => match reply.verdict() {
            Verdict::SystemError => Happened::SystemError,
            Verdict::SignRefused => Happened::SignTrouble,
            _ => Happened::Final,
        },
        Err(Disbelief::NotAReply(_) | Disbelief::NotFlat(_)) => Happened::NoReply,
        Err(Disbelief::SignMismatch) => Happened::SignTrouble,
        Err(Disbelief::NotOurs(_)) => Happened::Final,
    };
    (happened, believed.map_err(|disbelief| Fault::ReplyInvalid { cause: disbelief.to_string().into() }))
}

/// What all tries so far come to: the last result, but for two. A try that never left does not undo what was said
/// before it, and that nobody answered is not true when somebody did, though badly.
fn settle(
    before: Option<Result<Reply, Fault>>,
    happened: Happened,
    result: Result<Reply, Fault>,
) -> Result<Reply, Fault> {
    match (before, result) {
        (Some(before), _) if happened == Happened::NoConnection => before,
        (Some(Err(invalid @ Fault::ReplyInvalid { .. })), Err(Fault::GatewayUnreachable { .. })) => Err(invalid),
        (_, result) => result,
    }
}

/// The pause after so many tries: half to one and a half times the mean, lest all functions come back at once.
fn pause(tries: u32) -> Duration {
    let mean = PAUSE * 2_u32.saturating_pow(tries.saturating_sub(1));
    let random = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    mean.mul_f64(0.5 + random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_stands_until_something_weightier_comes() {
        let unreachable = || Err(Fault::GatewayUnreachable { cause: "none".into() });
        let invalid = || Err(Fault::ReplyInvalid { cause: "bad".into() });
        let name = |result: Result<Reply, Fault>| result.map_err(|fault| fault.error_type()).unwrap_err();
        for (before, happened, result, expected) in [
            (None, Happened::NoConnection, unreachable(), "GatewayUnreachable"),
            (None, Happened::NoReply, invalid(), "ReplyInvalid"),
            (Some(invalid()), Happened::NoConnection, unreachable(), "ReplyInvalid"),
            (Some(invalid()), Happened::NoReply, unreachable(), "ReplyInvalid"),
            (Some(unreachable()), Happened::NoReply, invalid(), "ReplyInvalid"),
            (Some(unreachable()), Happened::NoReply, unreachable(), "GatewayUnreachable"),
        ] {
            assert_eq!(name(settle(before, happened, result)), expected);
        }
    }

    #[test]
    fn a_pause_is_short_and_jittered() {
        for _ in 0..1000 {
            assert!((50..=150).contains(&pause(1).as_millis()));
            assert!((100..=300).contains(&pause(2).as_millis()));
        }
        assert!((0..100).any(|_| pause(1) != pause(1)));
    }
}
