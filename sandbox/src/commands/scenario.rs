//! What an order number's prefix says of an order that nobody put into the gateway.

use std::time::Duration;

use sandbox::mock::gateway::{Call, Fault, Order, Times, TradeState, Unknown, V3Fault};

/// The prefixes, for `--help`.
pub const HELP: &str = "\
What happens to an order is said by what its number begins with (upper-case letters, up to the first character that is
not a letter, as in ORDERPAID_20261123_0001). The order of any other number is unpaid, and closed by the call.

The order's state
  ORDERPAID            paid
  REFUND               paid, and refunded since
  ORDERCLOSED          closed before
  ORDERNOTEXIST        there is no such order: a close answers SUCCESS all the same, a query ORDERNOTEXIST
  ORDERNOTEXISTSIGNED  there is no such order, and a close says so
  USERPAYING           the payer is typing the password
  REVOKED, PAYERROR, ACCEPT   as their names say; a close answers TRADE_STATE_ERROR

Where one reply is not the truth
  NOTSTICKING       a close answers SUCCESS, and the order stays unpaid; the second close sticks
  NEVERSTICKING     no close sticks
  LATEPAID          paid, but the first 3 queries still say NOTPAY
  LIMITED           a close answers FREQUENCY_LIMITED, every time
  LIMITEDPAID       a close answers FREQUENCY_LIMITED, and the order is paid then
  LIMITEDCLOSED     a close answers FREQUENCY_LIMITED, and the order is closed then
  MISSEDONCE        the first query says ORDERNOTEXIST, the next ones find the order
  USERPAYINGMISSED  a close answers USERPAYING, a query ORDERNOTEXIST
  PAYERRORMISSED    a close answers TRADE_STATE_ERROR, a query ORDERNOTEXIST

WeChat Pay fails or rejects: both calls; as CLOSE… or QUERY… (QUERYHTML), that one alone
  SYSTEMERROR    signed SYSTEMERROR
  SIGNERROR      signed SIGNERROR
  NOAUTH         signed NOAUTH
  APPIDMISMATCH  unsigned FAIL: 商户号mch_id与appid不匹配
  SYSTEMBUSY     unsigned FAIL: 系统繁忙
  RATELIMIT      unsigned FAIL: 频率限制
  FORGED         a reply that somebody else signed
  NOSTATE        a reply without trade_state
  OTHERORDER     a reply about another order
  HTML           a page with HTTP status 200
  BADGATEWAY     a page with HTTP status 502
  EMPTY          nothing with HTTP status 200
  TOOLARGE       a reply of a megabyte
  HANG           no reply ever comes
  LATE           a reply comes after 30 seconds
  RESET, DOWN    connections break
  ORDERCLOSED    signed ORDERCLOSED (only as QUERYORDERCLOSED or CLOSEORDERCLOSED)

API v3 alone fails; with API v2 all goes well
  UNSIGNED       a reply without the headers of a signature
  UNAUTHORIZED   unsigned 401 SIGN_ERROR
  UNSIGNEDPAID   unsigned 400 ORDERPAID
  ACCEPTED       signed 202 USER_PAYING
  SIGNTEST       a signature by which WeChat Pay probes whether it is verified
  BEFORESWITCH   a reply that bears the certificate's serial though the public key was asked for
  STALE          a reply that was signed ten minutes ago";

/// How an order starts.
pub fn start_of(out_trade_no: &str) -> Unknown {
    let order = |order: Order| Unknown { order: Some(order), fault: None };
    let state = |state: TradeState| order(state.into());
    let open = || Order::from(TradeState::NotPay);
    let word = out_trade_no.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    match word {
        "ORDERPAID" => state(TradeState::Success),
        "ORDERCLOSED" => state(TradeState::Closed),
        "ORDERNOTEXIST" => Unknown::default(),
        "ORDERNOTEXISTSIGNED" => {
            Unknown { order: None, fault: Some((Some(Call::CloseOrder), Fault::Error("ORDERNOTEXIST"))) }
        }
        "USERPAYING" => state(TradeState::UserPaying),
        "REFUND" => state(TradeState::Refund),
        "REVOKED" => state(TradeState::Revoked),
        "PAYERROR" => state(TradeState::PayError),
        "ACCEPT" => state(TradeState::Accept),
        "NOTSTICKING" => order(Order { closes_not_sticking: Times::Next(1), ..open() }),
        "NEVERSTICKING" => order(Order { closes_not_sticking: Times::Always, ..open() }),
        "LATEPAID" => order(Order { queries_lagging: Times::Next(3), ..TradeState::Success.into() }),
        "LIMITED" => order(Order { closes_limited: Times::Always, ..open() }),
        "LIMITEDPAID" => limited(TradeState::Success),
        "LIMITEDCLOSED" => limited(TradeState::Closed),
        "MISSEDONCE" => order(Order { queries_missing: Times::Next(1), ..open() }),
        "USERPAYINGMISSED" => order(Order { queries_missing: Times::Always, ..TradeState::UserPaying.into() }),
        "PAYERRORMISSED" => order(Order { queries_missing: Times::Always, ..TradeState::PayError.into() }),
        _ => {
            let (call, word) = match (word.strip_prefix("CLOSE"), word.strip_prefix("QUERY")) {
                (Some(word), _) => (Some(Call::CloseOrder), word),
                (_, Some(word)) => (Some(Call::OrderQuery), word),
                _ => (None, word),
            };
            Unknown { order: Some(open()), fault: failure(word).map(|fault| (call, fault)) }
        }
    }
}

