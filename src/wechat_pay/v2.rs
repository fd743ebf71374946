//! API v2: signed XML, `POST {endpoint}/pay/closeorder` and `/pay/orderquery`, no client certificate
//! (<https://pay.weixin.qq.com/wiki/doc/api/jsapi_sl.php?chapter=9_3>).

pub(super) mod reply;
pub(super) mod request;
mod signature;
mod xml;

pub use signature::{Key, SignType};
