//! From an event's JSON to an order, in one pass that keeps nothing of what is not an order's.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    CloseAt, Invalid, InvalidKind, KnownIds, MchId, NonceStr, Order, OutTradeNo, Problem, SubAppid, SubMchId, TimeStart,
};

/// The name of the field that asks for a query.
const CONFIRM: &str = "confirm";

/// The fields of an order.
const FIELDS: [&str; 8] = [
    MchId::NAME,
    SubMchId::NAME,
    OutTradeNo::NAME,
    NonceStr::NAME,
    SubAppid::NAME,
    TimeStart::NAME,
    CloseAt::NAME,
    CONFIRM,
];

/// The field that a name of an event is, in either spelling: under its name on the wire.
pub(crate) fn field_of(name: &str) -> Option<&'static str> {
    Some(match name {
        MchId::NAME | "mchId" => MchId::NAME,
        SubMchId::NAME | "subMchId" => SubMchId::NAME,
        OutTradeNo::NAME | "outTradeNo" => OutTradeNo::NAME,
        NonceStr::NAME | "nonceStr" => NonceStr::NAME,
        SubAppid::NAME | "subAppid" => SubAppid::NAME,
        TimeStart::NAME | "timeStart" => TimeStart::NAME,
        CloseAt::NAME | "closeAt" => CloseAt::NAME,
        CONFIRM => CONFIRM,
        _ => return None,
    })
}

pub(super) fn parse(event: &str, name: &'static str) -> Result<Order, Invalid> {
    let Ok(RawOrder(fields)) = serde_json::from_str(event) else {
        return Err(Invalid::no_order(name, Problem::NOT_AN_OBJECT));
    };
    let [mch_id, sub_mch_id, out_trade_no, nonce_str, sub_appid, time_start, close_at, confirm] = fields;
    let mch_id = mch_id.optional(MchId::parse);
    let sub_mch_id = sub_mch_id.optional(SubMchId::parse);
    let out_trade_no = out_trade_no.required(OutTradeNo::parse);
    let ids = KnownIds {
        mch_id: mch_id.clone().ok().flatten(),
        sub_mch_id: sub_mch_id.clone().ok().flatten(),
        out_trade_no: out_trade_no.clone().ok(),
    };
    let invalid = |field| {
        let ids = &ids;
        move |problem| Invalid { field, problem, kind: InvalidKind::BrokenRule, ids: Box::new(ids.clone()) }
    };
    let time_start = time_start.optional(|value| TimeStart::parse(&value)).map_err(invalid(TimeStart::NAME));
    let nonce_str = nonce_str.optional(NonceStr::parse).map_err(invalid(NonceStr::NAME));
    let sub_appid = sub_appid.optional(SubAppid::parse).map_err(invalid(SubAppid::NAME));
    let close_at = |time_start| {
        let close_at = close_at.optional(|value| CloseAt::parse(&value)?.check_against(time_start));
        close_at.map_err(invalid(CloseAt::NAME))
    };
    Ok(Order {
        mch_id: mch_id.map_err(invalid(MchId::NAME))?,
        sub_mch_id: sub_mch_id.map_err(invalid(SubMchId::NAME))?,
        out_trade_no: out_trade_no.map_err(invalid(OutTradeNo::NAME))?,
        nonce_str: nonce_str?.unwrap_or_else(NonceStr::generate),
        sub_appid: sub_appid?,
        close_at: close_at(time_start.clone()?)?,
        time_start: time_start?,
        confirm: confirm.boolean().map_err(invalid(CONFIRM))?,
    })
}

/// What an event says of each of the [`FIELDS`], in either spelling.
#[derive(Default)]
struct RawOrder([FieldInput; FIELDS.len()]);

/// The values of one field.
#[derive(Default)]
struct FieldInput {
    value: FieldValue,
    /// Whether the value came under wx-server-sdk's name.
    is_camel_case: bool,
}

