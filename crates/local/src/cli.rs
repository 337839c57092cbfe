//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::duration;
use crate::fault::Description;
use crate::issuer::DEFAULT_TTL;
use crate::lambda::RetryDelays;

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
    Run(Box<Run>),
    /// Print an access token of the running stack's issuer
    Token(Token),
    /// Invoke a function of the running stack with an event file
    Invoke(Invoke),
}

#[derive(Debug, Args)]
#[command(next_line_help = true, after_help = RUN_HELP)]
pub(crate) struct Run {
    /// The SAM template, like --template stacks/chat.yaml
    #[arg(long, value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,

    /// A template parameter, like --parameter Stage=test; repeatable
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub parameters: Vec<(String, String)>,

    /// The port of the WebSocket, management and Lambda APIs, like --port 3002; 0 picks a free one
    #[arg(long, default_value_t = 3001)]
    pub port: u16,

    /// The port of the embedded DynamoDB, like --dynamodb-port 8001; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub dynamodb_port: u16,

    /// The address to listen on; with --host 0.0.0.0 everyone on the network can invoke the functions
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = loopback_or_all)]
    pub host: IpAddr,

    /// The region that the functions are told, like --region eu-west-1
    #[arg(long, default_value = "us-east-1")]
    pub region: String,

    /// Run the functions' release builds
    #[arg(long)]
    pub release: bool,

    /// The folder of the functions' binaries, like --functions /tmp/build [default: target/debug beside the template]
    #[arg(long, value_name = "FOLDER", conflicts_with = "release")]
    pub functions: Option<PathBuf>,

    /// Print one line of JSON with the URLs when ready, and nothing else to stdout
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub api_gateway: ApiGateway,

    #[command(flatten)]
    pub lambda: Lambda,

    /// Something that goes wrong from the start, like --fault post-410,share=0.1; repeatable, see below
    #[arg(long = "fault", value_name = "FAULT", help_heading = "Faults")]
    pub faults: Vec<Description>,
}

/// What API Gateway allows. The defaults are its own.
#[derive(Debug, Args)]
#[command(next_help_heading = "API Gateway")]
pub(crate) struct ApiGateway {
    /// How long a connection may be without a message in either direction, like --idle-timeout 10s
    #[arg(long, value_name = "DURATION", default_value = "600s", value_parser = duration::parse_positive)]
    pub idle_timeout: Duration,

    /// How long a connection may live, like --max-duration 1m
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = duration::parse_positive)]
    pub max_duration: Duration,

    /// New connections per second, like --connect-rate 5; more are refused with 429; 0 is no limit
    #[arg(long, value_name = "COUNT", default_value_t = 500)]
    pub connect_rate: u32,

    /// Messages and @connections calls per second, like --request-rate 100, and half as many at once; more are answered 429; 0 is no limit
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub request_rate: u32,
}

/// How functions are run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lambda")]
pub(crate) struct Lambda {
    /// Invocations under way in all, like --concurrency 10; more are answered 429. A function's own share is its ReservedConcurrentExecutions in the template
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    pub concurrency: u32,

    /// Processes of one function on this machine, like --environments 2; events beyond wait for one
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub environments: u16,

    /// How long an idle process is kept, frozen, like --reclaim-after 5s
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::parse_positive)]
    pub reclaim_after: Duration,

    /// How long a failed asynchronous event waits for its second and third attempt, like --retry-delay 1s,2s
    #[arg(long, value_name = "FIRST,SECOND", default_value = "1m,2m", value_parser = retry_delays)]
    pub retry_delay: RetryDelays,

    /// How often every schedule ticks, like --schedule-every 1s [default: as the template says]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    pub schedule_every: Option<Duration>,

    /// Show the lines with which functions report metrics (CloudWatch's embedded metric format), too
    #[arg(long)]
    pub metrics: bool,
}

/// What stands below the flags of `belfry run --help`.
const RUN_HELP: &str = "\
Faults are written NAME[,share=0.1][,times=3][,…]:
  disconnect-drop, disconnect-duplicate, disconnect-delay,delay=2s
      $disconnect never runs, runs twice, runs late
  post-410, post-429, post-500, post-silence
      what @connections answers a post, which is not delivered
  peer-freeze
      the client neither reads nor sends; its connection stays open
  dynamodb-throttle, dynamodb-conflict, dynamodb-slow,delay=2s
      calls are refused or take longer
  dynamodb-timeout, dynamodb-lose-answer
      calls are never carried out, or carried out and never answered
  function-kill[,delay=50ms], function-lose-answer
      a process is killed in mid-event, or when its work is done
One connection, function or operation: connection=ID, function=Connect, operation=PutItem.
While the stack runs: GET, POST and DELETE /_local/faults, like
  curl http://127.0.0.1:3001/_local/faults --json '{\"fault\":\"post-410\",\"share\":0.1}'

Durations are written 250ms, 90s, 10m or 2h.

Examples:
  belfry run --parameter AllowedOrigins=http://localhost:5173
  belfry run --idle-timeout 10s --schedule-every 1s
  belfry run --fault disconnect-drop,share=0.5 --fault dynamodb-throttle,operation=PutItem,times=3";

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

/// Two durations, or one for both.
fn retry_delays(text: &str) -> Result<RetryDelays, String> {
    let (first, second) = text.split_once(',').unwrap_or((text, text));
    Ok(RetryDelays {
        first: duration::parse(first)?,
        second: duration::parse(second)?,
    })
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
    fn every_flag_of_run_that_takes_something_shows_how() {
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        let taking = run
            .get_arguments()
            .filter(|argument| argument.get_action().takes_values());
        for argument in taking {
            let flag = format!("--{}", argument.get_long().unwrap());
            let help = argument.get_help().unwrap().to_string();
            assert!(help.contains(&format!("{flag} ")), "{flag}: {help}");
            let default = !argument.get_default_values().is_empty() || help.contains("[default:");
            let repeatable = help.contains("repeatable");
            assert!(default || repeatable, "{flag} has no default");
        }
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
    fn retries_wait_as_told() {
        let delays = |text| retry_delays(text).map(|delays| (delays.first, delays.second));
        let seconds = Duration::from_secs;
        assert_eq!(delays("1m,2m"), Ok((seconds(60), seconds(120))));
        assert_eq!(delays("1s"), Ok((seconds(1), seconds(1))));
        assert!(delays("1s,2s,3s").is_err());
        assert!(delays("1").is_err());
    }

    #[test]
    fn a_value_may_hold_equals_signs() {
        assert_eq!(name_and_value("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(name_and_value("A="), Ok(("A".into(), String::new())));
        assert!(name_and_value("A").is_err());
        assert!(name_and_value("=b").is_err());
    }
}
