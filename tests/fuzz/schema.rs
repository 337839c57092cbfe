//! The published schemas, to compare the parsers with.

use std::sync::LazyLock;

use belfry_protocol::schemas;
use jsonschema::Validator;
use serde_json::Value;

pub(crate) static CLIENT_FRAME: LazyLock<Validator> = LazyLock::new(|| schema("client-frame.json"));
pub(crate) static SERVER_FRAME: LazyLock<Validator> = LazyLock::new(|| schema("server-frame.json"));
pub(crate) static BROADCAST_REQUEST: LazyLock<Validator> =
    LazyLock::new(|| schema("broadcast-request.json"));
pub(crate) static BROADCAST_INQUIRY: LazyLock<Validator> =
    LazyLock::new(|| schema("broadcast-inquiry.json"));
pub(crate) static RECEIPTS_REQUEST: LazyLock<Validator> =
    LazyLock::new(|| schema("receipts-request.json"));
pub(crate) static PRESENCE_REQUEST: LazyLock<Validator> =
    LazyLock::new(|| schema("presence-request.json"));
pub(crate) static SWEEP_REQUEST: LazyLock<Validator> =
    LazyLock::new(|| schema("sweep-request.json"));
pub(crate) static OPERATOR_REQUEST: LazyLock<Validator> =
    LazyLock::new(|| schema("operator-request.json"));
pub(crate) static CHANNELS: LazyLock<Validator> = LazyLock::new(|| schema("channels.json"));

fn schema(file: &str) -> Validator {
    let mut all = schemas::all().into_iter();
    let (_, schema) = all.find(|(name, _)| *name == file).expect("a schema");
    jsonschema::validator_for(&schema).expect("a schema")
}

/// Whether a schema accepts a text; `None` if the text is not JSON.
pub(crate) fn judged(validator: &Validator, text: &str) -> Option<bool> {
    let value: Value = serde_json::from_str(without_mark(text)).ok()?;
    Some(validator.is_valid(&value))
}

/// A text without its byte-order mark, which Belfry ignores.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Whether a text was refused for a rule that no schema can express.
pub(crate) fn is_beyond_schemas(explanation: &str) -> bool {
    [
        "duplicate key",
        "levels deep",
        // To a schema, 5.0 is an integer, and an integer can be of any size.
        "invalid type: floating point",
        // The size of an object.
        "bytes of JSON",
        // The ids of messages, and the length of the id that they are made of.
        "must be distinct",
        "at most 125 characters",
    ]
    .iter()
    .any(|part| explanation.contains(part))
}
