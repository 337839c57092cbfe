//! A parser for JSON from outside that is stricter than most.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep objects and arrays may nest.
///
/// Deep nesting costs stack space in every parser on a frame's way. No real
/// message comes near this depth.
pub const MAX_DEPTH: usize = 32;

/// How much of a key an error message may repeat, in bytes.
const KEY_EXCERPT_BYTES: usize = 64;

/// The text is not acceptable JSON. The message is for the sender: it contains
/// a position and at most a part of one key, never a value.
#[derive(Debug, thiserror::Error)]
#[error("not valid JSON: {0}")]
pub struct JsonError(#[from] serde_json::Error);

/// Some programs begin every text with a byte-order mark. A parser may ignore
/// it (RFC 8259, section 8.1).
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Parses one JSON value, refusing duplicate keys, nesting beyond
/// [`MAX_DEPTH`] and anything after the value.
///
/// Duplicate keys are refused because parsers disagree on which one counts
/// (RFC 8259, section 4): a component could act on a value that another one
/// never checked.
pub(crate) fn parse(text: &str) -> Result<Value, JsonError> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 0 }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Builds a [`Value`] at a known depth.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!(
                "nested more than {MAX_DEPTH} levels deep"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inside)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                let excerpt = &key[..key.floor_char_boundary(KEY_EXCERPT_BYTES)];
                return Err(A::Error::custom(format_args!("duplicate key `{excerpt}`")));
            }
            object.insert(key, entries.next_value_seed(inside)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn accepts_json() {
        let text = r#"{"a":[1,-2,3.5,"x",null,true],"b":{"c":{}}}"#;
        let expected = json!({"a": [1, -2, 3.5, "x", null, true], "b": {"c": {}}});
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn refuses_duplicate_keys_at_any_depth() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"[{"b":1,"\u0062":1}]"#,
        ] {
            assert!(
                parse(text)
                    .unwrap_err()
                    .to_string()
                    .contains("duplicate key"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_error_repeats_only_the_start_of_a_long_key() {
        for letter in ["k", "😀"] {
            let key = letter.repeat(10_000);
            let error = parse(&format!(r#"{{"{key}":1,"{key}":2}}"#)).unwrap_err();
            assert!(error.to_string().len() < 200, "{error}");
        }
    }

    #[test]
    fn limits_the_depth() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        let error = parse(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert!(error.to_string().contains("levels deep"));
        assert!(parse(&"[".repeat(1_000_000)).is_err());
    }

    #[test]
    fn ignores_one_byte_order_mark() {
        assert_eq!(parse("\u{feff}[1]").unwrap(), json!([1]));
        for wrong in ["\u{feff}\u{feff}[1]", " \u{feff}[1]", "[1]\u{feff}"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn refuses_anything_after_the_value() {
        assert!(parse("{} {}").is_err());
        assert!(parse("").is_err());
    }

    proptest! {
        #[test]
        fn never_panics_and_agrees_with_serde_json(text in r#"[\[\]{}",:0-9a-e\\ .-]{0,40}"#) {
            match (parse(&text), serde_json::from_str::<Value>(&text)) {
                (Ok(ours), theirs) => prop_assert_eq!(ours, theirs.unwrap()),
                (Err(error), Ok(_)) => prop_assert!(error.to_string().contains("duplicate key")),
                (Err(_), Err(_)) => {}
            }
        }
    }
}
