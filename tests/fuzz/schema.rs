//! The schemas as judges of what the parsers do.

use std::sync::LazyLock;

use belfry_protocol::schemas;
use jsonschema::Validator;
use serde_json::Value;

pub(crate) static CLIENT_FRAME: LazyLock<Validator> = LazyLock::new(|| schema("client-frame.json"));
pub(crate) static SERVER_FRAME: LazyLock<Validator> = LazyLock::new(|| schema("server-frame.json"));
pub(crate) static BROADCAST_REQUEST: LazyLock<Validator> =
    LazyLock::new(|| schema("broadcast-request.json"));

fn schema(file: &str) -> Validator {
    let mut all = schemas::all().into_iter();
    let (_, schema) = all.find(|(name, _)| *name == file).expect("a schema");
    jsonschema::validator_for(&schema).expect("a schema")
}

/// What a schema says of a text, where that is JSON at all.
pub(crate) fn judged(validator: &Validator, text: &str) -> Option<bool> {
    let value: Value = serde_json::from_str(text).ok()?;
    Some(validator.is_valid(&value))
}

/// Whether a text was refused for what only a parser can tell.
pub(crate) fn is_beyond_schemas(explanation: &str) -> bool {
    [
        "duplicate key",
        "levels deep",
        // A date that no calendar has.
        "timestamp must be",
        // A schema's integer may be written 5.0, and has any size.
        "invalid type: floating point",
    ]
    .iter()
    .any(|part| explanation.contains(part))
}
