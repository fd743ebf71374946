//! JSON objects in which no field may be there twice: readers differ in which of the two counts.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    marker::PhantomData,
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

/// The fields of an object.
pub(super) struct Object<V> {
    pub(super) fields: BTreeMap<String, V>,
    /// The first name that is there again.
    pub(super) repeated: Option<String>,
}

impl<'de, V: Deserialize<'de>> Object<V> {
    /// `None` for anything else than an object.
    pub(super) fn parse(text: &'de str) -> Option<Self> {
        // Serde's own messages would quote values.
        serde_json::from_str(text).ok()
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Object<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for ObjectVisitor<V> {
    type Value = Object<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<V>, A::Error> {
        let mut object = Object { fields: BTreeMap::new(), repeated: None };
        while let Some((name, value)) = map.next_entry::<String, V>()? {
            match object.fields.entry(name) {
                Entry::Occupied(earlier) => {
                    object.repeated.get_or_insert_with(|| earlier.key().clone());
                }
                Entry::Vacant(place) => {
                    place.insert(value);
                }
            }
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, value::RawValue};

    use super::*;

    #[test]
    fn an_object_tells_which_name_is_there_again() {
        for (text, expected) in [
            (r#"{"a": 1, "b": 2}"#, Some(None)),
            (r#"{"a": 1, "b": 2, "a": 1}"#, Some(Some("a"))),
            (r#"{"a": 1, "\u0061": 2}"#, Some(Some("a"))),
            (r#"{"a": {"b": 1, "b": 2}}"#, Some(None)),
            ("{}", Some(None)),
            ("[]", None),
            ("null", None),
            ("", None),
            (r#"{"a": 1"#, None),
            (r#"{"a": 1} x"#, None),
        ] {
            let object = Object::<Value>::parse(text);
            assert_eq!(object.as_ref().map(|it| it.repeated.as_deref()), expected, "{text}");
            assert_eq!(Object::<&RawValue>::parse(text).is_some(), expected.is_some(), "{text}");
        }
    }

    #[test]
    fn values_that_nest_too_deep_are_no_json() {
        let nested = |depth| format!(r#"{{"a": {}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(Object::<Value>::parse(&nested(100)).is_some());
        assert!(Object::<Value>::parse(&nested(10_000)).is_none());
    }
}
