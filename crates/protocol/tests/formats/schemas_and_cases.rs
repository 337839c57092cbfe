//! The schemas are current and complete, and the cases hold.

use std::collections::BTreeSet;
use std::path::Path;

use belfry_protocol::schemas;
use serde_json::Value;

use crate::{FORMATS, Outcome, folder};

#[test]
fn schema_files_are_current() {
    for (name, schema) in schemas::all() {
        let on_disk = std::fs::read_to_string(folder().join(name)).unwrap_or_default();
        assert!(
            on_disk == schemas::to_file(&schema),
            "schemas/{name} differs from the types; run `make schemas` and review the difference"
        );
    }
}

#[test]
fn every_schema_and_every_file_of_cases_belongs_to_a_format() {
    let generated = schemas::all().into_iter().map(|(name, _)| name.to_owned());
    let mut expected: BTreeSet<String> = generated.collect();
    let of_formats = BTreeSet::from(FORMATS.map(|format| format.schema.to_owned()));
    assert_eq!(of_formats, expected, "formats and generated schemas");
    expected.insert("cases".into());
    assert_eq!(files(&folder()), expected, "schemas/");
    let expected = BTreeSet::from(FORMATS.map(|format| format.cases.to_owned()));
    assert_eq!(files(&folder().join("cases")), expected, "schemas/cases/");
}

fn files(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn belfry_does_with_each_case_what_it_expects() {
    for format in &FORMATS {
        for case in format.cases() {
            let context = format!("{}, {:?}: {}", format.cases, case.name, case.text);
            match (format.read)(&case.text) {
                Outcome::Refused(..) if case.written == Some(false) => {
                    assert_eq!(case.expect, "accepted", "{context}");
                }
                Outcome::Accepted(what) => {
                    assert_eq!(what, case.expect, "{context}");
                    assert_eq!(case.written, None, "Belfry writes {context}");
                }
                Outcome::Refused(code, message) => {
                    assert_eq!(code, case.expect, "{context}: {message}");
                    let named = case.names.as_deref().unwrap_or_default();
                    assert!(message.contains(named), "{context}: {message}");
                    let must_name = code.starts_with("Invalid");
                    assert!(!must_name || !named.is_empty(), "no `names` in {context}");
                }
            }
        }
    }
}

#[test]
fn the_schema_agrees_with_each_case() {
    for format in &FORMATS {
        let validator = format.validator();
        for case in format.cases() {
            // A schema has no opinion on a text that is not JSON.
            let Ok(value) = serde_json::from_str::<Value>(case.json()) else {
                assert!(case.is_refused(), "{}: {:?}", format.cases, case.name);
                continue;
            };
            let expected = match case.schema.as_deref() {
                None => !case.is_refused(),
                Some("cannot tell") => true,
                Some(other) => panic!("{}: {other}", case.name),
            };
            let context = format!("{}, {:?}: {}", format.cases, case.name, case.text);
            assert_eq!(validator.is_valid(&value), expected, "{context}");
        }
    }
}

#[test]
fn case_names_are_unique() {
    for format in &FORMATS {
        let mut names = BTreeSet::new();
        for case in format.cases() {
            assert!(
                names.insert(case.name.clone()),
                "{}: {}",
                format.cases,
                case.name
            );
        }
    }
}

/// Derived from the schemas, so a new frame type, action, error code or field
/// fails here until it has a case.
#[test]
fn every_field_and_constant_of_a_schema_is_in_an_accepted_case() {
    for format in &FORMATS {
        let (mut fields, mut texts) = (BTreeSet::new(), BTreeSet::new());
        for case in format.cases().iter().filter(|case| !case.is_refused()) {
            members(
                &serde_json::from_str(case.json()).unwrap(),
                &mut fields,
                &mut texts,
            );
        }
        let (mut properties, mut constants) = (BTreeSet::new(), BTreeSet::new());
        described(&format.schema(), &mut properties, &mut constants);
        let missing: Vec<_> = properties.difference(&fields).collect();
        assert!(
            missing.is_empty(),
            "fields that {} lacks: {missing:?}",
            format.cases
        );
        let missing: Vec<_> = constants.difference(&texts).collect();
        assert!(
            missing.is_empty(),
            "values that {} lacks: {missing:?}",
            format.cases
        );
    }
}

#[test]
fn every_type_of_a_format_has_accepted_and_refused_cases() {
    for format in &FORMATS {
        let Some(tag) = format.tag else { continue };
        let schema = format.schema();
        let tags: BTreeSet<String> = match schema["oneOf"].as_array() {
            Some(types) => types
                .iter()
                .flat_map(|one| constants_of(one, tag))
                .collect(),
            None => constants_of(&schema, tag).into_iter().collect(),
        };
        assert!(!tags.is_empty(), "{} has no {tag}", format.schema);
        for refused in [false, true] {
            let cases = format
                .cases()
                .into_iter()
                .filter(|c| c.is_refused() == refused);
            let values = cases.filter_map(|case| serde_json::from_str::<Value>(case.json()).ok());
            let seen: BTreeSet<String> = values
                .filter_map(|value| value[tag].as_str().map(str::to_owned))
                .collect();
            let missing: Vec<_> = tags.difference(&seen).collect();
            assert!(
                missing.is_empty(),
                "{}, refused {refused}: {missing:?}",
                format.cases
            );
        }
    }
}

/// The constants of a property.
fn constants_of(schema: &Value, property: &str) -> Vec<String> {
    let (mut properties, mut constants) = (BTreeSet::new(), BTreeSet::new());
    described(
        &schema["properties"][property],
        &mut properties,
        &mut constants,
    );
    constants.into_iter().collect()
}

/// The names of members and the texts anywhere in a value.
fn members(value: &Value, names: &mut BTreeSet<String>, texts: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                names.insert(name.clone());
                members(value, names, texts);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| members(item, names, texts)),
        Value::String(text) => {
            texts.insert(text.clone());
        }
        _ => {}
    }
}

/// The properties and the constants anywhere in a schema.
fn described(schema: &Value, properties: &mut BTreeSet<String>, constants: &mut BTreeSet<String>) {
    let Value::Object(object) = schema else {
        if let Value::Array(schemas) = schema {
            for schema in schemas {
                described(schema, properties, constants);
            }
        }
        return;
    };
    for (keyword, value) in object {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(members)) => {
                properties.extend(members.keys().cloned());
                for schema in members.values() {
                    described(schema, properties, constants);
                }
            }
            ("const", Value::String(text)) => {
                constants.insert(text.clone());
            }
            ("enum", Value::Array(texts)) => {
                constants.extend(texts.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            _ => described(value, properties, constants),
        }
    }
}
