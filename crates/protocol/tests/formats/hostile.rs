//! Hostile input for the parsers: every accepted case, changed in one place.
//! A parser accepts exactly what its schema accepts, and its errors are short
//! and name the field. `tests/fuzz` tries random combinations of changes.

use belfry_protocol::{BroadcastReport, ServerFrame};
use jsonschema::Validator;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{FORMATS, Format, Outcome};

/// The formats that Belfry parses.
fn parsed() -> impl Iterator<Item = &'static Format> {
    let names = ["frame", "request", "inquiry", "channels"];
    let is_parsed = move |format: &&Format| {
        format.schema != "server-frame.json"
            && names.iter().any(|name| format.schema.contains(name))
    };
    FORMATS.iter().filter(is_parsed)
}

fn accepted_texts(format: &Format) -> Vec<String> {
    let cases = format.cases().into_iter();
    let accepted = cases.filter(|case| !case.is_refused());
    accepted.map(|case| case.json().to_owned()).collect()
}

/// Checks that parser and schema agree on a text. Returns the error message.
fn judge(format: &Format, validator: &Validator, text: &str) -> Result<(), String> {
    let value = serde_json::from_str::<Value>(text).ok();
    let by_schema = value.as_ref().map(|value| validator.is_valid(value));
    match (format.read)(text) {
        Outcome::Accepted(_) => {
            assert_eq!(by_schema, Some(true), "{}: {text}", format.schema);
            Ok(())
        }
        Outcome::Refused(_, message) => {
            assert!(
                by_schema != Some(true) || is_beyond_schemas(&message),
                "{} accepts {text}, the parser says: {message}",
                format.schema
            );
            assert!(message.len() <= 300, "{text}: {message}");
            Err(message)
        }
    }
}

/// Whether a text was refused for a rule that no schema can express.
fn is_beyond_schemas(message: &str) -> bool {
    let rules = [
        "duplicate key",
        "levels deep",
        // To a schema, 5.0 is an integer, and an integer can be of any size.
        "invalid type: floating point",
        // The size of an object.
        "bytes of JSON",
    ];
    rules.iter().any(|rule| message.contains(rule)) || is_about_all_rules(message)
}

/// Whether channel rules were refused for what they say together.
fn is_about_all_rules(message: &str) -> bool {
    let rules = [
        "autoSubscribe: ",
        "never decides: ",
        "never counts: ",
        "bytes when minified",
    ];
    rules.iter().any(|rule| message.contains(rule))
}

/// Values that some field somewhere does not accept.
fn odd_values() -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(5.0),
        json!(21),
        json!(256),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!([]),
        json!({}),
        json!([null]),
        json!({"": null}),
        json!({"type": "all"}),
    ];
    values.push((0..40).fold(json!(1), |inside, _| json!([inside])));
    let texts = [
        "",
        " ",
        "null",
        "0",
        "\u{0}",
        "\n",
        "\u{7f}",
        "\u{85}",
        "\u{feff}",
        "\u{202e}",
        "2.0",
        "2026-02-29T23:59:60Z",
    ];
    values.extend(texts.map(Value::from));
    for piece in ["x", "ü", "😀", "\"", "\n"] {
        values.extend([128, 129, 5_000].map(|times| json!(piece.repeat(times))));
    }
    values
}

/// The JSON pointers of all members of objects in a value.
fn pointers(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(name, v)| (name.clone(), v)).collect(),
        Value::Array(items) => (0_usize..).map(|i| i.to_string()).zip(items).collect(),
        _ => Vec::new(),
    };
    let deeper = |(name, child): (String, &Value)| {
        let below = pointers(child);
        let itself = std::iter::once(String::new());
        itself
            .chain(below)
            .map(move |rest| format!("/{name}{rest}"))
            .collect::<Vec<_>>()
    };
    children.into_iter().flat_map(deeper).collect()
}

fn names_the_field(pointer: &str, message: &str) -> bool {
    let mut names = pointer
        .split('/')
        .filter(|name| name.parse::<u32>().is_err());
    message.contains("levels deep")
        || is_about_all_rules(message)
        || names.any(|name| !name.is_empty() && message.contains(name))
}