/// What goes wrong with the calls about an order.
fn failure(word: &str) -> Option<Fault> {
    Some(match word {
        "SYSTEMERROR" => Fault::Error("SYSTEMERROR"),
        "SIGNERROR" => Fault::Error("SIGNERROR"),
        "NOAUTH" => Fault::Error("NOAUTH"),
        "APPIDMISMATCH" => Fault::UnsignedFail("商户号mch_id与appid不匹配"),
        "SYSTEMBUSY" => Fault::UnsignedFail("系统繁忙"),
        "RATELIMIT" => Fault::UnsignedFail("频率限制"),
        "FORGED" => Fault::Forge,
        "NOSTATE" => Fault::Edit(vec![("trade_state", None)]),
        "OTHERORDER" => Fault::Edit(vec![("out_trade_no", Some("ANOTHER_ORDER".to_owned()))]),
        "HTML" => Fault::Body(b"<html>error</html>".to_vec()),
        "BADGATEWAY" => Fault::Status(502),
        "EMPTY" => Fault::Body(Vec::new()),
        "TOOLARGE" => Fault::Flood(1024 * 1024),
        "HANG" => Fault::Hang,
        "LATE" => Fault::Delay(Duration::from_secs(30)),
        "RESET" | "DOWN" => Fault::Reset,
        "ORDERCLOSED" => Fault::Error("ORDERCLOSED"),
        "UNSIGNED" => Fault::V3(V3Fault::Header("wechatpay-signature", None)),
        "UNAUTHORIZED" => {
            Fault::V3(V3Fault::Unsigned(401, r#"{"code":"SIGN_ERROR","message":"错误的签名，验签失败"}"#))
        }
        "UNSIGNEDPAID" => Fault::V3(V3Fault::Unsigned(400, r#"{"code":"ORDERPAID","message":"该订单已支付"}"#)),
        "ACCEPTED" => Fault::V3(V3Fault::Signed(202, r#"{"code":"USER_PAYING","message":"用户支付中"}"#)),
        "SIGNTEST" => Fault::V3(V3Fault::SignTest),
        "BEFORESWITCH" => Fault::V3(V3Fault::Certificate),
        "STALE" => Fault::V3(V3Fault::Clock(-600)),
        _ => return None,
    })
}

/// An order whose close was rejected because another one was under way, which made of it what it is now.
fn limited(state: TradeState) -> Unknown {
    let order = Order { closes_limited: Times::Next(1), state_after_limit: Some(state), ..TradeState::NotPay.into() };
    Unknown { order: Some(order), fault: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_help_makes_an_order_that_is_not_like_any_other_one() {
        let start = |word: &str| format!("{:?}", start_of(&format!("{word}_20261123_0001")));
        let words: Vec<_> = HELP
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .flat_map(|line| line.split("  ").next().unwrap_or_default().split(", "))
            .filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()))
            .collect();
        assert!(words.len() > 30, "{words:?}");
        for word in words {
            assert_ne!(start(word), start("UNPAID"), "{word}");
            assert!(word.chars().all(|c| c.is_ascii_uppercase()), "{word}");
            assert!(!word.starts_with("QUERY") && !word.starts_with("CLOSE"), "{word} would be taken for one call's");
        }
        assert_ne!(start("CLOSEHTML"), start("QUERYHTML"));
        assert_eq!(start("CLOSEUNKNOWN"), start("UNPAID"));
    }
}
