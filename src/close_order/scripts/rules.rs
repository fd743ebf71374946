//! Any script of replies, and the rules that its answer must keep: they know nothing of how it was reached.

use std::time::Duration;

use proptest::{collection, prelude::*, sample::select};
use tokio::time::Instant;

use super::{
    Case, Ended,
    Said::{self, BadGateway, Code, Forged, Hang, Lost, OtherState, Page, Refused, State, Success, Unsigned},
    Sent,
};
use crate::{
    answer::Answer,
    close_order::next_step::{MAX_ATTEMPTS, MAX_QUERY_ATTEMPTS},
    outcome::Outcome,
    wechat_pay::Call,
};

fn any_said() -> impl Strategy<Value = Said> {
    prop_oneof![
        3 => Just(Success),
        3 => select(vec!["CLOSED", "REVOKED", "SUCCESS", "REFUND", "NOTPAY", "USERPAYING"]).prop_map(State),
        3 => select(vec!["ORDERCLOSED", "ORDERPAID", "ORDERNOTEXIST", "USERPAYING", "TRADE_STATE_ERROR", "SYSTEMERROR",
            "FREQUENCY_LIMITED", "NOAUTH", "SIGNERROR", "NEW"]).prop_map(Code),
        1 => select(vec!["CLOSED", "SUCCESS"]).prop_map(OtherState),
        1 => select(vec!["签名错误", "频率限制", "系统繁忙", "参数错误"]).prop_map(Unsigned),
        1 => select(vec![Forged, Page, BadGateway, Lost, Refused, Hang]),
    ]
}

fn any_case() -> impl Strategy<Value = Case> {
    let step = || (select(vec![1_u64, 10, 200, 900, 2500]), any_said());
    let rotation = prop_oneof![2 => Just(None), 1 => (0..3000_u64).prop_map(|ms| Some(Duration::from_millis(ms)))];
    let steps = (collection::vec(step(), 0..5), collection::vec(step(), 0..5));
    (steps, any::<[bool; 2]>(), rotation, select(vec![500_u64, 1500, 3000, 6000, 30_000])).prop_map(
        |((closes, queries), [confirm, is_in_a_batch], rotated_after, time)| {
            let time = Duration::from_millis(time);
            Case { closes, queries, confirm, is_in_a_batch, rotated_after, time, ..Case::default() }
        },
    )
}

/// What must hold of every answer, whatever was said.
fn broken_rule(case: &Case, start: Instant, ended: &Ended) -> Option<&'static str> {
    let Answer { outcome, confirmed, .. } = ended.answer;
    let verified = |call| ended.sent.iter().filter(move |sent| sent.call == call && sent.is_verified).map(|it| it.said);
    let states: Vec<_> = verified(Call::OrderQuery)
        .filter_map(|said| match said {
            State("CLOSED" | "REVOKED") => Some(Outcome::Closed),
            State("SUCCESS" | "REFUND") => Some(Outcome::Paid),
            State(_) => Some(Outcome::Open),
            _ => None,
        })
        .collect();
    let closes: Vec<_> = verified(Call::CloseOrder).collect();
    let closed_with = |codes: &[Said]| closes.iter().any(|said| codes.contains(said));
    let exists = !states.is_empty()
        || closed_with(&[Code("ORDERPAID"), Code("ORDERCLOSED"), Code("USERPAYING"), Code("TRADE_STATE_ERROR")]);
    let was_not_found = verified(Call::OrderQuery).any(|said| said == Code("ORDERNOTEXIST"));
    let [closes_sent, queries_sent] = ended.calls();
    let is_limited = |sent: &&Sent| matches!(sent.said, Unsigned("频率限制") | Code("FREQUENCY_LIMITED"));
    let [closes_limited, queries_limited] = [Call::CloseOrder, Call::OrderQuery].map(|call| {
        let uncounted = ended.sent.iter().filter(is_limited).filter(|sent| case.is_in_a_batch && sent.call == call);
        uncounted.count()
    });
    let is_terminal = matches!(outcome, Outcome::Closed | Outcome::Paid | Outcome::NotFound);
    let rules = [
        ("an outcome is confirmed only by the last state that a query showed", {
            !confirmed || states.last() == Some(&outcome) || outcome == Outcome::NotFound && was_not_found
        }),
        ("with confirm, closed, paid and not_found are confirmed", !case.confirm || !is_terminal || confirmed),
        ("what is confirmed is never unknown, rejected or not_sent", {
            !confirmed || is_terminal || outcome == Outcome::Open
        }),
        ("closed is said by closeorder or by a query", {
            outcome != Outcome::Closed || confirmed || closed_with(&[Success, Code("ORDERCLOSED")])
        }),
        ("paid is said by closeorder or by a query", {
            outcome != Outcome::Paid || confirmed || closed_with(&[Code("ORDERPAID")])
        }),
        ("an order that exists is never not_found", { outcome != Outcome::NotFound || !exists }),
        ("what a query showed paid or closed last is said, or contradicted by closeorder", {
            match states.last() {
                Some(&state) if state != Outcome::Open => {
                    outcome == state || outcome == Outcome::Unknown && closed_with(&[Code("ORDERPAID")])
                }
                _ => true,
            }
        }),
        ("what closeorder called paid is never called open or closed", {
            !closed_with(&[Code("ORDERPAID")]) || !matches!(outcome, Outcome::Open | Outcome::Closed)
        }),
        ("no request is sent after the deadline, and the answer is there by it", {
            ended.sent.iter().all(|sent| sent.at < start + case.time) && ended.took <= case.time
        }),
        ("there are three counted closes at most", closes_sent <= MAX_ATTEMPTS as usize + closes_limited),
        // Two rounds, and one more for each close that met the limit.
        ("there are two counted queries a round at most", {
            queries_sent <= MAX_QUERY_ATTEMPTS as usize * (2 + closes_limited) + queries_limited
        }),
        ("a verified reply of closeorder in hand never becomes a fault", {
            closes.is_empty() || ended.answer.result.is_ok()
        }),
        ("not_sent means that nothing was sent", {
            outcome != Outcome::NotSent || ended.sent.iter().all(|sent| sent.said == Refused)
        }),
        ("rejected means that nothing else happened", {
            outcome != Outcome::Rejected
                || ended.sent.iter().filter(|sent| sent.call == Call::CloseOrder).all(|sent| {
                    matches!(sent.said, Refused | Unsigned(_) | Code("NOAUTH" | "SIGNERROR" | "FREQUENCY_LIMITED"))
                })
        }),
        ("nothing of an unsigned reply but its text is passed on", {
            !ended.json.to_string().contains("ORDERCLOSED") || outcome != Outcome::Rejected
        }),
    ];
    rules.into_iter().find(|(_, holds)| !holds).map(|(rule, _)| rule)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_rule_holds_for_every_script(case in any_case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (start, ended) = runtime.block_on(async {
            let start = Instant::now();
            (start, case.run().await)
        });
        let broken = broken_rule(&case, start, &ended);
        prop_assert!(broken.is_none(), "{}: {} {:?}", broken.unwrap(), ended.json, ended.sent);
    }
}
