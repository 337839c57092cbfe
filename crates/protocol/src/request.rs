//! Requests that callers send to functions they invoke themselves.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{json, shape};

/// The request is not valid. The message is for the caller: it names the field
/// and never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRequest(String);

impl InvalidRequest {
    pub(crate) fn new(message: &str) -> Self {
        Self(message.into())
    }
}

/// Parses a request, which is always a JSON object.
pub(crate) fn object(text: &str) -> Result<Map<String, Value>, InvalidRequest> {
    match json::parse(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(InvalidRequest("the request must be a JSON object".into())),
        Err(error) => Err(InvalidRequest(error.to_string())),
    }
}

/// Reads a request whose members in `objects` hold objects.
///
/// Without this check serde would accept an array of a type's fields, too.
pub(crate) fn read<T: DeserializeOwned>(
    object: Map<String, Value>,
    objects: &[&str],
) -> Result<T, InvalidRequest> {
    for field in objects {
        if object.get(*field).is_some_and(|value| !value.is_object()) {
            return Err(InvalidRequest(format!("{field} must be a JSON object")));
        }
    }
    shape::read(object).map_err(InvalidRequest)
}

/// Reads a request whose `action` is one of `actions` and selects its type.
///
/// serde's own errors about a tag do not name it.
pub(crate) fn read_action<T: DeserializeOwned>(
    object: Map<String, Value>,
    actions: &[&str],
) -> Result<T, InvalidRequest> {
    match object.get("action").map(Value::as_str) {
        None => Err(InvalidRequest("missing field `action`".into())),
        Some(Some(action)) if actions.contains(&action) => read(object, &[]),
        Some(_) => Err(InvalidRequest(match actions {
            [action] => format!("action must be {action}"),
            actions => format!("action must be one of {}", actions.join(", ")),
        })),
    }
}
