//! The top level of an event or a message body: what tells events apart.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The fields of an object that are not `null`, as raw JSON; of those with the same name, the last. Anything else than an
/// object has none.
#[derive(Debug, Default)]
pub(super) struct TopLevel<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> TopLevel<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
        fields.retain(|_, value| value.get() != "null");
        Self(fields)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether it names an order, which may have other fields of any name.
    pub(super) fn is_order(&self) -> bool {
        self.has("out_trade_no") || self.has("outTradeNo")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_there_unless_null_and_however_often() {
        let fields = TopLevel::parse(r#" {"a": 1, "a": [2], "b": null, "outTradeNo": "1", "out_trade_no": "1"} "#);
        assert_eq!(fields.get("a").map(RawValue::get), Some("[2]"));
        assert!(fields.is_order() && !fields.has("b"));
    }

    #[test]
    fn only_an_object_has_fields() {
        for text in ["", "null", "1", r#"["out_trade_no"]"#, r#"{"out_trade_no": 1"#] {
            assert!(!TopLevel::parse(text).is_order(), "{text}");
        }
    }
}
