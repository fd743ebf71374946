//! A verified reply as everything behind the wire sees it: whichever wire it came over, the same codes, states and facts.

use std::{borrow::Cow, collections::BTreeMap, fmt};

/// Fields by their documented names, those of API v2.
pub type Fields = BTreeMap<String, String>;

/// A verified reply.
#[derive(Clone)]
pub struct Reply {
    pub(super) code: ReplyCode,
    pub(super) is_signed: bool,
    pub(super) err_code: Option<String>,
    pub(super) state: Option<OrderState>,
    pub(super) payment: Payment,
    pub(super) fields: Fields,
    /// What tells this reply from any other's, where that is possible: its signature.
    pub(super) replay_id: Option<String>,
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyCode {
    /// The call succeeded: the order is closed, or its state is shown.
    Success,
    /// ORDERCLOSED: the order was closed before.
    OrderClosed,
    /// ORDERPAID.
    OrderPaid,
    /// ORDERNOTEXIST.
    OrderNotExist,
    /// USERPAYING: the payer is typing the password.
    UserPaying,
    /// `TRADE_STATE_ERROR`: the order is in a state that does not allow the call.
    TradeStateError,
    /// A signed `FREQUENCY_LIMITED`: the rate limit, or a payment under way.
    FrequencyLimited,
    /// SYSTEMERROR, or an unsigned reply that says the same: WeChat Pay asks for another call.
    SystemError,
    /// SIGNERROR, or an unsigned reply about the signature: the key is wrong, or was changed.
    SignatureRejected,
    /// An unsigned reply about the call rate: it did nothing about the order.
    RateLimited,
    /// WeChat Pay rejected the request itself, so it did nothing about the order.
    Rejected,
    /// Any other `err_code`.
    Other,
    /// An unsigned code of unknown meaning (API v3): whether it did something about the order is for a query to say.
    UnsignedOther,
}

/// What a query shows of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderState {
    /// CLOSED, or REVOKED: nobody can pay it any more.
    Closed,
    /// SUCCESS, or REFUND: it was paid.
    Paid,
    /// Any other state: it may be paid any moment.
    Open,
}

impl OrderState {
    /// The meaning of a `trade_state`; both versions of the API have the same words.
    #[must_use]
    pub fn of(trade_state: &str) -> Self {
        match trade_state {
            "CLOSED" | "REVOKED" => Self::Closed,
            "SUCCESS" | "REFUND" => Self::Paid,
            _ => Self::Open,
        }
    }
}

/// What a query's reply says of an order and its payment, as API v2 names and writes it. Nothing that identifies the payer
/// is among it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payment {
    /// The order's state.
    pub trade_state: Option<String>,
    /// The state in words.
    pub trade_state_desc: Option<String>,
    /// JSAPI, NATIVE, …
    pub trade_type: Option<String>,
    /// WeChat Pay's number of the payment.
    pub transaction_id: Option<String>,
    /// The order's amount in the currency's smallest unit (分).
    pub total_fee: Option<String>,
    /// The currency, ISO 4217.
    pub fee_type: Option<String>,
    /// When it was paid: `yyyyMMddHHmmss`, Beijing time.
    pub time_end: Option<String>,
    /// The text that the shop gave the order when it placed it.
    pub attach: Option<String>,
}

impl Payment {
    /// The names of all fields.
    pub(crate) const NAMES: [&'static str; 8] = [
        "trade_state",
        "trade_state_desc",
        "trade_type",
        "transaction_id",
        "total_fee",
        "fee_type",
        "time_end",
        "attach",
    ];

    /// The fields that are known, by name.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let values = [
            &self.trade_state,
            &self.trade_state_desc,
            &self.trade_type,
            &self.transaction_id,
            &self.total_fee,
            &self.fee_type,
            &self.time_end,
            &self.attach,
        ];
        Self::NAMES.into_iter().zip(values).filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// Why a response does not count as a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It is not a reply of WeChat Pay: a proxy's page, a cut document. Another endpoint may do better.
    #[error("{0}")]
    NotAReply(Cow<'static, str>),
    /// It is signed, but not with the key we hold: forged, or the key was changed.
    #[error("its signature does not match")]
    Signature,
    /// It is signed, as it says, with a key that we do not hold: forged, or WeChat Pay has switched keys.
    #[error(
        "its Wechatpay-Serial {0} names a key that the secret does not have; if it is WeChat Pay's (merchant platform, API \
         security), add it to other_public_keys"
    )]
    UnknownSerial(String),
    /// It is signed, but lacks a field that it needs.
    #[error("its {0} is missing")]
    Missing(&'static str),
    /// It is signed, but about something else than was asked.
    #[error("its {0} is not the one that was sent")]
    NotOurs(&'static str),
    /// It is signed, but replies of this call never say such a thing.
    #[error("its {0} is not one that this call's replies have")]
    NotThisCall(&'static str),
    /// It is signed, but the signed text can be read in another way, too.
    #[error("its {0} holds the text of another field, so that its signature proves nothing")]
    Ambiguous(String),
    /// Its signature was verified before, for another order or call.
    #[error("it is the reply to another order or call")]
    Replayed,
}

impl VerifyError {
    pub(super) const TOO_LARGE: Self = Self::not_a_reply("it has more than 64 KiB");

    pub(super) const fn not_a_reply(why: &'static str) -> Self {
        Self::NotAReply(Cow::Borrowed(why))
    }

    /// What goes into a log line of a serial that anybody may have sent: one that looks like WeChat Pay's. A text of another
    /// form could be our own signature, sent back.
    pub(super) fn unknown_serial(serial: &str) -> Self {
        let is_id = |text: &str| text.len() > 11 && text.bytes().skip(11).all(|b| b.is_ascii_digit());
        let is_ours = serial.get(..11).is_some_and(|start| start.eq_ignore_ascii_case("PUB_KEY_ID_")) && is_id(serial);
        let is_hexadecimal = serial.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        let is_plain = serial.len() <= 64 && (is_ours || is_hexadecimal);
        Self::UnknownSerial(if is_plain { serial.to_owned() } else { "of another form".to_owned() })
    }
}

impl Reply {
    /// What the reply says.
    #[must_use]
    pub fn code(&self) -> ReplyCode {
        self.code
    }

    /// Whether it was verified by its signature.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.is_signed
    }

    /// The code of a signed failure, as API v2 spells it.
    #[must_use]
    pub fn err_code(&self) -> Option<&str> {
        self.err_code.as_deref()
    }

    /// The state that a query's reply shows.
    #[must_use]
    pub fn state(&self) -> Option<OrderState> {
        self.state
    }

    /// What a query's reply says of the payment.
    #[must_use]
    pub fn payment(&self) -> &Payment {
        &self.payment
    }

    /// What the caller gets of a reply to a close, by documented name; of an unsigned one only `return_code` and
    /// `return_msg`.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Whether it says that an order is closed, paid or not there: what a replayed reply must not say of another order.
    pub(super) fn is_terminal(&self) -> bool {
        match self.code {
            ReplyCode::OrderClosed | ReplyCode::OrderPaid | ReplyCode::OrderNotExist => true,
            ReplyCode::Success => self.state != Some(OrderState::Open),
            _ => false,
        }
    }
}

/// Without the fields: a signature is one of them.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("code", &self.code).field("state", &self.state).finish_non_exhaustive()
    }
}
