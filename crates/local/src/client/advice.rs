//! What to do next, as commands to paste.

use std::fmt::Write as _;

use super::catch_up::{Position, Since};
use super::socket::ErrorData;
use crate::cli::ConnectArgs;
use crate::issuer::DEFAULT_TTL;
use crate::terminal::commands::{program, quoted};

/// The command that goes on.
pub(super) fn continuing(channel: &str, since: Option<&Since>, connect: &ConnectArgs) -> String {
    let mut command = format!("{} subscribe {channel}", program());
    match since {
        Some(Since::Position(Position { epoch, seq })) => {
            flag(&mut command, "since", &format!("{epoch}:{seq}"));
        }
        Some(Since::Acked) => flag(&mut command, "since", "acked"),
        None => {}
    }
    user(&mut command, connect);
    if connect.content.ttl != DEFAULT_TTL {
        flag(&mut command, "ttl", &connect.content.ttl.to_string());
    }
    if let Some(url) = &connect.url {
        flag(&mut command, "url", url);
    } else if connect.endpoint.is_another() {
        flag(&mut command, "endpoint", &connect.endpoint.endpoint);
    }
    if connect.token.is_some() {
        command.push_str(" --token TOKEN");
    }
    command
}

/// What an error says, and what a person can do about it.
pub(super) fn refusal(channel: &str, error: &ErrorData, connect: &ConnectArgs) -> String {
    let ErrorData { code, message, .. } = error;
    let mut text = format!("{channel}: {code}: {message}");
    if code == "FORBIDDEN" {
        let mut command = format!("{} channels check --channel {channel}", program());
        user(&mut command, connect);
        let _ = write!(
            text,
            "\nThis says which rule of channels.json decides (docs/CHANNELS.md):\n  {command}"
        );
    }
    text
}

fn user(command: &mut String, connect: &ConnectArgs) {
    let Some(user) = &connect.user else { return };
    flag(command, "user", user);
    for group in &connect.content.groups {
        flag(command, "group", group);
    }
    for (name, value) in &connect.content.claims {
        flag(command, "claim", &format!("{name}={value}"));
    }
}

fn flag(command: &mut String, name: &str, value: &str) {
    let _ = write!(command, " --{name} {}", quoted(value));
}