#[derive(Default, PartialEq)]
enum FieldValue {
    /// Not there, or `null`.
    #[default]
    Absent,
    Text(String),
    Boolean(bool),
    /// A number, a list, an object, or text that is none.
    Other,
    /// Two values that differ.
    Invalid(Problem),
}

impl FieldInput {
    /// Takes one value; raw, so that a number no type holds is rejected by its field's name, too.
    fn add(&mut self, value: &RawValue, is_camel_case: bool) {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Null,
            Text(String),
            Boolean(bool),
        }
        use FieldValue::{Absent, Boolean, Invalid, Other, Text};
        let value = match serde_json::from_str(value.get()) {
            Ok(Value::Null) => return,
            Ok(Value::Text(text)) => Text(text),
            Ok(Value::Boolean(boolean)) => Boolean(boolean),
            Err(_) => Other,
        };
        let merged = match (std::mem::take(&mut self.value), value) {
            (Absent, value) => value,
            (Other, _) | (_, Other) | (Text(_), Boolean(_)) | (Boolean(_), Text(_)) => Other,
            // Typed clients send a field that they don't set as empty text.
            (Text(empty), value @ Text(_)) | (value @ Text(_), Text(empty)) if empty.is_empty() => value,
            (one, other) if one == other => other,
            _ if self.is_camel_case == is_camel_case => Invalid(Problem::REPEATED),
            _ => Invalid(Problem::CONTRADICTION),
        };
        *self = Self { value: merged, is_camel_case };
    }

    fn optional<T>(self, parse: impl FnOnce(String) -> Result<T, Problem>) -> Result<Option<T>, Problem> {
        match self.value {
            FieldValue::Absent => Ok(None),
            FieldValue::Text(text) if text.is_empty() => Ok(None),
            FieldValue::Text(text) => parse(text).map(Some),
            FieldValue::Boolean(_) | FieldValue::Other => Err(Problem::NOT_A_STRING),
            FieldValue::Invalid(problem) => Err(problem),
        }
    }

    fn required<T>(self, parse: impl FnOnce(String) -> Result<T, Problem>) -> Result<T, Problem> {
        self.optional(parse)?.ok_or(Problem::MISSING)
    }

    fn boolean(self) -> Result<Option<bool>, Problem> {
        match self.value {
            FieldValue::Absent => Ok(None),
            FieldValue::Boolean(boolean) => Ok(Some(boolean)),
            FieldValue::Invalid(problem) => Err(problem),
            FieldValue::Text(_) | FieldValue::Other => Err(Problem::NOT_A_BOOLEAN),
        }
    }
}

impl<'de> Deserialize<'de> for RawOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawOrderVisitor)
    }
}

/// A name in an event, borrowed from its text where that is possible.
#[derive(Deserialize)]
pub(crate) struct Name<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

struct RawOrderVisitor;

