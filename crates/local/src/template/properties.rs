//! Reads a resource's properties one by one, with errors that name them.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::TemplateError;
use super::intrinsics::Scope;

/// The problem with a section, a property or a type that the reader does not know.
pub(super) const NOT_SUPPORTED: &str = "is not supported by the local stack";

/// A resource's properties. Each is evaluated when it is read, so an ignored
/// one may use any intrinsic.
pub(super) struct Properties<'a> {
    id: &'a str,
    raw: Cow<'a, Map<String, Value>>,
    scope: &'a Scope<'a>,
}

impl<'a> Properties<'a> {
    pub(super) fn of(
        id: &'a str,
        resource: &'a Value,
        scope: &'a Scope<'a>,
    ) -> Result<Self, TemplateError> {
        let raw = match resource.get("Properties") {
            None => Cow::Owned(Map::new()),
            Some(Value::Object(raw)) => Cow::Borrowed(raw),
            Some(_) => return Err(TemplateError::at(id, "Properties", "must be a mapping")),
        };
        Ok(Self { id, raw, scope })
    }

    /// Refuses properties that are in neither list.
    pub(super) fn allow_only(&self, read: &[&str], ignored: &[&str]) -> Result<(), TemplateError> {
        match unsupported(&self.raw, read, ignored) {
            Some(name) => Err(self.error(name, NOT_SUPPORTED)),
            None => Ok(()),
        }
    }

    /// A property, evaluated.
    pub(super) fn get(&self, name: &str) -> Result<Option<Value>, TemplateError> {
        match self.raw.get(name) {
            None => Ok(None),
            Some(raw) => self
                .scope
                .evaluate(raw)
                .map_err(|error| error.in_property(self.id, &format!("Properties.{name}"))),
        }
    }

    pub(super) fn string(&self, name: &str) -> Result<Option<String>, TemplateError> {
        match self.get(name)? {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(name, "must be a string")),
        }
    }

    pub(super) fn error(&self, path: &str, problem: impl Into<String>) -> TemplateError {
        TemplateError::at(self.id, &format!("Properties.{path}"), problem)
    }
}

/// The first name that is in neither list.
pub(super) fn unsupported<'a>(
    raw: &'a Map<String, Value>,
    read: &[&str],
    ignored: &[&str],
) -> Option<&'a str> {
    raw.keys()
        .map(String::as_str)
        .find(|name| !read.contains(name) && !ignored.contains(name))
}

/// An integer. A parameter's value is always a string, so `"25"` is one too.
pub(super) fn integer(value: &Value, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            format!(
                "must be a whole number from {} to {}",
                range.start(),
                range.end()
            )
        })
}
