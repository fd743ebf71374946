//! An order as the gateway has it: its state, and how it behaves when it is closed and queried.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::Times;

/// The state of an order (`trade_state` of orderquery).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeState {
    /// Not paid yet: it can be closed.
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
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::NotPay,
        Self::Success,
        Self::UserPaying,
        Self::Closed,
        Self::Refund,
        Self::Revoked,
        Self::PayError,
        Self::Accept,
    ];

    /// `trade_state`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotPay => "NOTPAY",
            Self::Success => "SUCCESS",
            Self::UserPaying => "USERPAYING",
            Self::Closed => "CLOSED",
            Self::Refund => "REFUND",
            Self::Revoked => "REVOKED",
            Self::PayError => "PAYERROR",
            Self::Accept => "ACCEPT",
        }
    }

    /// `trade_state_desc`.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::NotPay => "订单未支付",
            Self::Success => "支付成功",
            Self::UserPaying => "用户支付中,需要输入密码",
            Self::Closed => "订单已关闭",
            Self::Refund => "订单发生过退款,退款详情请查询退款单",
            Self::Revoked => "订单已撤销",
            Self::PayError => "支付失败(其他原因,如银行返回失败)",
            Self::Accept => "已接收,等待扣款",
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
#[derive(Clone, Debug)]
pub struct Order {
    /// Its state.
    pub state: TradeState,
    /// The merchant whose order it is; whichever asks, if none is named.
    pub mch_id: Option<String>,
    /// Closes that are answered SUCCESS while the order stays unpaid and open.
    pub closes_not_sticking: Times,
    /// Queries that still say NOTPAY of an order that is paid.
    pub queries_lagging: Times,
    /// Queries that find it, before any misses it.
    pub queries_finding: Times,
    /// Queries that say `ORDERNOTEXIST` of it although it exists.
    pub queries_missing: Times,
    /// Closes that are answered `FREQUENCY_LIMITED`, as of several at once all but one are.
    pub closes_limited: Times,
    /// The state that the order has once a close of it was limited: what the other close, or the payer, made of it.
    pub state_after_limit: Option<TradeState>,
    /// How long a close takes. A close of the same order that comes meanwhile is answered `FREQUENCY_LIMITED`.
    pub close_time: Duration,
    /// `total_fee`, in fen.
    pub total_fee: u64,
    /// `attach`, which is empty when the order was made without.
    pub attach: String,
}

impl From<TradeState> for Order {
    fn from(state: TradeState) -> Self {
        Self {
            state,
            mch_id: None,
            closes_not_sticking: Times::NEVER,
            queries_lagging: Times::NEVER,
            queries_finding: Times::NEVER,
            queries_missing: Times::NEVER,
            closes_limited: Times::NEVER,
            state_after_limit: None,
            close_time: Duration::ZERO,
            total_fee: 10,
            attach: String::new(),
        }
    }
}

impl Order {
    /// Closes it if that can be; the `err_code` if not.
    pub(super) fn close(&mut self) -> Option<&'static str> {
        if self.closes_limited.use_one() {
            return Some(self.limit());
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

    /// Rejects a close because another one is under way.
    pub(super) fn limit(&mut self) -> &'static str {
        self.state = self.state_after_limit.unwrap_or(self.state);
        "FREQUENCY_LIMITED"
    }

    /// What a query says of it, if it finds it.
    pub(super) fn query(&mut self) -> Option<TradeState> {
        if !self.queries_finding.use_one() && self.queries_missing.use_one() {
            return None;
        }
        let lags = self.state.is_paid() && self.queries_lagging.use_one();
        Some(if lags { TradeState::NotPay } else { self.state })
    }
}

/// The payer's id in the replies to queries of paid orders: nothing of it may show anywhere.
pub const OPENID: &str = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o";

/// When the paid orders were paid, as API v2 and API v3 write it.
pub(super) const TIME_END: &str = "20261123081500";
pub(super) const SUCCESS_TIME: &str = "2026-11-23T08:15:00+08:00";

/// The payment of an order, as WeChat Pay numbers it (`transaction_id`): another one for each order.
#[must_use]
pub fn transaction_id(out_trade_no: &str) -> String {
    let mut hasher = DefaultHasher::new();
    out_trade_no.hash(&mut hasher);
    format!("42000000{:020}", hasher.finish())
}
