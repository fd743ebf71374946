//! What an order may name, by the kind of merchant.

use crate::{
    order::{Invalid, MchId, Order, Problem, SubAppid, SubMchId},
    wechat_pay::{MchType, Merchant},
};

const PARTNER_NEEDS_SUB_MCH_ID: Problem = Problem::new(
    "必填;普通商户请在密钥(Secret)中设置\"mch_type\": \"merchant\"",
    "is required for a service provider's order; an ordinary merchant puts \"mch_type\": \"merchant\" into the secret",
);

const OTHER_MCH_ID: Problem = Problem::new("与密钥(Secret)中的mch_id不一致", "is not the mch_id of the secret");

const OTHER_SUB_MCH_ID: Problem = Problem::new(
    "普通商户请不填,或填本商户的mch_id",
    "must be left out, or be the merchant's own mch_id: the secret is an ordinary merchant's",
);

const OTHER_SUB_APPID: Problem = Problem::new(
    "普通商户请不填,或填本商户的appid",
    "must be left out, or be the merchant's own appid: the secret is an ordinary merchant's",
);

/// Checks what depends on the merchant, and so on the secret: it may be the secret that is wrong.
///
/// # Errors
/// [`Invalid`] when the order names another merchant than the secret's, a partner's order has no `sub_mch_id`, or an
/// ordinary merchant's names another merchant or appid there.
pub(super) fn check(order: &Order, merchant: &Merchant) -> Result<(), Invalid> {
    let mch_id = order.mch_id.as_ref().map(MchId::as_str);
    let sub_mch_id = order.sub_mch_id.as_ref().map(SubMchId::as_str);
    let sub_appid = order.sub_appid.as_ref().map(SubAppid::as_str);
    if mch_id.is_some_and(|mch_id| mch_id != merchant.mch_id()) {
        return Err(order.contradicted(MchId::NAME, OTHER_MCH_ID));
    }
    let broken = match merchant.mch_type() {
        MchType::Partner if sub_mch_id.is_none() => Some((SubMchId::NAME, PARTNER_NEEDS_SUB_MCH_ID)),
        MchType::Merchant if sub_mch_id.is_some_and(|sub_mch_id| sub_mch_id != merchant.mch_id()) => {
            Some((SubMchId::NAME, OTHER_SUB_MCH_ID))
        }
        MchType::Merchant if sub_appid.is_some() && merchant.appid().is_some() && sub_appid != merchant.appid() => {
            Some((SubAppid::NAME, OTHER_SUB_APPID))
        }
        MchType::Partner | MchType::Merchant => None,
    };
    broken.map_or(Ok(()), |(field, problem)| Err(order.contradicted(field, problem)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{order::InvalidKind, wechat_pay::Account};

    fn account(mch_type: &str) -> Account {
        let secret = json!({
            "mch_type": mch_type, "appid": "wx8888888888888888", "mch_id": "1900000109", "api_key": "k".repeat(32),
        });
        Account::from_secret(secret.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_a_kind_of_merchant_may_send_is_checked_against_the_secret() {
        const NO_SUB_MCH_ID: &str = "sub_mch_id 必填;普通商户请在密钥(Secret)中设置\"mch_type\": \"merchant\"";
        let own = ("1900000109", "wx8888888888888888");
        for (mch_type, sub_mch_id, sub_appid, expected) in [
            ("partner", None, None, Some(NO_SUB_MCH_ID)),
            ("partner", None, Some(own.1), Some(NO_SUB_MCH_ID)),
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

    #[test]
    fn an_order_that_names_a_merchant_is_closed_with_that_merchants_key_only_and_the_secret_may_be_wrong() {
        for mch_type in ["partner", "merchant"] {
            let check = |mch_id: &str| {
                let event = json!({"out_trade_no": "1", "mchId": mch_id, "sub_mch_id": "1900000109"});
                check(&Order::from_json(&event.to_string(), "event").unwrap(), account(mch_type).merchant())
            };
            assert_eq!(check("1900000109"), Ok(()));
            let invalid = check("1900000110").unwrap_err();
            assert_eq!((invalid.field, invalid.kind), ("mch_id", InvalidKind::Contradicted));
        }
    }
}
