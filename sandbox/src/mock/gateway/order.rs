//! An order as the gateway has it: its state, and how it behaves when it is closed and queried.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Times;

/// The state of an order (`trade_state` of orderquery).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TradeState {
    /// Not paid yet: it can be closed.
    #[default]
    NotPay,
    /// Paid.
    Success,
    /// The payer is typing the password.
    UserPaying,
    /// Closed.
    Closed,
    /// Paid, and refunded in part or whole since.
    Refund,
    /// Reversed; only orders by payment code (付款码) can be.
    Revoked,
    /// The payment failed, for instance by the payer's bank.
    PayError,
    /// A deduction was accepted and is to be made.
    Accept,
}

impl TradeState {
    /// `trade_state`, and `trade_state_desc`.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::NotPay => ("NOTPAY", "订单未支付"),
            Self::Success => ("SUCCESS", "支付成功"),
            Self::UserPaying => ("USERPAYING", "用户支付中,需要输入密码"),
            Self::Closed => ("CLOSED", "订单已关闭"),
            Self::Refund => ("REFUND", "订单发生过退款,退款详情请查询退款单"),
            Self::Revoked => ("REVOKED", "订单已撤销"),
            Self::PayError => ("PAYERROR", "支付失败(其他原因,如银行返回失败)"),
            Self::Accept => ("ACCEPT", "已接收,等待扣款"),
        }
    }

    /// Whether money came in.
    #[must_use]
    pub fn is_paid(self) -> bool {
        matches!(self, Self::Success | Self::Refund)
    }
}

/// An order. Most are just in a state: `TradeState::NotPay.into()`. Others are told more:
/// `Order { closes_not_sticking: Times::Next(1), ..TradeState::NotPay.into() }`.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Its state.
    pub state: TradeState,
    /// The merchant whose order it is; whichever asks, if none is named.
    pub mch_id: Option<String>,
    /// Closes that are answered SUCCESS while the order stays unpaid and open.
    pub closes_not_sticking: Times,
    /// Queries that still say NOTPAY of an order that is paid.
    pub queries_lagging: Times,
    /// Queries that say `ORDERNOTEXIST` of it although it exists.
    pub queries_missing: Times,
    /// Closes that are answered `FREQUENCY_LIMITED`, as of several at once all but one are.
    pub closes_limited: Times,
    /// The state that the order has once a close of it was limited: what the other close, or the payer, made of it.
    pub state_after_limit: Option<TradeState>,
}

impl From<TradeState> for Order {
    fn from(state: TradeState) -> Self {
        Self { state, ..Self::default() }
    }
}

impl Order {
    /// Closes it if that can be; the `err_code` if not.
    pub(super) fn close(&mut self) -> Option<&'static str> {
        if self.closes_limited.use_one() {
            self.state = self.state_after_limit.unwrap_or(self.state);
            return Some("FREQUENCY_LIMITED");
        }
        match self.state {
            TradeState::NotPay => {
                if !self.closes_not_sticking.use_one() {
                    self.state = TradeState::Closed;
                }
                None
            }
            TradeState::Closed => Some("ORDERCLOSED"),
            TradeState::Success | TradeState::Refund => Some("ORDERPAID"),
            TradeState::UserPaying => Some("USERPAYING"),
            TradeState::Revoked | TradeState::PayError | TradeState::Accept => Some("TRADE_STATE_ERROR"),
        }
    }

    /// What a query says of it, if it finds it.
    pub(super) fn query(&mut self) -> Option<TradeState> {
        if self.queries_missing.use_one() {
            return None;
        }
        let lags = self.state.is_paid() && self.queries_lagging.use_one();
        Some(if lags { TradeState::NotPay } else { self.state })
    }
}

/// The payer's id in the replies to queries of paid orders: nothing of it may show anywhere.
pub const OPENID: &str = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o";

/// What every order costs, in fen.
pub(super) const TOTAL_FEE: u32 = 10;

/// The payment of an order, as WeChat Pay numbers it (`transaction_id`): another one for each order.
#[must_use]
pub fn transaction_id(out_trade_no: &str) -> String {
    let mut hasher = DefaultHasher::new();
    out_trade_no.hash(&mut hasher);
    format!("42000000{:020}", hasher.finish())
}
