//! The command line.

mod connect;
mod messages;
mod run;

use std::convert::Infallible;
use std::io::{self, Write};
use std::path::PathBuf;

use belfry_ops::OpsArgs;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::cost::CostArgs;
use crate::issuer::DEFAULT_TTL;

pub(crate) use connect::{ConnectArgs, TokenSource};
pub(crate) use messages::{CallArgs, PublishArgs, SubscribeArgs};
pub(crate) use run::{ApiGatewayArgs, RunArgs};

/// Belfry's local stack: API Gateway for WebSockets, Lambda and DynamoDB in one
/// process. It runs the binaries that you deploy.
#[derive(Debug, Parser)]
#[command(name = "belfry", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a local stack from a SAM template
    Run(Box<RunArgs>),
    /// Print an access token from the running stack's issuer
    Token(TokenArgs),
    /// Invoke a function of the running stack with an event from a file
    Invoke(InvokeArgs),
    /// Print the messages of channels as they come
    Subscribe(SubscribeArgs),
    /// Publish a message to a channel
    Publish(PublishArgs),
    /// Call the application's function as a client does
    Call(CallArgs),
    /// Work with the rules of channels
    #[command(subcommand)]
    Channels(ChannelsCommand),
    /// Say what a stack costs on AWS in a month
    Cost(Box<CostArgs>),
    /// Operate a running stack, here or on AWS: list, close and drain connections, purge histories, watch
    Ops(Box<OpsArgs>),
    /// Print a script with which a shell completes `belfry`
    Completions {
        /// Shell
        #[arg(value_enum)]
        shell: CompletedShell,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CompletedShell {
    Bash,
    Zsh,
    Fish,
}

impl From<CompletedShell> for clap_complete::Shell {
    fn from(shell: CompletedShell) -> Self {
        match shell {
            CompletedShell::Bash => Self::Bash,
            CompletedShell::Zsh => Self::Zsh,
            CompletedShell::Fish => Self::Fish,
        }
    }
}

pub(crate) fn print_completions(shell: CompletedShell) {
    let shell: clap_complete::Shell = shell.into();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "belfry", &mut script);
    // A reader like `head` may have seen enough.
    let _ = io::stdout().write_all(&script);
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChannelsCommand {
    /// Check the rules, and say which of them decides about a channel
    Check(ChannelsCheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    /// URL of the running stack
    #[arg(long, value_name = "URL", default_value = DEFAULT_ENDPOINT, value_parser = without_slash)]
    pub endpoint: String,
}

const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:3001";

impl EndpointArgs {
    /// Whether it is another one than the default.
    pub(crate) fn is_another(&self) -> bool {
        self.endpoint != DEFAULT_ENDPOINT
    }
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// User: the token's sub and username
    #[arg(long)]
    pub user: String,

    #[command(flatten)]
    pub content: TokenContentArgs,

    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// What a token of the local issuer says beside the user.
#[derive(Debug, Args)]
pub(crate) struct TokenContentArgs {
    /// Lifetime in seconds, at most 86400; a negative one makes an expired token
    #[arg(long, default_value_t = DEFAULT_TTL, allow_negative_numbers = true, requires = "user")]
    pub ttl: i64,

    /// Group of the user; repeatable
    #[arg(long = "group", value_name = "GROUP", requires = "user")]
    pub groups: Vec<String>,

    /// Claim to add or override, like --claim custom:tenant=acme; repeatable
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = name_and_value, requires = "user")]
    pub claims: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct InvokeArgs {
    /// Name of the function, like Broadcaster
    pub function: String,

    /// File with the event's JSON; - reads standard input
    pub file: PathBuf,

    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// An error that clap reports as its own, with exit code 2.
pub(crate) fn usage(kind: ErrorKind, problem: &str) -> clap::Error {
    Cli::command().error(kind, problem)
}

#[derive(Debug, Args)]
pub(crate) struct ChannelsCheckArgs {
    /// File with the rules
    #[arg(value_name = "FILE", default_value = "channels.json")]
    pub file: PathBuf,

    /// Channel to decide about, like --channel room:7; repeatable
    #[arg(long = "channel", value_name = "CHANNEL")]
    pub channels: Vec<String>,

    /// User: the token's sub and username
    #[arg(long, requires = "channels")]
    pub user: Option<String>,

    /// Group of the user; repeatable
    #[arg(long = "group", value_name = "GROUP", requires = "channels")]
    pub groups: Vec<String>,

    /// Claim of the token, like --claim custom:tenant=acme; repeatable. The same claim twice makes a list
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = name_and_value, requires = "channels")]
    pub claims: Vec<(String, String)>,
}

/// A URL to which paths are appended.
#[expect(clippy::unnecessary_wraps, reason = "clap's parsers may fail")]
fn without_slash(url: &str) -> Result<String, Infallible> {
    Ok(url.trim_end_matches('/').to_owned())
}

pub(crate) fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must have the form NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_value_may_contain_equals_signs() {
        assert_eq!(name_and_value("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(name_and_value("A="), Ok(("A".into(), String::new())));
        assert!(name_and_value("A").is_err());
        assert!(name_and_value("=b").is_err());
    }
}
