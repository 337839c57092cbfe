//! The schemas in `schemas/` are current, and agree with the parsers on the
//! shared cases in `schemas/cases/`.

use std::path::{Path, PathBuf};

use belfry_protocol::{BroadcastRequest, ClientFrame, schemas};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    name: String,
    text: String,
    /// The type of an accepted frame or `accepted`; otherwise the error's code.
    expect: String,
    /// What an `InvalidRequest` must name.
    names: Option<String>,
    /// `cannot tell` where the rule lies outside what a schema can state.
    schema: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

fn cases(file: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join("cases").join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn schema(file: &str) -> jsonschema::Validator {
    let (_, schema) = schemas::all()
        .into_iter()
        .find(|(name, _)| *name == file)
        .unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// A schema judges what is JSON; everything else is outside its reach.
fn agrees(validator: &jsonschema::Validator, case: &Case, accepted: bool) {
    if let Ok(value) = serde_json::from_str::<Value>(&case.text) {
        let by_schema = validator.is_valid(&value);
        if case.schema.as_deref() == Some("cannot tell") {
            assert!(by_schema, "the schema can tell {:?} after all", case.name);
        } else {
            assert_eq!(
                by_schema, accepted,
                "schema and parser differ on {:?}",
                case.name
            );
        }
    }
}

#[test]
fn files_are_current() {
    for (name, schema) in schemas::all() {
        let on_disk = std::fs::read_to_string(folder().join(name)).unwrap_or_default();
        assert!(
            on_disk == schemas::to_file(&schema),
            "schemas/{name} differs from the types; run `make schemas` and review the difference"
        );
    }
}

#[test]
fn client_frames_parser_and_schema_agree() {
    let validator = schema("client-frame.json");
    for case in cases("client-frames.json") {
        let parsed = ClientFrame::parse(&case.text, 128 * 1024);
        let outcome = match &parsed {
            Ok(frame) => frame.type_name(),
            Err(refused) => refused.code.as_str(),
        };
        assert_eq!(outcome, case.expect, "{}", case.name);
        agrees(&validator, &case, parsed.is_ok());
    }
}

#[test]
fn broadcast_requests_parser_and_schema_agree() {
    let validator = schema("broadcast-request.json");
    for case in cases("broadcast-requests.json") {
        let parsed = BroadcastRequest::parse(&case.text);
        assert_eq!(
            parsed.is_ok(),
            case.expect == "accepted",
            "{}: {parsed:?}",
            case.name
        );
        if let Err(error) = &parsed {
            let named = case
                .names
                .as_deref()
                .expect("a refused case says what the error names");
            assert!(error.to_string().contains(named), "{}: {error}", case.name);
        }
        agrees(&validator, &case, parsed.is_ok());
    }
}

#[test]
fn what_the_server_writes_fits_its_schema() {
    let validator = schema("server-frame.json");
    for text in [
        r#"{"type":"pong","version":"1.0","timestamp":"2026-02-09T18:11:43.822Z","correlationId":"1"}"#,
        r#"{"type":"error","version":"1.0","data":{"code":"UNKNOWN_TYPE","message":"m","timestamp":"2026-02-09T18:11:43.822Z"}}"#,
        r#"{"type":"auth.refreshed","version":"1.0","data":{"tokenExpiresAt":"2026-02-09T18:11:43.822Z"},"correlationId":"1"}"#,
        r#"{"type":"notification","version":"1.0","id":"m","data":{"file":"x.png","kind":"upload.completed"}}"#,
    ] {
        let frame: belfry_protocol::ServerFrame = serde_json::from_str(text).unwrap();
        assert_eq!(frame.to_json(), text);
        assert!(
            validator.is_valid(&serde_json::from_str(text).unwrap()),
            "{text}"
        );
    }
}