#[test]
fn any_value_in_any_field_is_accepted_as_the_schema_says() {
    let odd_values = odd_values();
    for format in parsed() {
        let validator = format.validator();
        for text in accepted_texts(format) {
            let good: Value = serde_json::from_str(&text).unwrap();
            for pointer in pointers(&good) {
                let check = |value: &Value, what: &str| {
                    let text = value.to_string();
                    if let Err(message) = judge(format, &validator, &text) {
                        let named = names_the_field(&pointer, &message);
                        assert!(named, "{pointer} {what}, {text}: {message}");
                    }
                };
                let mut changed = good.clone();
                for odd in &odd_values {
                    *changed.pointer_mut(&pointer).unwrap() = odd.clone();
                    check(&changed, "replaced");
                }
                let original = good.pointer(&pointer).unwrap();
                *changed.pointer_mut(&pointer).unwrap() = json!([original]);
                check(&changed, "in an array");
                if let Value::String(text) = original {
                    *changed.pointer_mut(&pointer).unwrap() = json!({text.as_str(): null});
                    check(&changed, "as the name of a member");
                }
            }
        }
    }
}

#[test]
fn no_error_repeats_a_value() {
    const SECRET: &str = "s3cr3t";
    let values = [
        json!(SECRET),
        json!(format!("`, expected `{SECRET}")),
        json!(format!("\", expected {SECRET}")),
        json!(format!("\n{}", SECRET.repeat(100))),
        json!([SECRET]),
        json!({"kind": SECRET}),
        json!({"type": SECRET}),
        json!({"token": [SECRET]}),
        json!(987_654_321),
        json!(-987_654_321),
        json!(98_765.432_1),
    ];
    // The rules of channels are the operator's own, and errors name the rule by
    // its match.
    for format in parsed().filter(|format| format.schema != "channels.json") {
        for text in accepted_texts(format) {
            let good: Value = serde_json::from_str(&text).unwrap();
            for pointer in pointers(&good) {
                for value in &values {
                    let mut changed = good.clone();
                    *changed.pointer_mut(&pointer).unwrap() = value.clone();
                    let text = changed.to_string();
                    if let Outcome::Refused(_, message) = (format.read)(&text) {
                        let repeated = [SECRET, "98765"].iter().any(|v| message.contains(v));
                        assert!(!repeated, "{text}: {message}");
                    }
                }
            }
        }
    }
}

#[test]
fn null_in_an_optional_field_counts_as_absent() {
    let mut optional_fields = 0;
    for format in parsed() {
        for text in accepted_texts(format) {
            let good: Value = serde_json::from_str(&text).unwrap();
            for pointer in pointers(&good) {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                let (mut absent, mut null) = (good.clone(), good.clone());
                let Some(Value::Object(object)) = absent.pointer_mut(parent) else {
                    continue;
                };
                object.remove(name);
                *null.pointer_mut(&pointer).unwrap() = Value::Null;
                let accepts = |value: &Value| {
                    matches!((format.read)(&value.to_string()), Outcome::Accepted(_))
                };
                if accepts(&absent) {
                    assert!(accepts(&null), "{}: {null}", format.schema);
                    optional_fields += 1;
                }
            }
        }
    }
    assert!(optional_fields > 0);
}

#[test]
fn a_missing_field_is_named() {
    for format in parsed() {
        let validator = format.validator();
        for text in accepted_texts(format) {
            let good: Value = serde_json::from_str(&text).unwrap();
            for pointer in pointers(&good) {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                let mut changed = good.clone();
                let Some(Value::Object(object)) = changed.pointer_mut(parent) else {
                    continue;
                };
                object.remove(name);
                let outcome = judge(format, &validator, &changed.to_string());
                if let Err(message) = outcome {
                    // Without an action it is a broadcast request, and lacks a
                    // target.
                    let is_inquiry = format.schema == "broadcast-inquiry.json";
                    let name = if is_inquiry && name == "action" {
                        "messageId"
                    } else {
                        name
                    };
                    let named = message.contains(name)
                        || message.contains("target")
                        || is_about_all_rules(&message);
                    assert!(named, "{changed} lacks {name}: {message}");
                }
            }
        }
    }
}