impl<'de> Visitor<'de> for RawOrderVisitor {
    type Value = RawOrder;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an order to close")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawOrder, A::Error> {
        let mut raw = RawOrder::default();
        while let Some(Name(key)) = map.next_key()? {
            let Some(name) = field_of(&key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value::<&RawValue>()?;
            if let Some((field, _)) = raw.0.iter_mut().zip(FIELDS).find(|(_, field)| *field == name) {
                field.add(value, key != name);
            }
        }
        Ok(raw)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(event: &str) -> Result<Order, Invalid> {
        super::parse(event, "event")
    }

    fn order() -> Value {
        json!({
            "mch_id": "1230000109",
            "sub_mch_id": "1900000109",
            "out_trade_no": "1217752501201407033233368018",
            "nonce_str": "5K8264ILTKCH16CQ2502SI8ZNMTM67VS",
            "sub_appid": "wx8888888888888888",
            "time_start": "20200101000000",
            "close_at": "2020-01-01T00:30:00+08:00",
        })
    }

    const SPELLINGS: [(&str, &str); 7] = [
        ("mch_id", "mchId"),
        ("sub_mch_id", "subMchId"),
        ("out_trade_no", "outTradeNo"),
        ("nonce_str", "nonceStr"),
        ("sub_appid", "subAppid"),
        ("time_start", "timeStart"),
        ("close_at", "closeAt"),
    ];

    fn problem(event: &Value) -> (&'static str, Problem) {
        let invalid = parse(&event.to_string()).unwrap_err();
        (invalid.field, invalid.problem)
    }

    #[test]
    fn both_spellings_mean_the_same() {
        let snake = parse(&order().to_string()).unwrap();
        let mut event = order();
        for (name, camel) in SPELLINGS {
            event[camel] = event[name].take();
            event.as_object_mut().unwrap().remove(name);
        }
        assert_eq!(parse(&event.to_string()).unwrap(), snake);
    }

    #[test]
    fn both_spellings_at_once_must_agree() {
        for (name, camel) in SPELLINGS {
            let mut event = order();
            event[camel] = event[name].clone();
            assert_eq!(parse(&event.to_string()), parse(&order().to_string()), "{name}");
            event[camel] = json!("20200101000001");
            assert_eq!(problem(&event), (name, Problem::CONTRADICTION));
        }
    }

    #[test]
    fn a_value_that_is_not_a_string_is_rejected_by_name_whatever_the_other_spelling_says() {
        for (name, camel) in SPELLINGS {
            for wrong in [json!(1_900_000_109), json!(1.5), json!(true), json!(["1"]), json!({"a": 1})] {
                let mut event = order();
                event[name] = wrong.clone();
                assert_eq!(problem(&event), (name, Problem::NOT_A_STRING), "{wrong}");
                event[camel] = json!("1");
                assert_eq!(problem(&event), (name, Problem::NOT_A_STRING), "{wrong}");
                let mut event = order();
                event[camel] = wrong;
                assert_eq!(problem(&event), (name, Problem::NOT_A_STRING));
            }
        }
    }

    #[test]
    fn what_is_absent_null_or_empty_is_missing_if_it_is_required_and_fine_otherwise() {
        for (name, _) in SPELLINGS {
            let mut without = order();
            without.as_object_mut().unwrap().remove(name);
            let [mut with_null, mut with_empty] = [order(), order()];
            with_null[name] = json!(null);
            with_empty[name] = json!("");
            for event in [&without, &with_null, &with_empty] {
                let parsed = parse(&event.to_string());
                if name == "out_trade_no" {
                    assert_eq!(problem(event), (name, Problem::MISSING), "{event}");
                } else if name == "nonce_str" {
                    assert_eq!(parsed.unwrap().nonce_str.as_str().len(), 32, "{event}");
                } else {
                    assert_eq!(parsed, parse(&without.to_string()), "{event}");
                }
            }
        }
    }

    #[test]
    fn the_same_name_twice_is_not_called_two_spellings() {
        let twice = |second: &str| {
            let event = format!(r#"{{"outTradeNo": "1", "outTradeNo": {second}}}"#);
            parse(&event).map(|order| order.out_trade_no).map_err(|invalid| (invalid.field, invalid.problem))
        };
        assert_eq!(twice("\"2\""), Err(("out_trade_no", Problem::REPEATED)));
        assert_eq!(twice("\"1\"").unwrap().as_str(), "1");
        assert_eq!(twice("\"\"").unwrap().as_str(), "1");
        assert_eq!(twice("null").unwrap().as_str(), "1");
    }

    #[test]
    fn close_at_is_not_before_time_start() {
        let mut event = order();
        event["close_at"] = json!("2019-12-31T23:59:59+08:00");
        let (field, problem) = problem(&event);
        assert_eq!((field, &*problem.en), ("close_at", "must not be before time_start"));
        event["close_at"] = json!("2019-12-31T16:00:00Z");
        assert!(parse(&event.to_string()).is_ok());
    }

    #[test]
    fn null_beside_the_other_spelling_counts_as_absent() {
        let event = json!({"out_trade_no": null, "outTradeNo": "1", "nonce_str": "n", "nonceStr": null});
        let order = parse(&event.to_string()).unwrap();
        assert_eq!((order.out_trade_no.as_str(), order.nonce_str.as_str()), ("1", "n"));
    }

    #[test]
    fn confirm_is_a_boolean() {
        let confirm = |value: Value| {
            let mut event = order();
            event["confirm"] = value;
            parse(&event.to_string()).map(|order| order.confirm).map_err(|invalid| (invalid.field, invalid.problem))
        };
        assert_eq!(confirm(json!(true)), Ok(Some(true)));
        assert_eq!(confirm(json!(false)), Ok(Some(false)));
        assert_eq!(confirm(json!(null)), Ok(None));
        for wrong in [json!("true"), json!(""), json!(1), json!({})] {
            assert_eq!(confirm(wrong), Err(("confirm", Problem::NOT_A_BOOLEAN)));
        }
        assert_eq!(parse(&order().to_string()).unwrap().confirm, None);
        let twice = r#"{"out_trade_no": "1", "confirm": true, "confirm": false}"#;
        assert_eq!(parse(twice).unwrap_err().problem, Problem::REPEATED);
    }

    #[test]
    fn every_field_keeps_its_rule() {
        for (name, wrong) in [
            ("mch_id", "wx1"),
            ("sub_mch_id", "19000001O9"),
            ("out_trade_no", "订单"),
            ("nonce_str", "a b"),
            ("nonce_str", "a&b"),
            ("sub_appid", "wx-1"),
            ("time_start", "2020"),
            ("close_at", "2020-01-01 00:30:00"),
        ] {
            let mut event = order();
            event[name] = json!(wrong);
            let (field, problem) = problem(&event);
            assert_eq!(field, name);
            assert!(![Problem::MISSING, Problem::NOT_A_STRING].contains(&problem), "{problem:?}");
        }
    }

    #[test]
    fn other_fields_are_ignored_however_deep() {
        let mut event = order();
        event["userInfo"] = json!({"openId": "o", "appId": 1});
        event["tcbContext"] = json!([]);
        let mut text = event.to_string();
        assert_eq!(parse(&text), parse(&order().to_string()));
        text.pop();
        let deep = format!("{text},\"deep\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(parse(&deep), parse(&order().to_string()));
    }

    #[test]
    fn a_value_that_no_type_holds_is_rejected_by_name_too() {
        for wrong in ["1e999", "\"\\ud800\"", &format!("{}{}", "[".repeat(500), "]".repeat(500))] {
            let event = format!(r#"{{"sub_mch_id":"1","out_trade_no":{wrong}}}"#);
            let invalid = parse(&event).unwrap_err();
            assert_eq!((invalid.field, invalid.problem), ("out_trade_no", Problem::NOT_A_STRING), "{wrong}");
        }
    }

    #[test]
    fn an_event_that_is_not_an_object_is_rejected() {
        for event in ["null", "[]", "1", "\"text\"", "true", "", "{"] {
            let invalid = parse(event).unwrap_err();
            assert_eq!((invalid.field, invalid.problem), ("event", Problem::NOT_AN_OBJECT), "{event}");
        }
    }

    #[test]
    fn the_log_learns_which_order_it_was_if_that_much_is_valid() {
        let mut event = order();
        event["nonce_str"] = json!("a b");
        let invalid = parse(&event.to_string()).unwrap_err();
        assert_eq!(*invalid.ids, parse(&order().to_string()).unwrap().ids());
        assert_eq!(invalid.kind, InvalidKind::BrokenRule);
        event["mch_id"] = json!(1);
        let known = parse(&event.to_string()).unwrap_err().ids;
        assert_eq!((known.mch_id, known.sub_mch_id.unwrap().as_str()), (None, "1900000109"));
    }
}
