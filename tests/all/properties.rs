//! What holds for every document and every event, not just for those somebody thought of.

use std::collections::BTreeMap;

use close_order::{
    order::Order,
    wechat_pay::{Account, Reply, ReplyCode, Request, VerifyError, WireResponse},
};
use proptest::{collection, prelude::*, sample::select};
use sandbox::mock::signed_xml::sign;
use serde_json::{Value, json};

const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

type Fields = BTreeMap<String, String>;

/// How one field of a document is written: the same value to every XML reader.
#[derive(Clone, Copy, Debug)]
enum Writing {
    Escaped,
    CData,
    CharacterReferences,
    CDataInPieces,
}

impl Writing {
    fn write(self, value: &str) -> String {
        let cdata = |text: &str| format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"));
        match self {
            Self::Escaped => value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
            Self::CData => cdata(value),
            Self::CharacterReferences => {
                let reference = |c| format!("&#{};", u32::from(c));
                value.chars().map(reference).collect::<Vec<_>>().concat()
            }
            Self::CDataInPieces => value.chars().map(|c| cdata(&c.to_string())).collect(),
        }
    }
}

fn writing() -> impl Strategy<Value = Writing> {
    select(vec![Writing::Escaped, Writing::CData, Writing::CharacterReferences, Writing::CDataInPieces])
}

/// A field name that WeChat Pay may add one day, and that is none of those with a meaning.
fn new_name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_]{0,12}".prop_map(|name| format!("x_{name}"))
}

/// Text without the control characters that XML can't hold, and without the text of a field.
fn text() -> impl Strategy<Value = String> {
    "[^\\p{Cc}\\u{fffe}\\u{ffff}]{0,20}".prop_map(|text: String| text.replace('&', "& "))
}

/// A reply that closes the order, with fields that nobody knows yet.
fn closed() -> impl Strategy<Value = Fields> {
    collection::btree_map(new_name(), text(), 0..5).prop_map(|mut fields| {
        let known = [
            ("return_code", "SUCCESS"),
            ("return_msg", "OK"),
            ("appid", "wx8888888888888888"),
            ("mch_id", "1900000109"),
            ("sub_mch_id", "1900000110"),
            ("nonce_str", "BFK89FC6rxKCOjLX"),
            ("result_code", "SUCCESS"),
        ];
        fields.extend(known.map(|(name, value)| (name.to_owned(), value.to_owned())));
        fields
    })
}

fn sign_type() -> impl Strategy<Value = &'static str> {
    select(vec!["MD5", "HMAC-SHA256"])
}

/// Signs with the mock's own code, so that a mistake in the function's is not cancelled by itself.
fn signed(mut fields: Fields, sign_type: &str) -> Fields {
    let signature = sign(&fields, KEY, sign_type);
    fields.insert("sign".to_owned(), signature);
    fields
}

fn document<'a>(fields: impl IntoIterator<Item = (&'a String, &'a String)>, writings: &[Writing]) -> String {
    let fields = fields.into_iter().zip(writings.iter().cycle());
    let fields = fields.map(|((name, value), writing)| format!("<{name}>{}</{name}>", writing.write(value)));
    format!("<xml>{}</xml>", fields.collect::<String>())
}

