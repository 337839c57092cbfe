use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use belfry_protocol::{
    Action, Address, Allow, ChannelName, ChannelPattern, ChannelRule, ChannelsFile, HistoryRule,
    InvalidChannelRules, PatternSegment,
};

use super::matching::fits;
use super::{Actions, Claims};

/// The claim that names a user's groups.
const GROUPS: &str = "cognito:groups";

/// The most channels that a connection is subscribed to when it opens.
pub const MAX_AUTO_SUBSCRIPTIONS: usize = 50;

/// Who may do what in which channels, and which messages are kept. The default
/// allows nothing and keeps nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChannelRules(ChannelsFile);

/// What the rules say about a channel and a user's claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// No rule matches.
    Refused,
    /// This rule allows these actions and no others.
    Allowed { rule: usize, actions: Actions },
    /// This rule leaves the decision to the application's function.
    Ask { rule: usize },
}

impl Decision {
    /// Whether the rules alone allow an action.
    #[must_use]
    pub fn allows(self, action: Action) -> bool {
        matches!(self, Self::Allowed { actions, .. } if actions.contains(action))
    }
}

/// The history of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// How long a message is kept.
    pub retention: Duration,
}

impl From<HistoryRule> for History {
    fn from(rule: HistoryRule) -> Self {
        Self {
            retention: Duration::from_secs(rule.seconds().into()),
        }
    }
}

impl From<ChannelsFile> for ChannelRules {
    fn from(file: ChannelsFile) -> Self {
        Self(file)
    }
}

impl FromStr for ChannelRules {
    type Err = InvalidChannelRules;

    fn from_str(text: &str) -> Result<Self, InvalidChannelRules> {
        ChannelsFile::parse(text).map(Self)
    }
}

impl ChannelRules {
    /// The rules, in the order in which they are tried. A [`Decision`] has an
    /// index into them.
    #[must_use]
    pub fn rules(&self) -> &[ChannelRule] {
        self.0.rules()
    }

    /// The claims that the rules need to decide.
    #[must_use]
    pub fn claim_names(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        for rule in self.rules() {
            names.extend(rule.pattern.claims());
            if !rule.groups().is_empty() {
                names.insert(GROUPS);
            }
        }
        names
    }

    /// What a user with these claims may do in a channel. The first rule decides
    /// whose pattern fits and one of whose groups, if it has any, the user is in.
    #[must_use]
    pub fn decide(&self, channel: &ChannelName, claims: &Claims) -> Decision {
        let is_met = |rule: &ChannelRule| {
            is_in_group(rule, claims)
                && fits(&rule.pattern, channel, |claim, segment| {
                    claims.contains(claim, segment)
                })
        };
        let Some(index) = self.rules().iter().position(is_met) else {
            return Decision::Refused;
        };
        match &self.rules()[index].allow {
            Allow::Ask => Decision::Ask { rule: index },
            Allow::Actions(actions) => Decision::Allowed {
                rule: index,
                actions: actions.as_slice().iter().copied().collect(),
            },
        }
    }

    /// What the rules alone allow.
    #[must_use]
    pub fn actions(&self, channel: &ChannelName, claims: &Claims) -> Actions {
        match self.decide(channel, claims) {
            Decision::Allowed { actions, .. } => actions,
            Decision::Refused | Decision::Ask { .. } => Actions::default(),
        }
    }

    /// The history of an address. A channel's comes from the first rule whose
    /// pattern fits for anyone: how long a message is kept must not depend on
    /// who publishes or reads it, and a server that publishes has no claims.
    #[must_use]
    pub fn history(&self, address: &Address) -> Option<History> {
        let rule = match address {
            Address::Me => self.0.user_history(),
            Address::All => self.0.all_history(),
            Address::Channel(channel) => {
                let fits_anyone = |rule: &&ChannelRule| fits(&rule.pattern, channel, |_, _| true);
                self.rules().iter().find(fits_anyone)?.history
            }
        };
        rule.map(History::from)
    }

    /// The channels to which a connection with these claims is subscribed when
    /// it opens, each once. A claim that is a list gives one for each text.
    #[must_use]
    pub fn auto_subscribe(&self, claims: &Claims) -> Vec<ChannelName> {
        let mut channels = Vec::new();
        for rule in self.rules().iter().filter(|rule| rule.auto_subscribe()) {
            if !is_in_group(rule, claims) {
                continue;
            }
            for channel in names(&rule.pattern, claims) {
                // Another rule may come first and decide otherwise.
                let allowed = self.decide(&channel, claims).allows(Action::Subscribe);
                if allowed && !channels.contains(&channel) {
                    channels.push(channel);
                }
            }
        }
        channels.truncate(MAX_AUTO_SUBSCRIPTIONS);
        channels
    }
}

fn is_in_group(rule: &ChannelRule, claims: &Claims) -> bool {
    let mut groups = rule.groups().iter();
    rule.groups().is_empty() || groups.any(|group| claims.contains(GROUPS, group.as_str()))
}

/// The names that a pattern without wildcards has for these claims, up to
/// [`MAX_AUTO_SUBSCRIPTIONS`]: two claims with long lists have far more
/// combinations.
fn names(pattern: &ChannelPattern, claims: &Claims) -> Vec<ChannelName> {
    let mut starts = vec![String::new()];
    for segment in pattern.segments() {
        let texts = match segment {
            PatternSegment::Name(name) => std::slice::from_ref(name),
            PatternSegment::Claim(claim) => claims.texts(claim),
            PatternSegment::Any | PatternSegment::Rest => &[],
        };
        let texts: Vec<_> = texts
            .iter()
            .filter(|text| ChannelName::is_segment(text))
            .collect();
        let longer = starts.iter().flat_map(|start| {
            let colon = if start.is_empty() { "" } else { ":" };
            texts
                .iter()
                .map(move |text| format!("{start}{colon}{text}"))
        });
        starts = longer.take(MAX_AUTO_SUBSCRIPTIONS).collect();
    }
    let parsed = starts.into_iter().map(ChannelName::parse);
    parsed.filter_map(Result::ok).collect()
}

#[cfg(test)]
mod tests;
