//! A direct call: a mini-program's cloud invoke, `aws lambda invoke`, `sam local invoke`, Step Functions. The event is the
//! order, the answer the object that `cloud.cloudPay.closeOrder()` returns.

use tokio::time::Instant;

use super::Function;
use crate::{
    answer::Answer,
    close_order::Invocation,
    fault::Fault,
    order::{Invalid, Order},
};

/// Replies and rejections are answers. A fault is raised: asynchronous invocation and Step Functions then retry by
/// themselves.
pub(super) async fn handle(
    function: &Function,
    order: Result<Order, Invalid>,
    deadline: Instant,
    invocation: Invocation<'_>,
) -> Result<Answer, (Fault, Answer)> {
    let answer = function.close(order.as_ref(), false, deadline, invocation).await;
    match &answer.result {
        Err(fault) if !fault.is_rejection() => Err((fault.clone(), answer)),
        _ => Ok(answer),
    }
}
