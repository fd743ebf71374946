//! Replies that were verified for another order or call: a replay, or a connection that is out of step with its requests.
//!
//! A closeorder reply does not name its order, so its signature alone would let the reply to one order close another. And
//! ORDERNOTEXIST is the same from either call: closeorder's, there once more, would confirm itself as the query's.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use super::{Call, Reply, Request};

/// How many replies are remembered.
const REMEMBERED: usize = 256;

/// The signatures of the last replies that said closed, paid or not found, each with its call and order.
#[derive(Debug, Default)]
pub(super) struct ReplayGuard(Mutex<VecDeque<Seen>>);

struct Seen {
    id: String,
    call: Call,
    mch_id: String,
    sub_mch_id: Option<String>,
    out_trade_no: String,
}

/// Without the signature.
impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").field("out_trade_no", &self.out_trade_no).finish_non_exhaustive()
    }
}

impl ReplayGuard {
    /// Whether a verified reply was seen before, for another order or call; it is remembered otherwise.
    pub(super) fn is_replay(&self, reply: &Reply, request: &Request<'_>) -> bool {
        let Some(id) = reply.replay_id.as_ref().filter(|_| reply.is_terminal()) else { return false };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = seen.iter().find(|earlier| earlier.id == *id) {
            let is_same = earlier.call == request.call
                && earlier.mch_id == request.merchant().mch_id()
                && earlier.sub_mch_id.as_deref() == request.sub_mch_id()
                && earlier.out_trade_no == request.out_trade_no();
            return !is_same;
        }
        if seen.len() == REMEMBERED {
            seen.pop_front();
        }
        seen.push_back(Seen {
            id: id.clone(),
            call: request.call,
            mch_id: request.merchant().mch_id().to_owned(),
            sub_mch_id: request.sub_mch_id().map(str::to_owned),
            out_trade_no: request.out_trade_no().to_owned(),
        });
        false
    }
}

#[cfg(test)]
mod tests {
    use sandbox::mock::signed_xml::{sign, xml};
    use serde_json::json;

    use super::*;
    use crate::{
        order::Order,
        wechat_pay::{Account, Fields, WireResponse},
    };

    fn merchant() -> Account {
        merchant_of("1")
    }

    fn merchant_of(mch_id: &str) -> Account {
        let secret = json!({"appid": "wx1", "mch_id": mch_id, "api_key": "k".repeat(32)});
        Account::from_secret(secret.to_string().as_bytes()).unwrap()
    }

    fn order(out_trade_no: &str) -> Order {
        Order::from_json(&json!({"sub_mch_id": "2", "out_trade_no": out_trade_no}).to_string(), "event").unwrap()
    }

    fn reply(extra: &[(&str, &str)], request: &Request<'_>) -> Reply {
        let base = [
            ("return_code", "SUCCESS"),
            ("appid", "wx1"),
            ("mch_id", "1"),
            ("sub_mch_id", "2"),
            ("result_code", "SUCCESS"),
        ];
        let mut fields: Fields =
            base.iter().chain(extra).map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        fields.insert("sign".to_owned(), sign(&fields, &"k".repeat(32), "MD5"));
        request.verify(&WireResponse::ok(xml(&fields))).unwrap()
    }

    #[test]
    fn a_reply_to_one_order_says_nothing_of_another() {
        let (merchant, one, other) = (merchant(), order("one"), order("other"));
        let (one, other) = (Request::close(&one, &merchant), Request::close(&other, &merchant));
        for (extra, is_remembered) in [
            ([("nonce_str", "a"), ("result_msg", "OK")], true),
            ([("nonce_str", ""), ("result_msg", "OK")], false),
            ([("result_code", "FAIL"), ("err_code", "ORDERPAID")], false),
        ] {
            let guard = ReplayGuard::default();
            let reply = reply(&extra, &one);
            assert!(!guard.is_replay(&reply, &one));
            assert!(!guard.is_replay(&reply, &one), "the same order again");
            assert_eq!(guard.is_replay(&reply, &other), is_remembered, "{extra:?}");
        }
        let guard = ReplayGuard::default();
        let system_error = reply(&[("nonce_str", "a"), ("result_code", "FAIL"), ("err_code", "SYSTEMERROR")], &one);
        assert!(
            !guard.is_replay(&system_error, &one) && !guard.is_replay(&system_error, &other),
            "it says nothing of the order"
        );
    }

    #[test]
    fn an_order_of_another_merchant_or_sub_merchant_is_another_one_whatever_its_number() {
        let secret = json!({"appid": "wx1", "mch_id": "3", "api_key": "k".repeat(32)});
        let other_merchant = Account::from_secret(secret.to_string().as_bytes()).unwrap();
        let (merchant, one) = (merchant(), order("one"));
        let of_other_sub = Order::from_json(r#"{"sub_mch_id": "4", "out_trade_no": "one"}"#, "event").unwrap();
        let own = Request::close(&one, &merchant);
        let guard = ReplayGuard::default();
        let reply = reply(&[("nonce_str", "a")], &own);
        assert!(!guard.is_replay(&reply, &own));
        assert!(guard.is_replay(&reply, &Request::close(&one, &other_merchant)));
        assert!(guard.is_replay(&reply, &Request::close(&of_other_sub, &merchant)));
        assert!(!guard.is_replay(&reply, &own));
    }

    #[test]
    fn a_close_s_reply_is_not_a_query_s_proof_about_the_same_order() {
        let (merchant, order) = (merchant(), order("one"));
        let (close, query) = (Request::close(&order, &merchant), Request::query(&order, &merchant));
        let not_found = |nonce, request: &Request<'_>| {
            reply(&[("nonce_str", nonce), ("result_code", "FAIL"), ("err_code", "ORDERNOTEXIST")], request)
        };
        let guard = ReplayGuard::default();
        assert!(!guard.is_replay(&not_found("a", &close), &close));
        assert!(guard.is_replay(&not_found("a", &query), &query), "a reply that is on the connection twice");
        assert!(!guard.is_replay(&not_found("b", &query), &query), "the query's own");
        assert!(guard.is_replay(&not_found("b", &close), &close));
    }

    #[test]
    fn an_order_is_another_one_by_its_merchant_and_its_sub_merchant_too() {
        let (merchant, other_merchant, one) = (merchant(), merchant_of("2"), order("one"));
        let other = Order::from_json(r#"{"sub_mch_id": "3", "out_trade_no": "one"}"#, "event").unwrap();
        let request = Request::close(&one, &merchant);
        let guard = ReplayGuard::default();
        let reply = reply(&[("nonce_str", "a")], &request);
        assert!(!guard.is_replay(&reply, &request));
        assert!(guard.is_replay(&reply, &Request::close(&one, &other_merchant)));
        assert!(guard.is_replay(&reply, &Request::close(&other, &merchant)));
    }

    #[test]
    fn the_last_256_are_remembered() {
        let (merchant, one, other) = (merchant(), order("one"), order("other"));
        let (one, other) = (Request::close(&one, &merchant), Request::close(&other, &merchant));
        let guard = ReplayGuard::default();
        let nth = |n: usize| reply(&[("nonce_str", &n.to_string())], &one);
        for n in 0..=REMEMBERED {
            assert!(!guard.is_replay(&nth(n), &one));
        }
        assert!(guard.is_replay(&nth(1), &other));
        assert!(!guard.is_replay(&nth(0), &other), "the oldest is forgotten");
    }
}