#[test]
fn an_unknown_field_is_accepted_as_the_schema_says() {
    for format in parsed() {
        let validator = format.validator();
        for text in accepted_texts(format) {
            let good: Value = serde_json::from_str(&text).unwrap();
            let mut objects = vec![String::new()];
            objects.extend(pointers(&good));
            for pointer in objects {
                for name in ["surprise", "__proto__", "Action", "", "n\u{0}", "$ref"] {
                    for value in [json!(null), json!(1), json!({})] {
                        let mut changed = good.clone();
                        let Some(Value::Object(object)) = changed.pointer_mut(&pointer) else {
                            continue;
                        };
                        object.insert(name.into(), value);
                        let text = changed.to_string();
                        if let Err(message) = judge(format, &validator, &text) {
                            assert!(message.contains(&format!("`{name}`")), "{text}: {message}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_duplicate_key_is_refused_and_named() {
    for format in parsed() {
        for text in accepted_texts(format) {
            let object: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
            let text = Value::Object(object.clone()).to_string();
            for (name, value) in object {
                let (first, rest) = name.split_at(1);
                let escaped = format!("\\u{:04x}{rest}", u32::from(first.as_bytes()[0]));
                for key in [&name, &escaped] {
                    for value in [value.clone(), json!(null), json!("other")] {
                        let twice = format!("{{\"{key}\":{value},{}", &text[1..]);
                        let Outcome::Refused(_, message) = (format.read)(&twice) else {
                            panic!("accepted {twice}");
                        };
                        let expected = format!("duplicate key `{name}`");
                        assert!(message.contains(&expected), "{twice}: {message}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_cut_off_text_is_refused() {
    for format in parsed() {
        let validator = format.validator();
        for text in accepted_texts(format) {
            let text = text.trim();
            for (end, _) in text.char_indices() {
                let message = judge(format, &validator, &text[..end]).unwrap_err();
                assert!(message.contains("not valid JSON"), "{message}");
            }
        }
    }
}

#[test]
fn deep_nesting_is_refused_wherever_it_is() {
    for format in parsed() {
        let validator = format.validator();
        for text in accepted_texts(format) {
            for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
                for depth in [32, 127, 128, 100_000] {
                    let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                    let fields = text.trim().strip_prefix('{').unwrap();
                    for hostile in [
                        format!("{{\"deep\":{deep},{fields}"),
                        format!("{{{}", open.repeat(depth)),
                        format!("{{\"deep\":{}", open.repeat(depth)),
                        deep,
                    ] {
                        judge(format, &validator, &hostile).unwrap_err();
                    }
                }
            }
        }
    }
}

#[test]
fn a_number_beyond_every_type_is_refused() {
    for format in parsed() {
        let validator = format.validator();
        for text in accepted_texts(format) {
            let fields = text.trim().strip_prefix('{').unwrap();
            for number in ["1e999", "-1e999", &"9".repeat(400)] {
                let hostile = format!("{{\"huge\":{number},{fields}");
                let message = judge(format, &validator, &hostile).unwrap_err();
                assert!(message.contains("number out of range"), "{message}");
            }
        }
    }
}

/// What Belfry writes fits the schema, whatever it once read.
fn is_written_as_its_schema_says<T: DeserializeOwned + Serialize>(schema: &str) {
    let format = FORMATS
        .iter()
        .find(|format| format.schema == schema)
        .unwrap();
    let validator = format.validator();
    for text in accepted_texts(format) {
        let good: Value = serde_json::from_str(&text).unwrap();
        for pointer in pointers(&good) {
            for odd in odd_values() {
                let mut changed = good.clone();
                *changed.pointer_mut(&pointer).unwrap() = odd;
                if let Ok(value) = serde_json::from_value::<T>(changed) {
                    let written = serde_json::to_value(&value).unwrap();
                    assert!(validator.is_valid(&written), "{written}");
                }
            }
        }
    }
}

#[test]
fn a_server_frame_is_written_as_its_schema_says() {
    is_written_as_its_schema_says::<ServerFrame>("server-frame.json");
}

#[test]
fn a_broadcast_report_is_written_as_its_schema_says() {
    is_written_as_its_schema_says::<BroadcastReport>("broadcast-report.json");
}

proptest! {
    #[test]
    fn a_damaged_text_is_accepted_as_the_schema_says(
        format in select(parsed().collect::<Vec<_>>()),
        case in any::<Index>(),
        at in any::<Index>(),
        length in 0..3_usize,
        piece in r#"[\[\]{}",:.=\\ 0-9a-zA-Z_\-\x00-\x1f]{0,3}|\PC{1,4}"#,
    ) {
        let texts = accepted_texts(format);
        let text: Vec<char> = case.get(&texts).chars().collect();
        let from = at.index(text.len() + 1);
        let to = (from + length).min(text.len());
        let damaged: String = text[..from].iter().copied()
            .chain(piece.chars())
            .chain(text[to..].iter().copied())
            .collect();
        let _ = judge(format, &format.validator(), &damaged);
    }
}
