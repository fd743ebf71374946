//! What an order number's prefix says of an order that nobody put into the gateway.

use std::{fmt::Write, time::Duration};

use sandbox::mock::gateway::{
    Call, Fault, Order, Times,
    TradeState::{self, Accept, Closed, NotPay, PayError, Refund, Revoked, Success, UserPaying},
    Unknown, V3Fault,
};

const INTRODUCTION: &str = "\
What happens to an order is said by what its number begins with (upper-case letters, up to the first character that is
not a letter, as in ORDERPAID_20261123_0001). The order of any other number is unpaid, and closed by the call.";

const CLOSE: Option<Call> = Some(Call::CloseOrder);

/// A prefix, what `--help` says of it, and what it stands for.
type Row<T> = (&'static str, &'static str, T);

fn states() -> [Row<Unknown>; 9] {
    let none = Unknown::default();
    let unknown_to_closes = Unknown { fault: Some((CLOSE, Fault::Error("ORDERNOTEXIST"))), order: None };
    [
        ("ORDERPAID", "paid", order(Success)),
        ("REFUND", "paid, and refunded since", order(Refund)),
        ("ORDERCLOSED", "closed before", order(Closed)),
        ("ORDERNOTEXIST", "there is no such order: a close answers SUCCESS all the same, a query ORDERNOTEXIST", none),
        ("ORDERNOTEXISTSIGNED", "there is no such order, and a close says so", unknown_to_closes),
        ("USERPAYING", "the payer is typing the password", order(UserPaying)),
        ("REVOKED", "revoked; a close answers TRADE_STATE_ERROR", order(Revoked)),
        ("PAYERROR", "the payment failed; a close answers TRADE_STATE_ERROR", order(PayError)),
        ("ACCEPT", "the deduction is pending; a close answers TRADE_STATE_ERROR", order(Accept)),
    ]
}

fn untruths() -> [Row<Unknown>; 9] {
    let open = || Order::from(NotPay);
    let not_sticking = |times| Order { closes_not_sticking: times, ..open() };
    let late = order(Order { queries_lagging: Times::Next(3), ..Success.into() });
    let missed = |times, state: TradeState| order(Order { queries_missing: times, ..state.into() });
    let [once, always] = [Times::Next(1), Times::Always];
    // Another close was under way, which made of the order what it is now.
    let limited = |state| order(Order { closes_limited: once, state_after_limit: Some(state), ..open() });
    [
        (
            "NOTSTICKING",
            "a close answers SUCCESS, and the order stays unpaid; the second close sticks",
            order(not_sticking(once)),
        ),
        ("NEVERSTICKING", "no close sticks", order(not_sticking(always))),
        ("LATEPAID", "paid, but the first 3 queries still say NOTPAY", late),
        ("LIMITED", "a close answers FREQUENCY_LIMITED, every time", order(Order { closes_limited: always, ..open() })),
        ("LIMITEDPAID", "a close answers FREQUENCY_LIMITED, and the order is paid then", limited(Success)),
        ("LIMITEDCLOSED", "a close answers FREQUENCY_LIMITED, and the order is closed then", limited(Closed)),
        ("MISSEDONCE", "the first query says ORDERNOTEXIST, the next ones find the order", missed(once, NotPay)),
        ("USERPAYINGMISSED", "a close answers USERPAYING, a query ORDERNOTEXIST", missed(always, UserPaying)),
        ("PAYERRORMISSED", "a close answers TRADE_STATE_ERROR, a query ORDERNOTEXIST", missed(always, PayError)),
    ]
}