fn verify(document: &[u8], sign_type: &str) -> Result<Reply, VerifyError> {
    let secret = json!({"appid": "wx8888888888888888", "mch_id": "1900000109", "api_key": KEY, "sign_type": sign_type});
    let account = Account::from_secret(secret.to_string().as_bytes()).unwrap();
    let order = Order::from_json(r#"{"sub_mch_id": "1900000110", "out_trade_no": "1"}"#, "event").unwrap();
    Request::close(&order, &account).verify(&WireResponse::ok(document))
}

fn is_closed(document: &str, sign_type: &str) -> bool {
    verify(document.as_bytes(), sign_type).is_ok_and(|reply| reply.code() == ReplyCode::Success)
}

/// Any JSON, an order's own fields among its names.
pub fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        select(vec![
            "mch_id",
            "mchId",
            "sub_mch_id",
            "subMchId",
            "out_trade_no",
            "outTradeNo",
            "nonce_str",
            "sub_appid",
            "time_start",
            "close_at",
            "closeAt",
            "confirm",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9A-Za-z_|*@-]{0,40}".prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 8, move |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            collection::btree_map(name.clone(), inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_signed_document_is_verified_however_its_fields_are_ordered_and_written(
        (fields, sign_type) in (closed(), sign_type()),
        writings in collection::vec(writing(), 1..8),
        seed in any::<u64>(),
    ) {
        let fields = signed(fields, sign_type);
        let mut shuffled: Vec<_> = fields.iter().collect();
        shuffled.sort_by_key(|(name, _)| name.bytes().fold(seed, |hash, byte| hash.rotate_left(5) ^ u64::from(byte)));
        let document = document(shuffled, &writings);
        prop_assert!(is_closed(&document, sign_type), "{document}");
    }

    #[test]
    fn a_document_with_one_value_changed_is_not_verified(
        (fields, sign_type) in (closed(), sign_type()),
        which in any::<prop::sample::Index>(),
        value in text(),
    ) {
        let mut fields = signed(fields, sign_type);
        let name = which.get(&fields.keys().cloned().collect::<Vec<_>>()).clone();
        prop_assume!(fields[&name] != value);
        fields.insert(name, value);
        prop_assert!(!is_closed(&document(&fields, &[Writing::CData]), sign_type));
    }

    #[test]
    fn a_document_with_one_name_changed_is_not_verified(
        (fields, sign_type) in (closed(), sign_type()),
        which in any::<prop::sample::Index>(),
        name in new_name(),
    ) {
        let mut fields = signed(fields, sign_type);
        let full = fields.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.clone());
        let old = which.get(&full.collect::<Vec<_>>()).clone();
        prop_assume!(!fields.contains_key(&name));
        let value = fields.remove(&old).unwrap();
        fields.insert(name, value);
        prop_assert!(!is_closed(&document(&fields, &[Writing::CData]), sign_type));
    }

    #[test]
    fn a_document_with_one_field_more_or_less_is_not_verified(
        (fields, sign_type) in (closed(), sign_type()),
        which in any::<prop::sample::Index>(),
        (name, value) in (new_name(), text()),
    ) {
        let fields = signed(fields, sign_type);
        let mut less = fields.clone();
        let full = fields.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.clone());
        less.remove(which.get(&full.collect::<Vec<_>>()));
        prop_assert!(!is_closed(&document(&less, &[Writing::CData]), sign_type));

        let mut more = fields.clone();
        prop_assume!(!value.is_empty() && more.insert(name, value).is_none());
        prop_assert!(!is_closed(&document(&more, &[Writing::CData]), sign_type));
    }

    #[test]
    fn a_document_cut_short_is_not_verified(
        (fields, sign_type) in (closed(), sign_type()),
        cut in any::<prop::sample::Index>(),
    ) {
        let document = document(&signed(fields, sign_type), &[Writing::Escaped]);
        let cut = cut.index(document.len());
        prop_assert!(verify(&document.as_bytes()[..cut], sign_type).is_err());
    }

    #[test]
    fn more_than_one_flat_document_is_not_verified((fields, sign_type) in (closed(), sign_type())) {
        let document = document(&signed(fields, sign_type), &[Writing::Escaped]);
        prop_assert!(is_closed(&document, sign_type));
        for more in [
            format!("{document}{document}"),
            format!("<xml>{document}</xml>"),
            format!("{document}<a/>"),
            format!("<!DOCTYPE xml>{document}"),
            document.replacen("<nonce_str>", "<nonce_str><b/>", 1),
            document.replacen("<nonce_str>", "<nonce_str/><nonce_str>", 1),
        ] {
            prop_assert!(verify(more.as_bytes(), sign_type).is_err(), "{more}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in collection::vec(any::<u8>(), 0..256)) {
        let _ = verify(&bytes, "MD5");
    }

    #[test]
    fn xml_put_into_a_signed_document_makes_it_say_nothing_else(
        (fields, sign_type) in (closed(), sign_type()),
        pieces in collection::vec((any::<prop::sample::Index>(), select(vec![
            "<return_code>FAIL</return_code>", "<result_code>FAIL</result_code>", "<err_code>ORDERPAID</err_code>",
            "<xml>", "</xml>", "<sign>", "</sign>", "<![CDATA[", "]]>", "&amp;", "&#0;", "&#x", "&", ";", "<!--", "-->",
            "<!DOCTYPE", "<?xml", "?>", "<", ">", "/", "\"", " ", "订",
        ])), 1..4),
    ) {
        let mut document = document(&signed(fields, sign_type), &[Writing::Escaped]);
        for (at, piece) in pieces {
            let tags: Vec<usize> = document.match_indices('<').map(|(tag, _)| tag).collect();
            document.insert_str(*at.get(&tags), piece);
        }
        let reply = verify(document.as_bytes(), sign_type);
        prop_assert!(reply.is_err() || is_closed(&document, sign_type), "{document}");
    }

    #[test]
    fn every_json_is_an_order_or_is_told_which_field_is_wrong(event in any_json()) {
        match Order::from_json(&event.to_string(), "event") {
            Ok(order) => {
                let text = |names: [&str; 2]| {
                    let texts = names.iter().filter_map(|name| event[name].as_str().filter(|text| !text.is_empty()));
                    texts.map(str::to_owned).next()
                };
                let sub_mch_id = order.sub_mch_id.map(|sub_mch_id| sub_mch_id.as_str().to_owned());
                prop_assert_eq!(text(["sub_mch_id", "subMchId"]), sub_mch_id);
                prop_assert_eq!(text(["out_trade_no", "outTradeNo"]), Some(order.out_trade_no.as_str().to_owned()));
            }
            Err(invalid) => prop_assert!(
                ["event", "mch_id", "sub_mch_id", "out_trade_no", "nonce_str", "sub_appid", "time_start", "close_at", "confirm"]
                    .contains(&invalid.field)
            ),
        }
    }
}
