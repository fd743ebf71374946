//! Where an order number stands that is not at the top level: the path helps whoever set the sender up wrongly.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::order::{Name, OutTradeNo, field_of};

/// How much of a text is searched for the path, in bytes.
const MAX_SEARCHED: usize = 64 * 1024;

/// How many levels a path has at most; a list below a name is one level with it.
const MAX_LEVELS: u8 = 3;

/// Longest name that a path shows, and longest path, in characters.
const MAX_NAME: usize = 32;
const MAX_PATH: usize = 100;

/// The path of the first object with an order number, such as `$.detail`; JSON in a string is opened.
pub(super) fn find(text: &str) -> Option<String> {
    let searched = text.get(..text.floor_char_boundary(MAX_SEARCHED)).unwrap_or_default();
    let mut search = Search { path: "$".to_owned(), found: None };
    search.read(searched, Position { level: 0, is_below_name: false });
    search.found.map(|path| path.chars().take(MAX_PATH).collect())
}

/// Whether any object in a JSON text has an order number, at any depth; JSON in a string is not opened.
pub(super) fn is_anywhere(json: &str) -> bool {
    let mut rest = json;
    while let Some((_, string)) = rest.find('"').and_then(|start| rest.split_at_checked(start)) {
        let mut values = serde_json::Deserializer::from_str(string).into_iter::<&RawValue>();
        let Some(Ok(token)) = values.next() else { return false };
        rest = string.get(values.byte_offset()..).unwrap_or_default();
        if rest.trim_ascii_start().starts_with(':')
            && serde_json::from_str::<Cow<'_, str>>(token.get()).is_ok_and(|name| is_number(&name))
        {
            return true;
        }
    }
    false
}

fn is_number(name: &str) -> bool {
    field_of(name) == Some(OutTradeNo::NAME)
}

/// A search under way, which stops at the first number.
struct Search {
    /// The path of the value that is read.
    path: String,
    found: Option<String>,
}

/// How deep a value stands.
#[derive(Clone, Copy)]
struct Position {
    level: u8,
    is_below_name: bool,
}

impl Search {
    /// Reads a text as far as it is JSON.
    fn read(&mut self, text: &str, position: Position) {
        let mut json = serde_json::Deserializer::from_str(text);
        let _ = Value { search: self, position }.deserialize(&mut json);
    }
}

struct Value<'s> {
    search: &'s mut Search,
    position: Position,
}

impl Value<'_> {
    /// What stands below this value, one step further: nothing is read beyond the last level.
    fn below(&mut self, step: &str, position: Position) -> (Below<'_>, usize) {
        let length = self.search.path.len();
        self.search.path.push_str(step);
        let below = if position.level > MAX_LEVELS {
            Below::Skip
        } else {
            Below::Read(Value { search: self.search, position })
        };
        (below, length)
    }
}

enum Below<'s> {
    Skip,
    Read(Value<'s>),
}

impl<'de> DeserializeSeed<'de> for Below<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self {
            Self::Skip => deserializer.deserialize_ignored_any(IgnoredAny).map(drop),
            Self::Read(value) => value.deserialize(deserializer),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let is_shown = (1..=MAX_NAME).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
            let step = format!(".{}", if is_shown { &*name } else { "*" });
            if is_number(&name) {
                self.search.found = Some(self.search.path.clone());
                return Err(A::Error::custom("found"));
            }
            let position = Position { level: self.position.level + 1, is_below_name: true };
            let (below, length) = self.below(&step, position);
            map.next_value_seed(below)?;
            self.search.path.truncate(length);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let Position { level, is_below_name } = self.position;
        let position = Position { level: level + u8::from(!is_below_name), is_below_name: false };
        for index in 0_usize.. {
            let (below, length) = self.below(&format!("[{index}]"), position);
            let is_over = list.next_element_seed(below)?.is_none();
            self.search.path.truncate(length);
            if is_over {
                break;
            }
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if text.trim_ascii_start().starts_with(['{', '[', '"', '\u{feff}']) {
            self.search.read(text.trim_start_matches('\u{feff}'), self.position);
        }
        if self.search.found.is_some() { Err(E::custom("found")) } else { Ok(()) }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_has_three_levels_at_most() {
        let order = json!({"outTradeNo": "1"});
        for (value, path) in [
            (json!({"a": {"b": {"c": order}}}), Some("$.a.b.c")),
            (json!({"a": {"b": {"c": {"d": order}}}}), None),
            (json!({"a": {"b": {"c": [0, order]}}}), Some("$.a.b.c[1]")),
            (json!([[[order]]]), Some("$[0][0][0]")),
            (json!([[[[order]]]]), None),
            (json!({"a": json!({"b": json!({"c": order.to_string()}).to_string()}).to_string()}), Some("$.a.b.c")),
            (json!({"first": {"x": 1, "y": ["{", "[1", "text", "\u{feff}{}"]}, "then": order}), Some("$.then")),
            (json!({"a": [order, order]}), Some("$.a[0]")),
            (json!({"a": "out_trade_no", "b": ["outTradeNo"]}), None),
        ] {
            assert_eq!(find(&value.to_string()).as_deref(), path, "{value}");
        }
    }

    #[test]
    fn a_path_shows_plain_names_and_a_hundred_characters() {
        let order = json!({"out_trade_no": "1"});
        for (name, shown) in [
            ("Az-_09", "Az-_09"),
            ("", "*"),
            ("a b", "*"),
            ("a.b", "*"),
            ("订单", "*"),
            (&"x".repeat(32), &"x".repeat(32)),
            (&"x".repeat(33), "*"),
        ] {
            assert_eq!(find(&json!({name: order}).to_string()), Some(format!("$.{shown}")), "{name}");
        }
        let name = "x".repeat(32);
        let path = find(&json!({&name: {&name: {&name: [order]}}}).to_string()).unwrap();
        assert_eq!(path, format!("$.{name}.{name}.{name}"), "the list's index is cut");
    }

    #[test]
    fn the_first_64_kib_are_searched() {
        let text = |filler: usize| json!({"a": "订".repeat(filler / 3), "b": {"out_trade_no": "1"}}).to_string();
        assert_eq!(find(&text(MAX_SEARCHED - 100)).as_deref(), Some("$.b"));
        assert_eq!(find(&text(MAX_SEARCHED)), None);
    }

    #[test]
    fn a_number_is_found_at_any_depth_and_only_as_a_name() {
        let deep = |inner: &str| format!("{}{inner}{}", "[{\"a\":".repeat(10_000), "}]".repeat(10_000));
        for (json, expected) in [
            (deep(r#"{"out_trade_no":1}"#), true),
            (deep("1"), false),
            (r#"{"a" : "b\"", "out_trade\u005fno" : null}"#.to_owned(), true),
            (r#"{"a": ["outTradeNo", "out_trade_no"], "b": "\"outTradeNo\":"}"#.to_owned(), false),
            (r#"{"a\\": {"outTradeNo"  : 1}}"#.to_owned(), true),
            ("{}".to_owned(), false),
        ] {
            assert_eq!(is_anywhere(&json), expected, "{json:.60}");
        }
    }
}