fn faults() -> [Row<Fault>; 18] {
    let mismatch = "商户号mch_id与appid不匹配";
    let another = Fault::Edit(vec![("out_trade_no", Some("ANOTHER_ORDER".to_owned()))]);
    [
        ("SYSTEMERROR", "signed SYSTEMERROR", Fault::Error("SYSTEMERROR")),
        ("SIGNERROR", "signed SIGNERROR", Fault::Error("SIGNERROR")),
        ("NOAUTH", "signed NOAUTH", Fault::Error("NOAUTH")),
        ("APPIDMISMATCH", "unsigned FAIL: 商户号mch_id与appid不匹配", Fault::UnsignedFail(mismatch)),
        ("SYSTEMBUSY", "unsigned FAIL: 系统繁忙", Fault::UnsignedFail("系统繁忙")),
        ("RATELIMIT", "unsigned FAIL: 频率限制", Fault::UnsignedFail("频率限制")),
        ("FORGED", "a reply that somebody else signed", Fault::Forge),
        ("NOSTATE", "a reply without trade_state", Fault::Edit(vec![("trade_state", None)])),
        ("OTHERORDER", "a reply about another order", another),
        ("HTML", "a page with HTTP status 200", Fault::Body(b"<html>error</html>".to_vec())),
        ("BADGATEWAY", "a page with HTTP status 502", Fault::Status(502)),
        ("EMPTY", "nothing with HTTP status 200", Fault::Body(Vec::new())),
        ("TOOLARGE", "a reply of a megabyte", Fault::Flood(1024 * 1024)),
        ("HANG", "no reply ever comes", Fault::Hang),
        ("LATE", "a reply comes after 30 seconds", Fault::Delay(Duration::from_secs(30))),
        ("RESET", "connections break", Fault::Reset),
        ("DOWN", "connections break", Fault::Reset),
        (
            "ORDERCLOSED",
            "signed ORDERCLOSED (only as QUERYORDERCLOSED or CLOSEORDERCLOSED)",
            Fault::Error("ORDERCLOSED"),
        ),
    ]
}

fn faults_of_v3() -> [Row<Fault>; 7] {
    let unauthorized = V3Fault::Unsigned(401, r#"{"code":"SIGN_ERROR","message":"错误的签名，验签失败"}"#);
    let paid = V3Fault::Unsigned(400, r#"{"code":"ORDERPAID","message":"该订单已支付"}"#);
    let accepted = V3Fault::Signed(202, r#"{"code":"USER_PAYING","message":"用户支付中"}"#);
    let certificate = "a reply that bears the certificate's serial though the public key was asked for";
    [
        ("UNSIGNED", "a reply without the headers of a signature", V3Fault::Header("wechatpay-signature", None)),
        ("UNAUTHORIZED", "unsigned 401 SIGN_ERROR", unauthorized),
        ("UNSIGNEDPAID", "unsigned 400 ORDERPAID", paid),
        ("ACCEPTED", "signed 202 USER_PAYING", accepted),
        ("SIGNTEST", "a signature by which WeChat Pay probes whether it is verified", V3Fault::SignTest),
        ("BEFORESWITCH", certificate, V3Fault::Certificate),
        ("STALE", "a reply that was signed ten minutes ago", V3Fault::Clock(-600)),
    ]
    .map(|(prefix, text, fault)| (prefix, text, Fault::V3(fault)))
}

fn order(order: impl Into<Order>) -> Unknown {
    Unknown { order: Some(order.into()), fault: None }
}

/// The prefixes, for `--help`.
pub fn help() -> String {
    let mut help = INTRODUCTION.to_owned();
    section(&mut help, "The order's state", &states());
    section(&mut help, "Where one reply is not the truth", &untruths());
    let both = "WeChat Pay fails or rejects: both calls; as CLOSE… or QUERY… (QUERYHTML), that one alone";
    section(&mut help, both, &faults());
    section(&mut help, "API v3 alone fails; with API v2 all goes well", &faults_of_v3());
    help
}

fn section<T>(help: &mut String, heading: &str, rows: &[Row<T>]) {
    let _ = write!(help, "\n\n{heading}");
    let width = rows.iter().map(|(prefix, ..)| prefix.len()).max().unwrap_or_default();
    for (prefix, text, _) in rows {
        let text = text.replace('\n', &format!("\n{:width$}", "", width = width + 4));
        let _ = write!(help, "\n  {prefix:width$}  {text}");
    }
}

/// How an order starts.
pub fn start_of(out_trade_no: &str) -> Unknown {
    let word = out_trade_no.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    if let Some((.., start)) = states().into_iter().chain(untruths()).find(|(prefix, ..)| *prefix == word) {
        return start;
    }
    let (call, word) = match (word.strip_prefix("CLOSE"), word.strip_prefix("QUERY")) {
        (Some(word), _) => (CLOSE, word),
        (_, Some(word)) => (Some(Call::OrderQuery), word),
        _ => (None, word),
    };
    let fault = faults().into_iter().chain(faults_of_v3()).find(|(prefix, ..)| *prefix == word);
    Unknown { order: Some(NotPay.into()), fault: fault.map(|(.., fault)| (call, fault)) }
}
