//! Conditions: the section `Conditions`, and the intrinsics that are allowed
//! in it and in `Rules`.

use serde_json::Value;

use super::TemplateError;
use super::intrinsics::{Scope, only_entry, to_text};

impl Scope<'_> {
    /// Whether a resource's condition, if it has one, holds.
    pub(super) fn exists(&self, id: &str, resource: &Value) -> Result<bool, TemplateError> {
        match resource.get("Condition") {
            None => Ok(true),
            Some(Value::String(name)) => self
                .named_condition(name)
                .map_err(|problem| TemplateError::at(id, "Condition", problem)),
            Some(_) => Err(TemplateError::at(id, "Condition", "must be a name")),
        }
    }

    /// Whether an unnamed condition holds.
    pub(super) fn holds(&self, condition: &Value) -> Result<bool, String> {
        self.condition(condition, "")
    }

    /// Evaluates each condition once: conditions that refer to each other in
    /// layers would otherwise take exponential time.
    pub(super) fn named_condition(&self, name: &str) -> Result<bool, String> {
        let known = self.known_conditions.borrow().get(name).copied();
        match known {
            Some(Some(holds)) => return Ok(holds),
            Some(None) => return Err(format!("condition {name} refers to itself")),
            None => {}
        }
        let condition = self
            .conditions
            .get(name)
            .ok_or_else(|| format!("condition {name} is not defined"))?;
        let note = |holds| {
            self.known_conditions
                .borrow_mut()
                .insert(name.to_owned(), holds)
        };
        note(None);
        let holds = self.condition(condition, &format!("condition {name}: "))?;
        note(Some(holds));
        Ok(holds)
    }

    /// `location` begins the error messages.
    fn condition(&self, value: &Value, location: &str) -> Result<bool, String> {
        let at = |problem: String| format!("{location}{problem}");
        let _level = self.enter().map_err(at)?;
        let all = |list: &[Value]| {
            list.iter()
                .map(|condition| self.condition(condition, location))
                .collect::<Result<Vec<_>, _>>()
        };
        match value.as_object().and_then(only_entry) {
            Some(("Condition", Value::String(name))) => self.named_condition(name),
            Some(("Fn::Equals", Value::Array(sides))) if sides.len() == 2 => {
                let side = |value| self.evaluate(value).map_err(|error| at(error.problem));
                let (left, right) = (side(&sides[0])?, side(&sides[1])?);
                Ok(left.as_ref().map(to_text) == right.as_ref().map(to_text))
            }
            Some(("Fn::Not", Value::Array(list))) if list.len() == 1 => {
                Ok(!self.condition(&list[0], location)?)
            }
            Some(("Fn::And", Value::Array(list))) => Ok(all(list)?.into_iter().all(|holds| holds)),
            Some(("Fn::Or", Value::Array(list))) => Ok(all(list)?.into_iter().any(|holds| holds)),
            _ => Err(at(format!("{} is not a condition", excerpt(value)))),
        }
    }
}

/// The beginning of a value, for an error message.
fn excerpt(value: &Value) -> String {
    const MAX_CHARS: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(MAX_CHARS) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
