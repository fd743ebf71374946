//! What an order may name, by the kind of merchant.

use crate::{
    order::{Invalid, Order, Problem, SubAppid, SubMchId},
    wechat_pay::{MchType, Merchant},
};

/// Checks what depends on the kind of merchant, and so on the secret.
///
/// # Errors
/// [`Invalid`] when a partner's order has no `sub_mch_id`, or an ordinary merchant's names another merchant.
pub(super) fn check(order: &Order, merchant: &Merchant) -> Result<(), Invalid> {
    let sub_mch_id = order.sub_mch_id.as_ref().map(SubMchId::as_str);
    let sub_appid = order.sub_appid.as_ref().map(SubAppid::as_str);
    let broken = match merchant.mch_type() {
        MchType::Partner if sub_mch_id.is_none() => Some((SubMchId::NAME, Problem::MISSING)),
        MchType::Merchant if sub_mch_id.is_some_and(|sub_mch_id| sub_mch_id != merchant.mch_id()) => {
            let zh = "普通商户请不填,或填本商户的mch_id";
            let en = "must be left out, or be the merchant's own mch_id: the secret is an ordinary merchant's";
            Some((SubMchId::NAME, Problem { zh, en }))
        }
        MchType::Merchant if sub_appid.is_some() && merchant.appid().is_some() && sub_appid != merchant.appid() => {
            let zh = "普通商户请不填,或填本商户的appid";
            let en = "must be left out, or be the merchant's own appid: the secret is an ordinary merchant's";
            Some((SubAppid::NAME, Problem { zh, en }))
        }
        MchType::Partner | MchType::Merchant => None,
    };
    broken.map_or(Ok(()), |(field, problem)| Err(order.invalid(field, problem)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wechat_pay::Account;

    fn account(mch_type: &str) -> Account {
        let secret = json!({
            "mch_type": mch_type, "appid": "wx8888888888888888", "mch_id": "1900000109", "api_key": "k".repeat(32),
        });
        Account::from_secret(secret.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_a_kind_of_merchant_may_send_is_checked_against_the_secret() {
        let own = ("1900000109", "wx8888888888888888");
        for (mch_type, sub_mch_id, sub_appid, expected) in [
            ("partner", None, None, Some("sub_mch_id 必填")),
            ("partner", None, Some(own.1), Some("sub_mch_id 必填")),
            ("partner", Some("1900000110"), None, None),
            ("partner", Some("1900000110"), Some("wx1"), None),
            ("merchant", None, None, None),
            ("merchant", Some(own.0), Some(own.1), None),
            ("merchant", Some("1900000110"), None, Some("sub_mch_id 普通商户请不填,或填本商户的mch_id")),
            ("merchant", None, Some("wx1"), Some("sub_appid 普通商户请不填,或填本商户的appid")),
        ] {
            let event = json!({"out_trade_no": "1", "sub_mch_id": sub_mch_id, "sub_appid": sub_appid});
            let order = Order::from_json(&event.to_string(), "event").unwrap();
            let checked = check(&order, account(mch_type).merchant()).map_err(|invalid| invalid.in_chinese());
            assert_eq!(checked.err().as_deref(), expected, "{mch_type} {event}");
        }
    }
}
