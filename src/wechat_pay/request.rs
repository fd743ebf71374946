//! One request about one order, before it is written for a wire.

use std::time::SystemTime;

use super::{
    Account, Credentials, MAX_BYTES, MchType, Merchant, Reply, VerifyError, v2, v3,
    wire::{WireRequest, WireResponse},
};
use crate::order::{Order, SubAppid, SubMchId};

/// The calls that are made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Closes an order.
    CloseOrder,
    /// Asks for an order's state.
    OrderQuery,
}

/// One request about one order in the name of one merchant.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Which call it is.
    pub call: Call,
    /// The order it is about.
    pub order: &'a Order,
    /// In whose name it is sent, and with which key it is signed.
    pub account: &'a Account,
}

/// What names an order in an answer: the numbers that were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderIds {
    /// The merchant's own appid, where there is one.
    pub appid: Option<String>,
    /// The merchant whose key signed the request.
    pub mch_id: String,
    /// The mini-program's appid, if one was sent.
    pub sub_appid: Option<String>,
    /// The sub-merchant, if one was sent.
    pub sub_mch_id: Option<String>,
    /// The order's number.
    pub out_trade_no: String,
}

impl<'a> Request<'a> {
    /// A request to close an order.
    #[must_use]
    pub fn close(order: &'a Order, account: &'a Account) -> Self {
        Self { call: Call::CloseOrder, order, account }
    }

    /// A request for an order's state.
    #[must_use]
    pub fn query(order: &'a Order, account: &'a Account) -> Self {
        Self { call: Call::OrderQuery, order, account }
    }

    /// The merchant in whose name it is sent.
    #[must_use]
    pub fn merchant(&self) -> &'a Merchant {
        self.account.merchant()
    }

    /// The order's number.
    #[must_use]
    pub fn out_trade_no(&self) -> &'a str {
        self.order.out_trade_no.as_str()
    }

    /// The sub-merchant that is sent: a partner's only.
    #[must_use]
    pub fn sub_mch_id(&self) -> Option<&'a str> {
        let is_sent = self.merchant().mch_type() == MchType::Partner;
        self.order.sub_mch_id.as_ref().filter(|_| is_sent).map(SubMchId::as_str)
    }

    /// The mini-program's appid that is sent, if any: the order's, or else the secret's; a partner's only, over API v2.
    #[must_use]
    pub fn sub_appid(&self) -> Option<&'a str> {
        let is_v2 = matches!(self.account.credentials, Credentials::V2(_));
        let is_sent = is_v2 && self.merchant().mch_type() == MchType::Partner;
        let own = self.order.sub_appid.as_ref().map(SubAppid::as_str);
        own.or(self.merchant().sub_appid()).filter(|_| is_sent)
    }

    /// The request as its wire has it, signed now.
    #[must_use]
    pub fn write(&self) -> WireRequest {
        match &self.account.credentials {
            Credentials::V2(key) => v2::request::write(self, key),
            Credentials::V3(keys) => v3::request::write(self, keys),
        }
    }

    /// Takes a response for what it proves to be.
    ///
    /// # Errors
    /// [`VerifyError`] says which proof is lacking.
    pub fn verify(&self, response: &WireResponse) -> Result<Reply, VerifyError> {
        if response.body.len() > MAX_BYTES {
            return Err(VerifyError::TOO_LARGE);
        }
        match &self.account.credentials {
            Credentials::V2(key) => v2::reply::verify(&response.body, self, key),
            Credentials::V3(keys) => v3::reply::verify(response, self, keys, SystemTime::now()),
        }
    }

    /// What names the order in an answer.
    #[must_use]
    pub fn ids(&self) -> OrderIds {
        OrderIds {
            appid: self.merchant().appid().map(str::to_owned),
            mch_id: self.merchant().mch_id().to_owned(),
            sub_appid: self.sub_appid().map(str::to_owned),
            sub_mch_id: self.sub_mch_id().map(str::to_owned),
            out_trade_no: self.out_trade_no().to_owned(),
        }
    }
}
