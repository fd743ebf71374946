//! The operation: credentials → sign → send → believe → answer, or try again. The only place that decides.
//!
//! A failed try goes to the next endpoint, a refused sign to Secrets Manager, everything else back to the caller; what
//! follows what is a table, `next_step`. The loop around it only sends and sleeps, and all of it ends at the deadline.

mod next_step;
mod record;

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    fault::Fault,
    merchant::KeptMerchant,
    order::{Invalid, Order},
    wechat_pay::{Answer, CloseRequest, Disbelief, Endpoints, NotFlat, Reply, Unreached, Verdict, WechatPay},
};
use next_step::{Happened, NextStep, next_step};
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
            // A batch can be longer than its time: what has not begun by then does not begin.
            Ok(order) if invocation.deadline <= Instant::now() => {
                record.order(&order);
                Err(Fault::DeadlineExceeded)
            }
            Ok(order) => {
                record.order(&order);
                let closed = self.close_in_time(&order, &mut record);
                timeout_at(invocation.deadline, closed).await.unwrap_or(Err(Fault::DeadlineExceeded))
            }
            Err(invalid) => Err(Fault::BadInput(invalid)),
        };
        record.write(&outcome);
        outcome
    }

    async fn close_in_time(&self, order: &Order, record: &mut Record<'_>) -> Result<Reply, Fault> {
        if let Some(wait) = order.time_start.and_then(|time_start| time_start.too_young_for(SystemTime::now())) {
            let retry_after_seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            return Err(Fault::TooYoung { retry_after_seconds });
        }
        let mut merchant = self.merchant.current().await?;
        let mut answered_badly = None;
        let mut endpoints = self.endpoints.in_turn().peekable();
        while let Some(endpoint) = endpoints.peek() {
            record.tries_at(endpoint);
            let request = CloseRequest::new(order, &merchant);
            let answer = self.wechat_pay.send(endpoint, request.to_xml()).await;
            record.answer(&answer);
            let (happened, result) = judge(answer, &request);
            if happened == Happened::NoReply {
                self.endpoints.failed(endpoint);
            }
            match next_step(happened, record.tries()) {
                NextStep::Answer => return settle(result, answered_badly),
                NextStep::NextEndpoint => {
                    answered_badly = result.err().filter(is_reply_invalid).or(answered_badly);
                    sleep(pause(record.tries())).await;
                    endpoints.next();
                }
                NextStep::NewSecret => match self.merchant.changed_since(&merchant).await {
                    Some(changed) => merchant = changed,
                    None => return settle(result, answered_badly),
                },
            }
        }
        Err(Fault::GatewayUnreachable { cause: "there is no endpoint".into() })
    }
}

/// What an answer is worth: what happened, for the next step, and what the caller would get.
fn judge(answer: Result<Answer, Unreached>, request: &CloseRequest<'_>) -> (Happened, Result<Reply, Fault>) {
    let believed = match answer {
        Err(unreached) => {
            return (Happened::NoReply, Err(Fault::GatewayUnreachable { cause: unreached.to_string().into() }));
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

/// The last result, unless it says that nobody answered when somebody did, though badly.
fn settle(result: Result<Reply, Fault>, answered_badly: Option<Fault>) -> Result<Reply, Fault> {
    match (result, answered_badly) {
        (Err(Fault::GatewayUnreachable { .. }), Some(answered_badly)) => Err(answered_badly),
        (result, _) => result,
    }
}

fn is_reply_invalid(fault: &Fault) -> bool {
    matches!(fault, Fault::ReplyInvalid { .. })
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
    fn a_pause_is_short_and_jittered() {
        for _ in 0..1000 {
            assert!((50..=150).contains(&pause(1).as_millis()));
            assert!((100..=300).contains(&pause(2).as_millis()));
        }
        assert!((0..100).any(|_| pause(1) != pause(1)));
    }
}
