//! API v3: signed JSON, `POST {endpoint}/v3/pay/…/close` and `GET {endpoint}/v3/pay/…`, signatures with RSA keys of both
//! sides (<https://pay.weixin.qq.com/doc/v3/merchant/4012791860>).

mod der;
pub(super) mod keys;
mod pem;
pub(super) mod reply;
pub(super) mod request;
mod signature;
#[cfg(test)]
pub(super) mod vectors;
