//! What a schema cannot say about `channels.json`, or not to people.

use serde_json::{Map, Value};

use super::{
    Action, ChannelPattern, ChannelRule, ChannelsFile, InvalidChannelRules, MAX_CHANNEL_RULES_BYTES,
};

const MAX_AUTO_SUBSCRIBE: usize = 5;

/// How much of a rule's `match` a message repeats, in bytes.
const MATCH_EXCERPT_BYTES: usize = 64;

/// A rule as messages call it, like `channels[2] (room:*)`.
fn called(index: usize, pattern: &str) -> String {
    let excerpt = &pattern[..pattern.floor_char_boundary(MATCH_EXCERPT_BYTES)];
    let ellipsis = if excerpt.len() < pattern.len() {
        "…"
    } else {
        ""
    };
    // Line breaks would tear the message apart.
    let excerpt: String = excerpt.chars().map(visible).collect();
    format!("channels[{index}] ({excerpt}{ellipsis})")
}

fn visible(character: char) -> char {
    if character.is_control() {
        '?'
    } else {
        character
    }
}

fn wrong(index: usize, pattern: &str, field: &str, problem: &str) -> InvalidChannelRules {
    InvalidChannelRules(format!("{}, {field}: {problem}", called(index, pattern)))
}

/// Finds what serde would accept (an array of a type's fields) or explain
/// without the rule's `match`.
pub(super) fn before_reading(file: &Map<String, Value>) -> Result<(), InvalidChannelRules> {
    for field in ["user", "all"] {
        check_object(file, field, "")?;
        if let Some(Value::Object(kept)) = file.get(field) {
            check_object(kept, "history", &format!("{field}."))?;
        }
    }
    let rules = file.get("channels").and_then(Value::as_array);
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        let Value::Object(rule) = rule else {
            let problem = format!("channels[{index}] must be a JSON object");
            return Err(InvalidChannelRules(problem));
        };
        check_object(rule, "history", &format!("channels[{index}]."))?;
        if let Some(Value::String(text)) = rule.get("match") {
            ChannelPattern::parse(text.as_str()).map_err(|error| {
                let error = error.to_string();
                let problem = error.strip_prefix("match ").unwrap_or(&error);
                wrong(index, text, "match", problem)
            })?;
        }
    }
    Ok(())
}

fn check_object(
    object: &Map<String, Value>,
    field: &str,
    path: &str,
) -> Result<(), InvalidChannelRules> {
    match object.get(field) {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) => Err(InvalidChannelRules(format!(
            "{path}{field} must be a JSON object"
        ))),
    }
}

pub(super) fn after_reading(file: &ChannelsFile) -> Result<(), InvalidChannelRules> {
    let rules = file.rules();
    let mut auto_subscribe = 0;
    for (index, rule) in rules.iter().enumerate() {
        let wrong = |field, problem: &str| Err(wrong(index, rule.pattern.as_str(), field, problem));
        if rule.auto_subscribe() {
            auto_subscribe += 1;
            if !rule.allow.allows(Action::Subscribe) {
                return wrong("autoSubscribe", "needs \"subscribe\" in allow");
            }
            if rule.pattern.has_wildcard() {
                return wrong("autoSubscribe", "needs a match without * and **");
            }
            if auto_subscribe > MAX_AUTO_SUBSCRIBE {
                return wrong("autoSubscribe", "at most 5 rules can have it");
            }
        }
        if let Some((field, problem)) = hidden_by(&rules[..index], rule) {
            return wrong(field, &problem);
        }
    }
    let bytes = file.minified().len();
    if bytes > MAX_CHANNEL_RULES_BYTES {
        return Err(InvalidChannelRules(format!(
            "the rules have {bytes} bytes when minified, and at most {MAX_CHANNEL_RULES_BYTES} are allowed: join rules or shorten them"
        )));
    }
    Ok(())
}

/// Why a rule never decides, or its history never counts: the field and the
/// problem. The first rule that matches a channel sets its history, whatever
/// its groups.
fn hidden_by(earlier: &[ChannelRule], rule: &ChannelRule) -> Option<(&'static str, String)> {
    let earlier = (0_usize..).zip(earlier);
    let mut same = earlier.filter(|(_, one)| one.pattern == rule.pattern);
    let because = |index| format!("channels[{index}] has the same match");
    if let Some((index, _)) = same.clone().find(|(_, one)| one.groups().is_empty()) {
        return Some(("match", format!("never decides: {}", because(index))));
    }
    let (index, first) = same.next()?;
    let counts = rule.history.is_none() || rule.history == first.history;
    (!counts).then(|| ("history", format!("never counts: {}", because(index))))
}
