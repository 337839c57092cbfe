//! Requests to functions that callers invoke themselves.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{json, shape};

/// A request that cannot be served as it is. The message names the field and
/// is meant for the caller; it may repeat a part of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRequest(String);

/// Parses a request in which the `objects` are fields that hold objects.
pub(crate) fn parse<T: DeserializeOwned>(
    text: &str,
    objects: &[&str],
) -> Result<T, InvalidRequest> {
    let value = json::parse(text).map_err(|error| InvalidRequest(error.to_string()))?;
    let Value::Object(object) = value else {
        return Err(InvalidRequest("the request must be a JSON object".into()));
    };
    // Where a type is expected serde takes a list of its fields, too.
    for field in objects {
        if object.get(*field).is_some_and(|value| !value.is_object()) {
            return Err(InvalidRequest(format!("{field} must be a JSON object")));
        }
    }
    shape::read(object).map_err(InvalidRequest)
}
