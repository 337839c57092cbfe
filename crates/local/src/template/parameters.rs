//! Parameters: defaults, given values, and the rules that CloudFormation
//! would hold them to.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::TemplateError;

/// Every parameter's value.
pub(super) fn resolve(
    declared: &Map<String, Value>,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, TemplateError> {
    if let Some(unknown) = given.keys().find(|name| !declared.contains_key(*name)) {
        return Err(wrong(unknown, "the template has no such parameter"));
    }
    declared
        .iter()
        .map(|(name, declaration)| {
            let value = match given.get(name) {
                Some(value) => value.clone(),
                None => match declaration.get("Default") {
                    Some(default) => plain(default),
                    None => {
                        return Err(wrong(
                            name,
                            format!("has no default; give it with --parameter {name}=VALUE"),
                        ));
                    }
                },
            };
            check(name, declaration, &value)?;
            Ok((name.clone(), value))
        })
        .collect()
}

fn check(name: &str, declaration: &Value, value: &str) -> Result<(), TemplateError> {
    match declaration.get("Type").and_then(Value::as_str) {
        Some("String" | "CommaDelimitedList") => {}
        Some("Number") => check_number(name, declaration, value)?,
        Some(other) => return Err(wrong(name, format!("type {other} is not understood"))),
        None => return Err(wrong(name, "has no Type")),
    }
    if let Some(allowed) = declaration.get("AllowedValues").and_then(Value::as_array) {
        let allowed: Vec<_> = allowed.iter().map(plain).collect();
        if !allowed.iter().any(|a| a == value) {
            return Err(wrong(
                name,
                format!("must be one of {}", allowed.join(", ")),
            ));
        }
    }
    if let Some(pattern) = declaration.get("AllowedPattern").and_then(Value::as_str) {
        // CloudFormation matches the whole value.
        let whole = regex_lite::Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|_| wrong(name, format!("AllowedPattern {pattern} is not understood")))?;
        if !whole.is_match(value) {
            return Err(wrong(name, format!("must match {pattern}")));
        }
    }
    Ok(())
}

fn check_number(name: &str, declaration: &Value, value: &str) -> Result<(), TemplateError> {
    let number: f64 = value.parse().map_err(|_| wrong(name, "must be a number"))?;
    let bound = |key: &str| declaration.get(key).and_then(Value::as_f64);
    match (bound("MinValue"), bound("MaxValue")) {
        (Some(least), _) if number < least => Err(wrong(name, format!("must be at least {least}"))),
        (_, Some(most)) if number > most => Err(wrong(name, format!("must be at most {most}"))),
        _ => Ok(()),
    }
}

fn wrong(name: &str, problem: impl Into<String>) -> TemplateError {
    TemplateError::at("Parameters", name, problem)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
