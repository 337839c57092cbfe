//! A resource's properties, read one by one with errors that name them.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::TemplateError;
use super::intrinsics::Scope;

/// The properties of a resource, before evaluation: what is ignored need not
/// be understood.
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

    /// Refuses properties that are neither read nor known to have no meaning
    /// for a local stack.
    pub(super) fn only(&self, read: &[&str], ignored: &[&str]) -> Result<(), TemplateError> {
        match unknown(&self.raw, read, ignored) {
            Some(name) => Err(self.wrong(name, "is not understood by the local stack")),
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
                .map_err(|error| error.of(self.id, &format!("Properties.{name}"))),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, TemplateError> {
        match self.get(name)? {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a text")),
        }
    }

    pub(super) fn wrong(&self, path: &str, problem: impl Into<String>) -> TemplateError {
        TemplateError::at(self.id, &format!("Properties.{path}"), problem)
    }
}

/// The first name that is in neither list.
pub(super) fn unknown<'a>(
    raw: &'a Map<String, Value>,
    read: &[&str],
    ignored: &[&str],
) -> Option<&'a str> {
    raw.keys()
        .map(String::as_str)
        .find(|name| !read.contains(name) && !ignored.contains(name))
}

/// A whole number, which a parameter may give as text.
pub(super) fn whole_number(value: &Value, range: RangeInclusive<u64>) -> Result<u64, String> {
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
