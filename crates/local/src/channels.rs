//! `belfry channels check`, the check of the rules before the stack starts, and
//! the names that the command line accepts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use belfry_core::channels::{ChannelRules, Claims, ClaimsTooLarge, Decision};
use belfry_protocol::{
    Address, Allow, CallAction, ChannelName, ChannelsFile, Epoch, InvalidChannelRules, InvalidText,
    Kind, MAX_CHANNEL_RULES_BYTES, MessageId,
};
use serde_json::{Map, Value};

use crate::cli;
use crate::client::{Position, Since};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelsError {
    #[error(
        "cannot read {path}: {cause}\nName another file: `belfry channels check FILE`, `belfry run --channels FILE`."
    )]
    File { path: String, cause: io::Error },
    #[error("{from}: {error}\ndocs/CHANNELS.md describes the rules.")]
    Rules {
        from: String,
        error: InvalidChannelRules,
    },
    #[error("--channel {given:?}: {error}")]
    Channel { given: String, error: InvalidText },
    #[error("--claim: {0}: with such a token, a connection would be refused")]
    Claims(#[from] ClaimsTooLarge),
}

/// Checks a file, and prints that it is valid or what the rules say about the
/// channels that were named.
pub(crate) fn check(arguments: &cli::ChannelsCheckArgs) -> Result<(), ChannelsError> {
    let file = read(&arguments.file)?;
    if arguments.channels.is_empty() {
        println!("{}: {}", arguments.file.display(), summary(&file));
        return Ok(());
    }
    let rules = ChannelRules::from(file);
    let claims = Claims::keep(&token(arguments), rules.claim_names())?;
    for channel in &arguments.channels {
        let address = Address::parse(channel).map_err(|error| ChannelsError::Channel {
            given: channel.clone(),
            error,
        })?;
        println!("{address}: {}", explanation(&rules, &address, &claims));
    }
    Ok(())
}

/// The rules in a file, as the parameter `ChannelRules` carries them.
pub(crate) fn minified(file: &Path) -> Result<String, ChannelsError> {
    Ok(read(file)?.minified())
}

/// Checks a value of the parameter `ChannelRules`.
pub(crate) fn check_parameter(value: &str) -> Result<(), ChannelsError> {
    parse(value, "Parameters.ChannelRules").map(drop)
}

/// The first of these rules that leaves the decision to a function.
pub(crate) fn rule_that_asks(value: &str) -> Option<String> {
    let file = ChannelsFile::parse(value).ok()?;
    let mut rules = file.rules().iter().enumerate();
    let (index, rule) = rules.find(|(_, rule)| matches!(rule.allow, Allow::Ask))?;
    Some(format!("channels[{index}] ({})", rule.pattern))
}

/// A channel, `@me` or `@all`.
pub(crate) fn address(text: &str) -> Result<String, InvalidText> {
    Address::parse(text).map(|address| address.to_string())
}

/// A channel that clients may publish to.
pub(crate) fn name(text: &str) -> Result<String, InvalidText> {
    ChannelName::parse(text).map(|name| name.to_string())
}

pub(crate) fn kind(text: &str) -> Result<String, InvalidText> {
    Kind::parse(text).map(|kind| kind.to_string())
}

pub(crate) fn message_id(text: &str) -> Result<String, InvalidText> {
    MessageId::parse(text).map(|id| id.to_string())
}

pub(crate) fn action(text: &str) -> Result<String, InvalidText> {
    CallAction::parse(text).map(|action| action.to_string())
}

/// A position in a channel's history, or what the user has acknowledged.
pub(crate) fn since(text: &str) -> Result<Since, String> {
    if text == "acked" {
        return Ok(Since::Acked);
    }
    position(text).map(Since::Position)
}

fn position(text: &str) -> Result<Position, String> {
    let parts = text.rsplit_once(':');
    let parts = parts.and_then(|(epoch, seq)| Some((epoch, seq.parse().ok()?)));
    let (epoch, seq) = parts.ok_or("must have the form EPOCH:SEQ, or be acked")?;
    let epoch = Epoch::parse(epoch).map_err(|error| error.to_string())?;
    Ok(Position {
        epoch: epoch.to_string(),
        seq,
    })
}

fn read(path: &Path) -> Result<ChannelsFile, ChannelsError> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &name),
        Err(cause) => Err(ChannelsError::File { path: name, cause }),
    }
}

fn parse(text: &str, from: &str) -> Result<ChannelsFile, ChannelsError> {
    ChannelsFile::parse(text).map_err(|error| ChannelsError::Rules {
        from: from.to_owned(),
        error,
    })
}

fn summary(file: &ChannelsFile) -> String {
    let rules = file.rules().len();
    let plural = if rules == 1 { "" } else { "s" };
    let bytes = thousands(file.minified().len());
    let limit = thousands(MAX_CHANNEL_RULES_BYTES);
    format!("valid, {rules} rule{plural}, {bytes} of {limit} bytes")
}

/// A number below a million, with a comma.
fn thousands(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", number / 1_000, number % 1_000),
    }
}

/// The claims of the token, as `belfry token` makes them: what was given once is
/// a text, what was given more often is a list.
fn token(arguments: &cli::ChannelsCheckArgs) -> Map<String, Value> {
    let mut claims = Map::new();
    if let Some(user) = &arguments.user {
        for name in ["sub", "username"] {
            claims.insert(name.into(), user.as_str().into());
        }
    }
    if !arguments.groups.is_empty() {
        claims.insert("cognito:groups".into(), arguments.groups.clone().into());
    }
    let mut given: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in &arguments.claims {
        given.entry(name).or_default().push(value);
    }
    for (name, values) in given {
        let claim = match values[..] {
            [value] => value.into(),
            _ => values.into(),
        };
        claims.insert(name.into(), claim);
    }
    claims
}

