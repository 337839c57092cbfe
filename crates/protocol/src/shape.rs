//! From checked JSON to a type, with errors for people.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The longest explanation, in bytes: it may repeat a part of what was sent,
/// and escaping can make a text many times longer.
const MAX_EXPLANATION_BYTES: usize = 300;

/// Reads a type out of an object, or explains which field is wrong and how.
pub(crate) fn read<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(object)).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        // At the top the path is "." and the message names the field itself.
        let mut text = if path == "." {
            inner.to_string()
        } else {
            format!("{path}: {inner}")
        };
        text.truncate(text.floor_char_boundary(MAX_EXPLANATION_BYTES));
        text
    })
}
