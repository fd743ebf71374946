//! From an event's JSON to an order, in one pass that keeps nothing of what is not an order's.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Invalid, NonceStr, Order, OutTradeNo, Problem, SubAppid, SubMchId, TimeStart};

pub(super) fn parse(event: &str, name: &'static str) -> Result<Order, Invalid> {
    let Ok(found) = serde_json::from_str::<Found>(event) else {
        return Err(Invalid::new(name, Problem::NotAnObject));
    };
    let sub_mch_id = found.sub_mch_id.required(SubMchId::parse);
    let out_trade_no = found.out_trade_no.required(OutTradeNo::parse);
    let nonce_str = found.nonce_str.optional(NonceStr::parse);
    let sub_appid = found.sub_appid.optional(SubAppid::parse);
    let time_start = found.time_start.optional(|value| TimeStart::parse(&value));

    let optional = || {
        Ok((
            nonce_str.map_err(|problem| (NonceStr::NAME, problem))?,
            sub_appid.map_err(|problem| (SubAppid::NAME, problem))?,
            time_start.map_err(|problem| (TimeStart::NAME, problem))?,
        ))
    };
    match (sub_mch_id, out_trade_no, optional()) {
        (Ok(sub_mch_id), Ok(out_trade_no), Ok((nonce_str, sub_appid, time_start))) => Ok(Order {
            sub_mch_id,
            out_trade_no,
            nonce_str: nonce_str.unwrap_or_else(NonceStr::generate),
            sub_appid,
            time_start,
        }),
        (Err(problem), out_trade_no, _) => {
            Err(Invalid { out_trade_no: out_trade_no.ok(), ..Invalid::new(SubMchId::NAME, problem) })
        }
        (Ok(sub_mch_id), Err(problem), _) => {
            Err(Invalid { sub_mch_id: Some(sub_mch_id), ..Invalid::new(OutTradeNo::NAME, problem) })
        }
        (Ok(sub_mch_id), Ok(out_trade_no), Err((field, problem))) => {
            Err(Invalid { field, problem, sub_mch_id: Some(sub_mch_id), out_trade_no: Some(out_trade_no) })
        }
    }
}

/// What an event says of each field, in either spelling.
#[derive(Default)]
struct Found {
    sub_mch_id: Given,
    out_trade_no: Given,
    nonce_str: Given,
    sub_appid: Given,
    time_start: Given,
}

#[derive(Default)]
enum Given {
    #[default]
    Absent,
    Text(String),
    NotText,
    Contradiction,
}

impl Given {
    /// Takes one value; raw, so that a number no type holds is refused by its field's name too.
    fn take(&mut self, value: &RawValue) {
        let quoted = value.get().strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = match quoted {
            // Without an escape it means what it says; nearly all do.
            Some(text) if !text.contains('\\') => Self::Text(text.to_owned()),
            _ => serde_json::from_str(value.get()).map_or(Self::NotText, Self::Text),
        };
        match (&*self, &value) {
            (Self::Absent, _) => *self = value,
            (Self::Text(one), Self::Text(other)) if one == other => {}
            (Self::Text(_), Self::Text(_)) => *self = Self::Contradiction,
            (_, Self::NotText) => *self = Self::NotText,
            _ => {}
        }
    }

    fn optional<T>(self, parse: impl FnOnce(String) -> Result<T, Problem>) -> Result<Option<T>, Problem> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => parse(text).map(Some),
            Self::NotText => Err(Problem::NotAString),
            Self::Contradiction => Err(Problem::Contradiction),
        }
    }

    fn required<T>(self, parse: impl FnOnce(String) -> Result<T, Problem>) -> Result<T, Problem> {
        self.optional(parse)?.ok_or(Problem::Missing)
    }
}

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FoundVisitor)
    }
}

struct FoundVisitor;

impl<'de> Visitor<'de> for FoundVisitor {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an order to close")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut found = Found::default();
        while let Some(key) = map.next_key()? {
            let given = match key {
                Key::SubMchId => &mut found.sub_mch_id,
                Key::OutTradeNo => &mut found.out_trade_no,
                Key::NonceStr => &mut found.nonce_str,
                Key::SubAppid => &mut found.sub_appid,
                Key::TimeStart => &mut found.time_start,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            given.take(map.next_value::<&RawValue>()?);
        }
        Ok(found)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    #[serde(alias = "subMchId")]
    SubMchId,
    #[serde(alias = "outTradeNo")]
    OutTradeNo,
    #[serde(alias = "nonceStr")]
    NonceStr,
    #[serde(alias = "subAppid")]
    SubAppid,
    #[serde(alias = "timeStart")]
    TimeStart,
    #[serde(other)]
    Other,
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
            assert_eq!(problem(&event), (name, Problem::Contradiction));
        }
    }

    #[test]
    fn a_value_that_is_no_string_is_refused_by_name_whatever_the_other_spelling_says() {
        for (name, camel) in SPELLINGS {
            for wrong in [json!(1_900_000_109), json!(1.5), json!(null), json!(true), json!(["1"]), json!({"a": 1})] {
                let mut event = order();
                event[name] = wrong.clone();
                assert_eq!(problem(&event), (name, Problem::NotAString), "{wrong}");
                event[camel] = json!("1");
                assert_eq!(problem(&event), (name, Problem::NotAString), "{wrong}");
                let mut event = order();
                event[camel] = wrong;
                assert_eq!(problem(&event), (name, Problem::NotAString));
            }
        }
    }

    #[test]
    fn what_is_required_is_refused_when_absent_and_what_is_optional_is_not() {
        for (name, required) in [
            ("sub_mch_id", true),
            ("out_trade_no", true),
            ("nonce_str", false),
            ("sub_appid", false),
            ("time_start", false),
        ] {
            let mut event = order();
            event.as_object_mut().unwrap().remove(name);
            match parse(&event.to_string()) {
                Err(invalid) => assert_eq!((invalid.field, invalid.problem, required), (name, Problem::Missing, true)),
                Ok(order) => assert_eq!((order.nonce_str.as_str().len(), required), (32, false)),
            }
        }
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
            assert!(matches!(problem, Problem::Rule(_)), "{problem:?}");
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
    fn a_value_that_no_type_holds_is_refused_by_name_too() {
        for wrong in ["1e999", "\"\\ud800\"", &format!("{}{}", "[".repeat(500), "]".repeat(500))] {
            let event = format!(r#"{{"sub_mch_id":"1","out_trade_no":{wrong}}}"#);
            let invalid = parse(&event).unwrap_err();
            assert_eq!((invalid.field, invalid.problem), ("out_trade_no", Problem::NotAString), "{wrong}");
        }
    }

    #[test]
    fn an_event_that_is_no_object_is_no_order() {
        for event in ["null", "[]", "1", "\"text\"", "true", "", "{"] {
            let invalid = parse(event).unwrap_err();
            assert_eq!((invalid.field, invalid.problem), ("event", Problem::NotAnObject), "{event}");
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
