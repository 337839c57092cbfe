//! Reads types out of checked JSON, with errors for people.

use serde::de::value::StringDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IntoDeserializer};
use serde_json::{Map, Value};

/// The longest explanation, in bytes. An explanation may repeat a part of the
/// input, and escapes can make that many times longer.
const MAX_EXPLANATION_BYTES: usize = 300;

/// Reads a type out of an object, or explains which field is wrong and why.
pub(crate) fn read<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(object)).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner().to_string();
        // At the top level the path is "." and the message names the field.
        let mut text = if path == "." || inner.starts_with(&format!("{path} ")) {
            inner
        } else {
            format!("{path}: {inner}")
        };
        text.truncate(text.floor_char_boundary(MAX_EXPLANATION_BYTES));
        text
    })
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
