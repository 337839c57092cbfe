//! `channels.json`: who may do what in which channels, and which messages are
//! kept.

mod allow;
mod checks;
mod history;
mod pattern;

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use allow::{Action, Allow, AllowedActions};
pub use history::HistoryRule;
pub use pattern::{ChannelPattern, PatternSegment};

use crate::list::Item;
use crate::{Group, List, Version, json, shape};

/// The largest file in its minified form, in bytes. The functions get it in an
/// environment variable, and AWS allows 4 KB for all variables of a function.
pub const MAX_CHANNEL_RULES_BYTES: usize = 3_072;

/// The file is not valid. The message names the rule and the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidChannelRules(String);

/// Who may do what in which channels, and which messages are kept. The first
/// rule that matches a channel decides. No rule: nobody may do anything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChannelsFile {
    /// Where editors find this schema. Belfry ignores it.
    #[serde(rename = "$schema", default, skip_serializing)]
    schema: Option<String>,
    /// The version of this format: any `1.x`.
    version: Version,
    /// Messages to a user's own connections (`@me`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<Kept>,
    /// Messages to every connection (`@all`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all: Option<Kept>,
    /// The rules, in the order in which they are tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channels: Option<List<ChannelRule, 0, 100>>,
}

/// Which messages to `@me` or `@all` are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Keeps messages, so that a client that was away can recover them.
    history: HistoryRule,
}

/// One rule: who may do what in the channels that it matches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChannelRule {
    /// The channels: segments joined by `:`. `*` is any one segment, `**` (only
    /// at the end) one or more, `{claim}` a segment that equals the claim of
    /// the token, or one of its texts.
    #[serde(rename = "match")]
    pub pattern: ChannelPattern,
    /// What is allowed, or `ask` to let the application's function decide.
    pub allow: Allow,
    /// The rule is for users in at least one of these groups (the claim
    /// `cognito:groups`); for others the next rule that matches decides. Without
    /// groups it is for everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    groups: Option<List<Group, 1, 20>>,
    /// Subscribes every connection to the channel when it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auto_subscribe: Option<bool>,
    /// Keeps messages, so that a client that was away can recover them. The
    /// first rule that matches a channel says this, whoever asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryRule>,
}

impl Item for ChannelRule {
    const NAME: &'static str = "rule";
}

impl ChannelRule {
    /// Only users in one of these groups meet the rule; empty: everyone does.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        self.groups.as_ref().map_or(&[], List::as_slice)
    }

    /// Whether every connection is subscribed when it opens.
    #[must_use]
    pub fn auto_subscribe(&self) -> bool {
        self.auto_subscribe == Some(true)
    }
}

impl ChannelsFile {
    /// Parses and checks the file's text.
    ///
    /// # Errors
    /// [`InvalidChannelRules`], which names the rule and the field.
    pub fn parse(text: &str) -> Result<Self, InvalidChannelRules> {
        let object = match json::parse(text) {
            Ok(Value::Object(object)) => object,
            Ok(_) => {
                return Err(InvalidChannelRules(
                    "the rules must be a JSON object".into(),
                ));
            }
            Err(error) => return Err(InvalidChannelRules(error.to_string())),
        };
        checks::before_reading(&object)?;
        let file: Self = shape::read(object).map_err(InvalidChannelRules)?;
        checks::after_reading(&file)?;
        Ok(file)
    }

    /// The rules, in the order in which they are tried.
    #[must_use]
    pub fn rules(&self) -> &[ChannelRule] {
        self.channels.as_ref().map_or(&[], List::as_slice)
    }

    /// The history of messages to a user's own connections.
    #[must_use]
    pub fn user_history(&self) -> Option<HistoryRule> {
        self.user.map(|kept| kept.history)
    }

    /// The history of messages to every connection.
    #[must_use]
    pub fn all_history(&self) -> Option<HistoryRule> {
        self.all.map(|kept| kept.history)
    }

    /// The shortest text with the same meaning. It has no line breaks.
    #[must_use]
    pub fn minified(&self) -> String {
        serde_json::to_string(self).expect("rules are JSON")
    }
}

impl FromStr for ChannelsFile {
    type Err = InvalidChannelRules;

    fn from_str(text: &str) -> Result<Self, InvalidChannelRules> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests;
