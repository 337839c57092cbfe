//! Reads types out of checked JSON, with errors for people.

use serde::de::value::StringDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, IntoDeserializer};
use serde_json::{Map, Value};

use crate::List;
use crate::list::Item;

/// The longest explanation, in bytes. An explanation repeats the names of
/// unknown fields, which can have any length.
const MAX_EXPLANATION_BYTES: usize = 300;

/// How much of the start of a long explanation is kept. The end is kept, too:
/// it says what is expected, often with the field's name.
const HEAD_BYTES: usize = 120;

const ELLIPSIS: &str = "…";

/// Reads a type out of an object, or explains which field is wrong and why.
pub(crate) fn read<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(object)).map_err(|error| {
        let path = error.path().to_string();
        let inner = in_json_terms(without_value(error.into_inner().to_string()));
        // At the top level the path is "." and the message names the field.
        let text = if path == "." || inner.starts_with(&format!("{path} ")) {
            inner
        } else {
            format!("{path}: {inner}")
        };
        shorten(text)
    })
}

/// Reads a struct from an object. serde alone would also accept an array of its
/// fields, which the schema does not allow.
pub(crate) fn object<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    read(Map::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Like [`object`], for an optional field.
pub(crate) fn optional_object<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let object = Option::<Map<String, Value>>::deserialize(deserializer)?;
    let value = object.map(read).transpose();
    value.map_err(D::Error::custom)
}

/// Like [`object`], for each item of a list.
pub(crate) fn objects<'de, T, D, const MIN: usize, const MAX: usize>(
    deserializer: D,
) -> Result<List<T, MIN, MAX>, D::Error>
where
    T: DeserializeOwned + Item,
    D: Deserializer<'de>,
{
    let objects = List::<Object<T>, MIN, MAX>::deserialize(deserializer)?;
    Ok(objects.map(|Object(item)| item))
}

/// Like [`objects`], for an optional field.
pub(crate) fn optional_objects<'de, T, D, const MIN: usize, const MAX: usize>(
    deserializer: D,
) -> Result<Option<List<T, MIN, MAX>>, D::Error>
where
    T: DeserializeOwned + Item,
    D: Deserializer<'de>,
{
    let objects = Option::<List<Object<T>, MIN, MAX>>::deserialize(deserializer)?;
    Ok(objects.map(|objects| objects.map(|Object(item)| item)))
}

/// An item that is an object.
struct Object<T>(T);

impl<T: Item> Item for Object<T> {
    const NAME: &'static str = T::NAME;
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer).map(Self)
    }
}

/// Cuts the value out of a message that quotes one, because it may be a secret
/// in the wrong place, and calls its type by JSON's word.
fn without_value(message: String) -> String {
    // What is expected is the last part, and no type's contains this.
    let Some((quote, expected)) = message.rsplit_once(", expected ") else {
        return message;
    };
    for start in ["invalid type: ", "invalid value: "] {
        if let Some(unexpected) = quote.strip_prefix(start) {
            let kind = match unexpected.split(' ').next().unwrap_or_default() {
                "map" => "object",
                "sequence" => "array",
                "unit" => "null",
                "floating" => "floating point number",
                same => same,
            };
            return format!("{start}{kind}, expected {expected}");
        }
    }
    if quote.starts_with("unknown variant `") {
        return format!("unknown value, expected {expected}");
    }
    message
}

/// Replaces serde's and Rust's terms for what is expected.
fn in_json_terms(mut message: String) -> String {
    for (theirs, ours) in [
        (", expected a map", ", expected an object"),
        (", expected u64", ", expected a non-negative integer"),
        (", expected a nonzero u64", ", expected a positive integer"),
        (", expected variant identifier", ", expected a string"),
        (", there are no fields", ", expected no field"),
    ] {
        if let Some(start) = message.strip_suffix(theirs).map(str::len) {
            message.replace_range(start.., ours);
        }
    }
    message
}

/// Cuts the middle out of a text that is too long.
fn shorten(text: String) -> String {
    if text.len() <= MAX_EXPLANATION_BYTES {
        return text;
    }
    let tail_bytes = MAX_EXPLANATION_BYTES - HEAD_BYTES - ELLIPSIS.len();
    let head = &text[..text.floor_char_boundary(HEAD_BYTES)];
    let tail = &text[text.ceil_char_boundary(text.len() - tail_bytes)..];
    format!("{head}{ELLIPSIS}{tail}")
}

/// Reads a unit variant from its name. serde alone would also accept
/// `{"name": null}`, which the schema does not allow.
pub(crate) fn variant<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let name = String::deserialize(deserializer)?;
    let name: StringDeserializer<D::Error> = name.into_deserializer();
    T::deserialize(name)
}

/// Like [`variant`], for an optional field.
pub(crate) fn optional_variant<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let Some(name) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let name: StringDeserializer<D::Error> = name.into_deserializer();
    T::deserialize(name).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_use_the_terms_of_json() {
        for (serde, ours) in [
            (
                "invalid type: map, expected u64",
                "invalid type: object, expected a non-negative integer",
            ),
            (
                "invalid type: sequence, expected a map",
                "invalid type: array, expected an object",
            ),
            (
                "invalid type: unit value, expected a string",
                "invalid type: null, expected a string",
            ),
            (
                "unknown field `map, expected u64`, expected `a`",
                "unknown field `map, expected u64`, expected `a`",
            ),
        ] {
            assert_eq!(in_json_terms(without_value(serde.into())), ours);
        }
    }

    #[test]
    fn no_message_repeats_a_value() {
        for (serde, ours) in [
            (
                r#"invalid type: string "a, expected b", expected a map"#,
                "invalid type: string, expected a map",
            ),
            (
                "invalid value: integer `256`, expected u8",
                "invalid value: integer, expected u8",
            ),
            (
                "invalid type: floating point `5.0`, expected u64",
                "invalid type: floating point number, expected u64",
            ),
            (
                "unknown variant `a`, expected b`, expected `info` or `warning`",
                "unknown value, expected `info` or `warning`",
            ),
            ("missing field `data`", "missing field `data`"),
        ] {
            assert_eq!(without_value(serde.into()), ours);
        }
    }

    #[test]
    fn shorten_keeps_both_ends() {
        let whole = "x".repeat(MAX_EXPLANATION_BYTES);
        assert_eq!(shorten(whole.clone()), whole);
        for letter in ["x", "ü", "😀"] {
            let short = shorten(format!("start{}end", letter.repeat(1_000)));
            assert!(
                short.starts_with("start") && short.ends_with("end"),
                "{short}"
            );
            let lengths = MAX_EXPLANATION_BYTES - 6..=MAX_EXPLANATION_BYTES;
            assert!(lengths.contains(&short.len()), "{}: {short}", short.len());
        }
    }
}
