//! Parameters: defaults, given values, and CloudFormation's constraints.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::TemplateError;
use super::intrinsics::to_text;
use super::properties::NOT_SUPPORTED;
use crate::nearest;

/// CloudFormation's quotas: parameters of a template, and bytes of a value.
const MAX_PARAMETERS: usize = 200;
const MAX_VALUE_BYTES: usize = 4_096;

/// The largest compiled `AllowedPattern`, in bytes.
const MAX_PATTERN_BYTES: usize = 256 * 1024;

/// Every parameter's value.
pub(super) fn resolve(
    declared: &Map<String, Value>,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, TemplateError> {
    if let Some(unknown) = given.keys().find(|name| !declared.contains_key(*name)) {
        let hint = nearest::hint(unknown, declared.keys().map(String::as_str));
        let problem = format!("the template has no such parameter; {hint}");
        return Err(error(unknown, problem));
    }
    if declared.len() > MAX_PARAMETERS {
        return Err(TemplateError::file(format!(
            "the template has more than {MAX_PARAMETERS} parameters, CloudFormation's limit"
        )));
    }
    declared
        .iter()
        .map(|(name, declaration)| {
            let value = match given.get(name) {
                Some(value) => value.clone(),
                None => match declaration.get("Default") {
                    Some(default) => to_text(default),
                    None => {
                        return Err(error(
                            name,
                            format!("has no default; set it with --parameter {name}=VALUE"),
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
    if value.len() > MAX_VALUE_BYTES {
        let problem = format!("is longer than {MAX_VALUE_BYTES} bytes, CloudFormation's limit");
        return Err(error(name, problem));
    }
    match declaration.get("Type").and_then(Value::as_str) {
        Some("String" | "CommaDelimitedList") => {}
        Some("Number") => check_number(name, declaration, value)?,
        Some(other) => return Err(error(name, format!("type {other} {NOT_SUPPORTED}"))),
        None => return Err(error(name, "has no Type")),
    }
    if let Some(allowed) = declaration.get("AllowedValues").and_then(Value::as_array) {
        let allowed: Vec<_> = allowed.iter().map(to_text).collect();
        if !allowed.iter().any(|a| a == value) {
            return Err(error(
                name,
                format!("must be one of {}", allowed.join(", ")),
            ));
        }
    }
    if let Some(pattern) = declaration.get("AllowedPattern").and_then(Value::as_str) {
        // CloudFormation matches the whole value.
        let whole = regex_lite::RegexBuilder::new(&format!("^(?:{pattern})$"))
            .size_limit(MAX_PATTERN_BYTES)
            .build();
        let whole = whole.map_err(|problem| {
            error(
                name,
                format!("AllowedPattern cannot be compiled: {problem}"),
            )
        })?;
        if !whole.is_match(value) {
            let description = declaration
                .get("ConstraintDescription")
                .and_then(Value::as_str);
            let problem =
                description.map_or_else(|| format!("must match {pattern}"), ToOwned::to_owned);
            return Err(error(name, problem));
        }
    }
    Ok(())
}

fn check_number(name: &str, declaration: &Value, value: &str) -> Result<(), TemplateError> {
    // Templates may quote numbers.
    let bound = |key: &str| -> Option<f64> { to_text(declaration.get(key)?).parse().ok() };
    // CloudFormation accepts a fraction for any number, and has no pattern for
    // numbers. A function that counts with it then fails at its first event.
    let has_fraction = |key: &str| bound(key).is_some_and(|number| number.fract() != 0.0);
    let fractions = ["Default", "MinValue", "MaxValue"]
        .into_iter()
        .any(has_fraction);
    if !fractions && !is_whole(value) {
        return Err(error(name, "must be a whole number"));
    }
    let number = value.parse().ok().filter(|number: &f64| number.is_finite());
    let number = number.ok_or_else(|| error(name, "must be a number"))?;
    match (bound("MinValue"), bound("MaxValue")) {
        (Some(min), _) if number < min => Err(error(name, format!("must be at least {min}"))),
        (_, Some(max)) if number > max => Err(error(name, format!("must be at most {max}"))),
        _ => Ok(()),
    }
}

fn is_whole(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn error(name: &str, problem: impl Into<String>) -> TemplateError {
    TemplateError::at("Parameters", name, problem)
}
