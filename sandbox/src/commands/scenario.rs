//! What the gateway's books say of an order that an event names: its number's first word decides.

use sandbox::mock::gateway::{Fault, TradeState, Unknown};

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
    let state = |state| Unknown { state: Some(state), fault: None };
    let fault = |fault| Unknown { state: Some(TradeState::NotPay), fault: Some(fault) };
    let word = out_trade_no.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    match word {
        "ORDERPAID" => state(TradeState::Success),
        "ORDERCLOSED" => state(TradeState::Closed),
        "USERPAYING" => state(TradeState::UserPaying),
        "SYSTEMERROR" => fault(Fault::Error("SYSTEMERROR")),
        "SIGNERROR" => fault(Fault::Error("SIGNERROR")),
        "FORGED" => fault(Fault::Forge),
        "HANG" => fault(Fault::Hang),
        "RESET" => fault(Fault::Reset),
        _ => state(TradeState::NotPay),
    }
}
