//! A direct call: a mini-program's cloud invoke, `aws lambda invoke`, `sam local invoke`, EventBridge Scheduler, Step
//! Functions. The event is the order, the answer the reply.

use serde::Serialize;

use crate::{
    close_order::{CloseOrder, Invocation},
    fault::Fault,
    order::Order,
    wechat_pay::Reply,
};

/// The answer to a direct call.
#[derive(Debug)]
pub struct Answer(Result<Reply, Fault>);

/// A reply and a refusal are answers. A fault is raised: asynchronous invocation, EventBridge Scheduler and Step
/// Functions then try again by themselves.
pub(super) async fn answer(close_order: &CloseOrder, event: &str, invocation: Invocation<'_>) -> Result<Answer, Fault> {
    match close_order.close(Order::from_json(event, "event"), invocation).await {
        Err(fault) if !fault.is_refusal() => Err(fault),
        answer => Ok(Answer(answer)),
    }
}

impl Serialize for Answer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Ok(reply) => reply.serialize(serializer),
            Err(refusal) => refusal.serialize(serializer),
        }
    }
}
