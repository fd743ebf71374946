//! From an event's JSON to an order, in one pass that keeps nothing of what is not an order's.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Invalid, NonceStr, Order, OutTradeNo, Problem, SubAppid, SubMchId, TimeStart};

pub(super) fn parse(event: &str, name: &'static str) -> Result<Order, Invalid> {
    let Ok(raw) = serde_json::from_str::<RawOrder>(event) else {
        return Err(Invalid::new(name, Problem::NOT_AN_OBJECT));
    };
    let sub_mch_id = raw.sub_mch_id.optional(SubMchId::parse);
    let out_trade_no = raw.out_trade_no.required(OutTradeNo::parse);
    let (known_sub_mch_id, known_out_trade_no) = (sub_mch_id.clone().ok().flatten(), out_trade_no.clone().ok());
    let invalid = |field| {
        let (sub_mch_id, out_trade_no) = (known_sub_mch_id.clone(), known_out_trade_no.clone());
        move |problem| Invalid { field, problem, sub_mch_id, out_trade_no }
    };
    Ok(Order {
        sub_mch_id: sub_mch_id.map_err(invalid(SubMchId::NAME))?,
        out_trade_no: out_trade_no.map_err(invalid(OutTradeNo::NAME))?,
        nonce_str: raw
            .nonce_str
            .optional(NonceStr::parse)
            .map_err(invalid(NonceStr::NAME))?
            .unwrap_or_else(NonceStr::generate),
        sub_appid: raw.sub_appid.optional(SubAppid::parse).map_err(invalid(SubAppid::NAME))?,
        time_start: raw.time_start.optional(|value| TimeStart::parse(&value)).map_err(invalid(TimeStart::NAME))?,
        confirm: raw.confirm.boolean().map_err(invalid("confirm"))?,
    })
}

/// What an event says of each field, in either spelling.
#[derive(Default)]
struct RawOrder {
    sub_mch_id: FieldInput,
    out_trade_no: FieldInput,
    nonce_str: FieldInput,
    sub_appid: FieldInput,
    time_start: FieldInput,
    confirm: FieldInput,
}

/// The values of one field.
#[derive(Clone, Default, PartialEq)]
enum FieldInput {
    /// Not there, or `null`.
    #[default]
    Absent,
    Text(String),
    Boolean(bool),
    /// A number, a list, an object, or text that is none.
    Other,
    /// Two values that differ.
    Contradiction,
}

impl FieldInput {
    /// Takes one value; raw, so that a number no type holds is rejected by its field's name, too.
    fn add(&mut self, value: &RawValue) {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Null,
            Text(String),
            Boolean(bool),
        }
        let value = match serde_json::from_str(value.get()) {
            Ok(Value::Null) => return,
            Ok(Value::Text(text)) => Self::Text(text),
            Ok(Value::Boolean(boolean)) => Self::Boolean(boolean),
            Err(_) => Self::Other,
        };
        *self = match (&*self, value) {
            (Self::Absent, value) => value,
            (Self::Other, _)
            | (_, Self::Other)
            | (Self::Text(_), Self::Boolean(_))
            | (Self::Boolean(_), Self::Text(_)) => Self::Other,
            (one, other) if *one == other => other,
            _ => Self::Contradiction,
        };
    }

    fn optional<T>(self, parse: impl FnOnce(String) -> Result<T, Problem>) -> Result<Option<T>, Problem> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => parse(text).map(Some),
            Self::Boolean(_) | Self::Other => Err(Problem::NOT_A_STRING),
            Self::Contradiction => Err(Problem::CONTRADICTION),
        }
    }

    fn required<T>(self, parse: impl FnOnce(String) -> Result<T, Problem>) -> Result<T, Problem> {
        self.optional(parse)?.ok_or(Problem::MISSING)
    }

    fn boolean(self) -> Result<Option<bool>, Problem> {
        match self {
            Self::Absent => Ok(None),
            Self::Boolean(boolean) => Ok(Some(boolean)),
            Self::Contradiction => Err(Problem::CONTRADICTION),
            Self::Text(_) | Self::Other => Err(Problem::NOT_A_BOOLEAN),
        }
    }
}

impl<'de> Deserialize<'de> for RawOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawOrderVisitor)
    }
}

struct RawOrderVisitor;

impl<'de> Visitor<'de> for RawOrderVisitor {
    type Value = RawOrder;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an order to close")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawOrder, A::Error> {
        let mut raw = RawOrder::default();
        while let Some(key) = map.next_key::<String>()? {
            let field = match key.as_str() {
                "sub_mch_id" | "subMchId" => &mut raw.sub_mch_id,
                "out_trade_no" | "outTradeNo" => &mut raw.out_trade_no,
                "nonce_str" | "nonceStr" => &mut raw.nonce_str,
                "sub_appid" | "subAppid" => &mut raw.sub_appid,
                "time_start" | "timeStart" => &mut raw.time_start,
                "confirm" => &mut raw.confirm,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            field.add(map.next_value::<&RawValue>()?);
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
            "sub_mch_id": "1900000109",
            "out_trade_no": "1217752501201407033233368018",
            "nonce_str": "5K8264ILTKCH16CQ2502SI8ZNMTM67VS",
            "sub_appid": "wx8888888888888888",
            "time_start": "20200101000000",
        })
    }

    const SPELLINGS: [(&str, &str); 5] = [
        ("sub_mch_id", "subMchId"),
        ("out_trade_no", "outTradeNo"),
        ("nonce_str", "nonceStr"),
        ("sub_appid", "subAppid"),
        ("time_start", "timeStart"),
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
    fn what_is_required_is_rejected_when_absent_or_null_and_what_is_optional_is_not() {
        for name in ["sub_mch_id", "out_trade_no", "nonce_str", "sub_appid", "time_start"] {
            let mut without = order();
            without.as_object_mut().unwrap().remove(name);
            let mut with_null = order();
            with_null[name] = json!(null);
            for event in [without, with_null] {
                match parse(&event.to_string()) {
                    Err(invalid) => {
                        assert_eq!((name, invalid.field, invalid.problem), ("out_trade_no", name, Problem::MISSING));
                    }
                    Ok(order) => {
                        assert_ne!(name, "out_trade_no");
                        assert_eq!(order.nonce_str.as_str().len(), 32, "{name}");
                    }
                }
            }
        }
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
        for wrong in [json!("true"), json!(1), json!({})] {
            assert_eq!(confirm(wrong), Err(("confirm", Problem::NOT_A_BOOLEAN)));
        }
        assert_eq!(parse(&order().to_string()).unwrap().confirm, None);
        let twice = r#"{"out_trade_no": "1", "confirm": true, "confirm": false}"#;
        assert_eq!(parse(twice).unwrap_err().problem, Problem::CONTRADICTION);
    }

    #[test]
    fn every_field_keeps_its_rule() {
        for (name, wrong) in [
            ("sub_mch_id", "19000001O9"),
            ("out_trade_no", "订单"),
            ("nonce_str", "a b"),
            ("sub_appid", "wx-1"),
            ("time_start", "2020"),
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
        event["nonce_str"] = json!("");
        let invalid = parse(&event.to_string()).unwrap_err();
        assert_eq!(invalid.sub_mch_id.unwrap().as_str(), "1900000109");
        assert_eq!(invalid.out_trade_no.unwrap().as_str(), "1217752501201407033233368018");
    }
}
