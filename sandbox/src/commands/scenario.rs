//! What the gateway's books say of an order that an event names: its number's first word decides.

use sandbox::mock::gateway::{Call, Fault, Order, Times, TradeState, Unknown};

/// The scenarios, for `--help`.
pub const HELP: &str = "\
The gateway's books start with what the order number begins with:
  ORDERPAID…    the order is paid              SYSTEMERROR…  WeChat Pay has an error, every time
  ORDERCLOSED…  it was closed before           SIGNERROR…    WeChat Pay refuses the sign
  USERPAYING…   the payer is paying            FORGED…       a reply comes that somebody else signed
  HANG…         no answer ever comes           RESET…        connections break
any other     the order is unpaid, and is closed";

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
        "SYSTEMERROR" => fault(closes, Fault::Error("SYSTEMERROR")),
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
