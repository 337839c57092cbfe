//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::issuer::DEFAULT_TTL;

/// Belfry's local stack: API Gateway for WebSockets, Lambda and DynamoDB in
/// one process, running the binaries that are deployed.
#[derive(Debug, Parser)]
#[command(name = "belfry", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the local stack that a SAM template describes
    Run(Run),
    /// Print an access token of the running stack's issuer
    Token(Token),
    /// Invoke a function of the running stack with an event file
    Invoke(Invoke),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The SAM template
    #[arg(long, value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,

    /// A template parameter, like --parameter Stage=test; repeatable
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub parameters: Vec<(String, String)>,

    /// The port of the WebSocket, management and Lambda APIs; 0 picks a free one
    #[arg(long, default_value_t = 3001)]
    pub port: u16,

    /// The port of the embedded DynamoDB; 0 picks a free one
    #[arg(long, default_value_t = 8000)]
    pub dynamodb_port: u16,

    /// The address to listen on; with 0.0.0.0 everyone on the network can invoke the functions
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = loopback_or_all)]
    pub host: IpAddr,

    /// The region that the functions are told, like eu-west-1
    #[arg(long, default_value = "us-east-1")]
    pub region: String,

    /// Run the functions' release builds
    #[arg(long)]
    pub release: bool,

    /// The folder of the functions' binaries [default: target/debug beside the template]
    #[arg(long, value_name = "FOLDER", conflicts_with = "release")]
    pub functions: Option<PathBuf>,

    /// How many environments each function may have; more events wait
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub concurrency: u16,

    /// Print one line of JSON with the URLs when ready, and nothing else to stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Endpoint {
    /// The running stack
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3001")]
    pub endpoint: String,
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The user: the token's sub and username
    #[arg(long)]
    pub user: String,

    /// How long it is good, in seconds; negative makes an expired token
    #[arg(long, default_value_t = DEFAULT_TTL, allow_negative_numbers = true)]
    pub ttl: i64,

    /// A group of the user; repeatable
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,

    /// A claim over the defaults, like --claim custom:tenant=acme; repeatable
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub claims: Vec<(String, String)>,

    #[command(flatten)]
    pub endpoint: Endpoint,
}

#[derive(Debug, Args)]
pub(crate) struct Invoke {
    /// The function's name, like Broadcaster
    pub function: String,

    /// A file with the event's JSON; - reads standard input
    pub file: PathBuf,

    #[command(flatten)]
    pub endpoint: Endpoint,
}

/// The functions reach the gateway over loopback, so it must be there.
fn loopback_or_all(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| "must be an IP address".to_owned())?;
    if address.is_loopback() || address.is_unspecified() {
        Ok(address)
    } else {
        Err("must be a loopback address, or 0.0.0.0 or :: for all".into())
    }
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must have the form NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn it_listens_where_the_functions_find_it() {
        assert!(
            ["127.0.0.1", "::1", "0.0.0.0", "::"]
                .iter()
                .all(|text| loopback_or_all(text).is_ok())
        );
        assert!(
            ["192.0.2.1", "localhost", ""]
                .iter()
                .all(|text| loopback_or_all(text).is_err())
        );
    }

    #[test]
    fn a_value_may_hold_equals_signs() {
        assert_eq!(name_and_value("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(name_and_value("A="), Ok(("A".into(), String::new())));
        assert!(name_and_value("A").is_err());
        assert!(name_and_value("=b").is_err());
    }
}