/// Which rule decides, what it allows, and how long messages are kept.
fn explanation(rules: &ChannelRules, address: &Address, claims: &Claims) -> String {
    let mut text = match address {
        Address::Channel(channel) => decision(rules, channel, claims),
        Address::Me | Address::All => "needs no rule".into(),
    };
    match rules.history(address) {
        Some(history) => write!(text, "; history of {} s", history.retention.as_secs()),
        None => write!(text, "; no history"),
    }
    .expect("a String takes any text");
    text
}

fn decision(rules: &ChannelRules, channel: &ChannelName, claims: &Claims) -> String {
    let called = |rule: usize| format!("channels[{rule}] ({})", rules.rules()[rule].pattern);
    match rules.decide(channel, claims) {
        Decision::Refused => "no rule: FORBIDDEN".into(),
        Decision::Allowed { rule, actions } => format!("{} allows {actions}", called(rule)),
        Decision::Ask { rule } => format!("{} asks AuthorizeFunction", called(rule)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{ChannelsCommand, Cli, Command};

    /// What the command says about the channels that are named.
    fn explanations(rules: &str, flags: &[&str]) -> Vec<String> {
        let command = ["belfry", "channels", "check"];
        let cli = Cli::try_parse_from(command.iter().chain(flags)).unwrap();
        let Command::Channels(ChannelsCommand::Check(arguments)) = cli.command else {
            panic!("another command");
        };
        let rules: ChannelRules = rules.parse().unwrap();
        let claims = Claims::keep(&token(&arguments), rules.claim_names()).unwrap();
        let addresses = arguments.channels.iter().map(Address::parse);
        addresses
            .map(|address| explanation(&rules, &address.unwrap(), &claims))
            .collect()
    }

    #[test]
    fn it_says_which_rule_decides_and_what_it_allows() {
        let rules = r#"{"version":"1.0","user":{"history":{"seconds":600}},"channels":[
            {"match":"user:{sub}","allow":["subscribe"]},
            {"match":"name:{username}","allow":["subscribe"]},
            {"match":"tenant:{custom:tenant}:**","allow":["publish","subscribe"],"history":{"seconds":300}},
            {"match":"admin:**","groups":["admins"],"allow":["lock"]},
            {"match":"doc:*","allow":"ask"}]}"#;
        let alice = ["--user", "alice"];
        let tenant = ["--claim", "custom:tenant=acme"];
        let tenants = [tenant[0], tenant[1], "--claim", "custom:tenant=globex"];
        let admin = ["--group", "admins"];
        for (flags, channel, expected) in [
            (
                &alice[..],
                "user:alice",
                "channels[0] (user:{sub}) allows subscribe; no history",
            ),
            (
                &alice,
                "name:alice",
                "channels[1] (name:{username}) allows subscribe; no history",
            ),
            (&alice, "user:bob", "no rule: FORBIDDEN; no history"),
            (
                &["--claim", "sub=bob", "--user", "alice"],
                "user:alice",
                "no rule: FORBIDDEN; no history",
            ),
            (
                &tenant,
                "tenant:acme:a",
                "channels[2] (tenant:{custom:tenant}:**) allows subscribe, publish; history of 300 s",
            ),
            (
                &tenants,
                "tenant:globex:a",
                "channels[2] (tenant:{custom:tenant}:**) allows subscribe, publish; history of 300 s",
            ),
            (
                &tenant,
                "tenant:globex:a",
                "no rule: FORBIDDEN; history of 300 s",
            ),
            (
                &admin,
                "admin:a",
                "channels[3] (admin:**) allows lock; no history",
            ),
            (
                &["--claim", "cognito:groups=admins"],
                "admin:a",
                "channels[3] (admin:**) allows lock; no history",
            ),
            (&[], "admin:a", "no rule: FORBIDDEN; no history"),
            (
                &[],
                "doc:7",
                "channels[4] (doc:*) asks AuthorizeFunction; no history",
            ),
            (&[], "@me", "needs no rule; history of 600 s"),
            (&[], "@all", "needs no rule; no history"),
        ] {
            let flags = [flags, &["--channel", channel]].concat();
            assert_eq!(explanations(rules, &flags), [expected], "{flags:?}");
        }
    }

    #[test]
    fn the_rules_in_the_repository_open_the_demo_alone() {
        let text = include_str!("../../../channels.json");
        let file = ChannelsFile::parse(text).unwrap();
        assert_eq!(summary(&file), "valid, 1 rule, 126 of 3,072 bytes");
        let channels = ["--channel", "demo:chat", "--channel", "room:7"];
        assert_eq!(
            explanations(text, &channels),
            [
                "channels[0] (demo:**) allows subscribe, publish, presence, lock; history of 300 s",
                "no rule: FORBIDDEN; no history"
            ]
        );
    }

    #[test]
    fn an_error_says_where_it_comes_from() {
        let wrong = r#"{"version":"1.0","channels":[{"match":"a b","allow":"ask"}]}"#;
        let error = check_parameter(wrong).unwrap_err().to_string();
        let start = "Parameters.ChannelRules: channels[0] (a b), match: must be";
        assert!(error.starts_with(start), "{error}");
        assert!(
            error.ends_with("docs/CHANNELS.md describes the rules."),
            "{error}"
        );
        let error = minified(Path::new("nowhere/channels.json")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("cannot read nowhere/channels.json")
        );
    }
}
