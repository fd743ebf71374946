//! What an order number's prefix says of an order that nobody put into the gateway.

use sandbox::mock::gateway::{Call, Fault, Order, Times, TradeState, Unknown};

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
  NOTSTICKING    a close answers SUCCESS, and the order stays unpaid; the second close sticks
  NEVERSTICKING  no close sticks
  LATEPAID       paid, but the first 3 queries still say NOTPAY
  LIMITED        a close answers FREQUENCY_LIMITED, every time
  LIMITEDPAID    a close answers FREQUENCY_LIMITED, and the order is paid then
  LIMITEDCLOSED  a close answers FREQUENCY_LIMITED, and the order is closed then

WeChat Pay fails or rejects, in both calls unless one is named
  SYSTEMERROR    signed SYSTEMERROR
  SIGNERROR      signed SIGNERROR
  APPIDMISMATCH  unsigned FAIL: 商户号mch_id与appid不匹配
  SYSTEMBUSY     unsigned FAIL: 系统繁忙
  RATELIMIT      unsigned FAIL: 频率限制
  FORGED         a reply that somebody else signed
  HANG           no reply ever comes
  RESET          connections break
  CLOSEDOWN      connections break in closeorder; orderquery works
  QUERYDOWN      connections break in orderquery; closeorder works";

/// How an order starts.
pub fn start_of(out_trade_no: &str) -> Unknown {
    let order = |order: Order| Unknown { order: Some(order), fault: None };
    let state = |state: TradeState| order(state.into());
    let open = || Order::from(TradeState::NotPay);
    let fault = |call, fault| Unknown { order: Some(open()), fault: Some((call, fault)) };
    let closes = Some(Call::CloseOrder);
    let word = out_trade_no.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    match word {
        "ORDERPAID" => state(TradeState::Success),
        "ORDERCLOSED" => state(TradeState::Closed),
        "ORDERNOTEXIST" => Unknown::default(),
        "ORDERNOTEXISTSIGNED" => Unknown { order: None, fault: Some((closes, Fault::Error("ORDERNOTEXIST"))) },
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
        "SYSTEMERROR" => fault(None, Fault::Error("SYSTEMERROR")),
        "SIGNERROR" => fault(None, Fault::Error("SIGNERROR")),
        "APPIDMISMATCH" => fault(None, Fault::UnsignedFail("商户号mch_id与appid不匹配")),
        "SYSTEMBUSY" => fault(None, Fault::UnsignedFail("系统繁忙")),
        "RATELIMIT" => fault(None, Fault::UnsignedFail("频率限制")),
        "CLOSEDOWN" => fault(closes, Fault::Reset),
        "QUERYDOWN" => fault(Some(Call::OrderQuery), Fault::Reset),
        "FORGED" => fault(None, Fault::Forge),
        "HANG" => fault(None, Fault::Hang),
        "RESET" => fault(None, Fault::Reset),
        _ => state(TradeState::NotPay),
    }
}

/// An order whose close was rejected because another one was under way, which made of it what it is now.
fn limited(state: TradeState) -> Unknown {
    let order = Order { closes_limited: Times::Next(1), state_after_limit: Some(state), ..TradeState::NotPay.into() };
    Unknown { order: Some(order), fault: None }
}
