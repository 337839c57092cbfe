//! The command line.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use belfry_ops::OpsArgs;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use url::{Host as UrlHost, Url};

use crate::channels;
use crate::client::Since;
use crate::cost::CostArgs;
use crate::duration;
use crate::fault::FaultSpec;
use crate::guard::Host;
use crate::issuer::DEFAULT_TTL;
use crate::lambda::RetryDelays;

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
#[command(next_line_help = true, after_help = RUN_HELP)]
pub(crate) struct RunArgs {
    /// SAM template, like --template stacks/chat.yaml; a release has its own beside the program
    #[arg(long, value_name = "FILE", default_value_os_t = default_template())]
    pub template: PathBuf,

    /// Template parameter, like --parameter Stage=test; repeatable
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub parameters: Vec<(String, String)>,

    /// Rules of channels, like --channels stacks/channels.json; a parameter ChannelRules takes precedence [default: channels.json beside the template, if there is one]
    #[arg(long, value_name = "FILE")]
    pub channels: Option<PathBuf>,

    /// Port of the WebSocket, management and Lambda APIs, like --port 3002; 0 picks a free port
    #[arg(long, default_value_t = 3001)]
    pub port: u16,

    /// Port of the embedded DynamoDB, like --dynamodb-port 8001; 0 picks a free port
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub dynamodb_port: u16,

    /// Port of the first function URL, like --url-port 3102; each further one has the next port; 0 picks free ports [default: 100 above --port]
    #[arg(long, value_name = "PORT")]
    pub url_port: Option<u16>,

    /// Address to listen on; with --host 0.0.0.0 everyone on the network can invoke the functions [default: 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDRESS", value_parser = loopback_or_all)]
    pub host: Option<IpAddr>,

    /// Host name or address that requests may name in their Host header, like --allowed-host host.docker.internal; repeatable. Loopback and the address of --host are always allowed
    #[arg(long = "allowed-host", value_name = "HOST", value_parser = Host::parse)]
    pub allowed_hosts: Vec<Host>,

    /// AWS region that the functions see, like --region eu-west-1
    #[arg(long, default_value = "us-east-1")]
    pub region: String,

    /// Run the functions' release builds
    #[arg(long)]
    pub release: bool,

    /// Folder of the functions' binaries, like --functions /tmp/build; a template without BuildMethod names them itself, as CodeUri [default: target/debug beside the template]
    #[arg(long, value_name = "FOLDER", conflicts_with = "release")]
    pub functions: Option<PathBuf>,

    /// Function of your own, by the template's parameter that takes its ARN, like --function AuthorizeFunction=authorize.mjs; repeatable. A Node module that exports `handler`, or a program that speaks the Lambda Runtime API
    #[arg(long = "function", value_name = "PARAMETER=FILE", value_parser = name_and_value)]
    pub application: Vec<(String, String)>,

    /// Environment variable of your own functions, like --function-env TABLE=documents; repeatable
    #[arg(long = "function-env", value_name = "NAME=VALUE", value_parser = name_and_value, requires = "application")]
    pub application_environment: Vec<(String, String)>,

    /// When ready, print the URLs to stdout as one line of JSON and nothing else
    #[arg(long)]
    pub json: bool,

    /// Log more: ignored resources, every connection and strike of a fault, and the functions' DEBUG lines
    #[arg(long)]
    pub verbose: bool,

    #[command(flatten)]
    pub api_gateway: ApiGatewayArgs,

    #[command(flatten)]
    pub lambda: LambdaArgs,

    /// Fault to inject from the start, like --fault post-410,share=0.1; repeatable, see below
    #[arg(long = "fault", value_name = "FAULT", help_heading = "Faults")]
    pub faults: Vec<FaultSpec>,
}

/// API Gateway's limits. The defaults are AWS's.
#[derive(Debug, Args)]
#[command(next_help_heading = "API Gateway")]
pub(crate) struct ApiGatewayArgs {
    /// Close a connection after this long without a message in either direction, like --idle-timeout 10s
    #[arg(long, value_name = "DURATION", default_value = "600s", value_parser = duration::parse_positive)]
    pub idle_timeout: Duration,

    /// Maximum lifetime of a connection, like --max-duration 1m; a template with a parameter ConnectionLifetimeSeconds gets it, and its schedules run often enough
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = duration::parse_positive)]
    pub max_duration: Duration,

    /// New connections per second, like --connect-rate 5; more get a 429; 0 means no limit
    #[arg(long, value_name = "COUNT", default_value_t = 500)]
    pub connect_rate: u32,

    /// Messages and @connections calls per second, like --request-rate 100, with bursts of half as many; more get a 429; 0 means no limit
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub request_rate: u32,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Lambda")]
pub(crate) struct LambdaArgs {
    /// Concurrent invocations of all functions, like --concurrency 10; more get a 429. The template's ReservedConcurrentExecutions reserves some for one function
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    pub concurrency: u32,

    /// Maximum processes of one function, like --environments 2; further events wait
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub environments: u16,

    /// Stop a process after this long idle (frozen), like --reclaim-after 5s
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::parse_positive)]
    pub reclaim_after: Duration,

    /// Waits before the second and third attempt of a failed asynchronous event, like --retry-delay 1s,2s
    #[arg(long, value_name = "FIRST,SECOND", default_value = "1m,2m", value_parser = retry_delays)]
    pub retry_delay: RetryDelays,

    /// Run every schedule this often, like --schedule-every 1s [default: as in the template]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    pub schedule_every: Option<Duration>,

    /// Also show the metrics that functions write (CloudWatch embedded metric format)
    #[arg(long)]
    pub metrics: bool,
}

/// The text below the flags in `belfry run --help`.
const RUN_HELP: &str = "\
A fault is written NAME[,share=0.1][,times=3][,…]:
  disconnect-drop, disconnect-duplicate, disconnect-delay,delay=2s
      $disconnect never runs, runs twice, runs late
  post-410, post-429, post-500, post-silence
      a post to @connections fails this way and is not delivered
  peer-freeze
      the client neither reads nor sends; its connection stays open
  dynamodb-throttle, dynamodb-conflict, dynamodb-slow,delay=2s
      calls are refused or take longer
  dynamodb-contention,delay=20ms
      a write transaction holds its items this long; other writes to them are refused
  dynamodb-timeout, dynamodb-lose-answer
      calls are lost, or executed and their responses lost
  function-kill[,delay=50ms], function-lose-answer
      a process is killed in mid-event, or after its work but before its response
To strike one connection, function or operation: connection=ID, function=Connect, operation=PutItem.
While the stack runs, use GET, POST and DELETE /_local/faults, like
  curl http://127.0.0.1:3001/_local/faults --json '{\"fault\":\"post-410\",\"share\":0.1}'

Durations are written 250ms, 90s, 10m or 2h.

Examples:
  belfry run --parameter AllowedOrigins=http://localhost:5173
  belfry run --idle-timeout 10s --schedule-every 1s
  belfry run --function AuthorizeFunction=examples/authorize/index.mjs
  belfry run --fault disconnect-drop,share=0.5 --fault dynamodb-throttle,operation=PutItem,times=3";

#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    /// URL of the running stack
    #[arg(long, value_name = "URL", default_value = DEFAULT_ENDPOINT, value_parser = without_slash)]
    pub endpoint: String,
}

const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:3001";

/// From the stack's port to its first function URL's.
const URL_PORT_OFFSET: u16 = 100;

impl RunArgs {
    /// The port of a function URL. The local stack's first is number 0.
    pub(crate) fn function_url_port(&self, number: u16) -> u16 {
        let first = match (self.url_port, self.port) {
            (Some(port), _) => port,
            (None, 0) => 0,
            // Past the last port, any free one.
            (None, port) => port.checked_add(URL_PORT_OFFSET).unwrap_or_default(),
        };
        if first == 0 {
            return 0;
        }
        first.checked_add(number).unwrap_or_default()
    }
}

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

/// The variable with the token, which other users of the machine cannot see.
pub(crate) const TOKEN_VARIABLE: &str = "BELFRY_TOKEN";

/// The most channels of one connection.
const MAX_CHANNELS: usize = 50;

#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectArgs {
    /// User: get a token of this user from the local stack, like `belfry token`
    #[arg(long)]
    pub user: Option<String>,

    #[command(flatten)]
    pub content: TokenContentArgs,

    /// Access token [default: the variable BELFRY_TOKEN, which keeps it out of the list of processes]
    #[arg(long, conflicts_with = "user")]
    pub token: Option<String>,

    #[command(flatten)]
    pub endpoint: EndpointArgs,

    /// WebSocket URL of a stack, like wss://abc123.execute-api.eu-west-1.amazonaws.com/dev [default: the local stack's]
    #[arg(long, conflicts_with_all = ["user", "endpoint"])]
    pub url: Option<String>,
}

/// Where a connection's token comes from.
#[derive(Debug)]
pub(crate) enum TokenSource<'a> {
    Given(String),
    /// A token of this user from the local issuer.
    Issuer(&'a str),
}

impl ConnectArgs {
    /// The URL that was given. Not checked by a value parser, whose errors would
    /// repeat a token in it.
    pub(crate) fn checked_url(&self) -> Result<Option<Url>, clap::Error> {
        let url = self.url.as_deref().map(websocket_url).transpose();
        url.map_err(|problem| usage(ErrorKind::ValueValidation, &format!("--url: {problem}")))
    }

    /// Checks that a token that was given may go to this endpoint. Those of the
    /// local issuer are worth nothing elsewhere.
    pub(crate) fn check_endpoint(&self) -> Result<(), clap::Error> {
        let endpoint = self.endpoint.endpoint.replacen("http", "ws", 1);
        match websocket_url(&endpoint) {
            Ok(_) => Ok(()),
            Err(_) => Err(usage(
                ErrorKind::ValueValidation,
                "--endpoint: a token goes to https:// or to this machine only; give the stack's URL with --url wss://…",
            )),
        }
    }

    /// The token's source: a flag before the environment.
    pub(crate) fn token_source(&self) -> Result<TokenSource<'_>, clap::Error> {
        if let Some(user) = &self.user {
            return Ok(TokenSource::Issuer(user));
        }
        let variable = || std::env::var(TOKEN_VARIABLE).ok();
        let token = self.token.clone().or_else(variable);
        match token.filter(|token| !token.is_empty()) {
            Some(token) => Ok(TokenSource::Given(token)),
            None => Err(usage(
                ErrorKind::MissingRequiredArgument,
                &format!(
                    "a token is missing: give a user of the local stack with --user, or a token with --token or {TOKEN_VARIABLE}"
                ),
            )),
        }
    }
}

/// An error that clap reports as its own, with exit code 2.
pub(crate) fn usage(kind: ErrorKind, problem: &str) -> clap::Error {
    Cli::command().error(kind, problem)
}

#[derive(Debug, Args)]
#[command(after_help = SUBSCRIBE_HELP)]
pub(crate) struct SubscribeArgs {
    /// Channel, like room:7; @me and @all are the messages to the user and to everyone
    #[arg(value_name = "CHANNEL", required = true, num_args = 1..=MAX_CHANNELS, value_parser = channels::address)]
    pub channels: Vec<String>,

    /// Print the messages after this position first, only with one channel; acked means what the user has acknowledged
    #[arg(long, value_name = "EPOCH:SEQ|acked", value_parser = channels::since)]
    pub since: Option<Since>,

    /// End after this many messages
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=MAX_SECONDS))]
    pub seconds: Option<u64>,

    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// A week.
const MAX_SECONDS: u64 = 7 * 86_400;

/// The text below the flags in `belfry subscribe --help`.
const SUBSCRIBE_HELP: &str = "\
Each line of stdout is one frame; stderr has everything else. Messages of a channel with a history come in order,
without gaps. Ctrl-C ends it. The exit code is 1 if the stack refuses, or if the connection is lost.

Examples:
  belfry subscribe demo:chat --user alice
  belfry subscribe demo:chat --user alice --count 1 | jq .data
  BELFRY_TOKEN=\"$(cat token)\" belfry subscribe room:7 @me --url wss://abc123.execute-api.eu-west-1.amazonaws.com/dev";

#[derive(Debug, Args)]
#[command(after_help = PUBLISH_HELP)]
pub(crate) struct PublishArgs {
    /// Channel, like room:7
    #[arg(value_parser = channels::name)]
    pub channel: String,

    /// File with the message's data, any JSON; - reads standard input
    pub file: PathBuf,

    /// What the message is about, like --kind chat.line
    #[arg(long, value_parser = channels::kind)]
    pub kind: String,

    /// Idempotency key: publish the message once, however often the command runs
    #[arg(long, value_name = "ID", value_parser = channels::message_id)]
    pub message_id: Option<String>,

    /// Keep the message out of the channel's history
    #[arg(long)]
    pub no_store: bool,

    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// The text below the flags in `belfry publish --help`.
const PUBLISH_HELP: &str = "\
Prints the frame that confirms the message. The exit code is 1 if the stack refuses.

Examples:
  belfry publish demo:chat line.json --kind chat.line --user alice
  echo '{\"text\":\"hi\"}' | belfry publish demo:chat - --kind chat.line --user alice";

#[derive(Debug, Args)]
#[command(after_help = CALL_HELP)]
pub(crate) struct CallArgs {
    /// What the function is asked to do, like quote.edit
    #[arg(value_parser = channels::action)]
    pub action: String,

    /// File with the call's data, any JSON; - reads standard input
    pub file: Option<PathBuf>,

    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// The text below the flags in `belfry call --help`.
const CALL_HELP: &str = "\
Prints the frame with the result. The exit code is 1 if the stack refuses or the function fails.

Examples:
  belfry call quote.edit edit.json --user alice
  echo '{\"id\":\"q-1\"}' | belfry call quote.read - --user alice";

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

/// The template of the release that this program belongs to, whatever the folder
/// that it is started in; without one, as in the repository, that folder's.
fn default_template() -> PathBuf {
    let beside = std::env::current_exe().map(|program| program.with_file_name("template.yaml"));
    beside
        .ok()
        .filter(|file| file.is_file())
        .unwrap_or_else(|| "template.yaml".into())
}

/// The functions reach the local stack over loopback, so it must listen there.
fn loopback_or_all(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| "must be an IP address".to_owned())?;
    if address.is_loopback() || address.is_unspecified() {
        Ok(address)
    } else {
        Err("must be a loopback address, or 0.0.0.0 or :: for all addresses".into())
    }
}

/// A URL to which paths are appended.
#[expect(clippy::unnecessary_wraps, reason = "clap's parsers may fail")]
fn without_slash(url: &str) -> Result<String, Infallible> {
    Ok(url.trim_end_matches('/').to_owned())
}

/// The URL of a stack, to which a token may be sent.
fn websocket_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|_| "must be a URL like wss://…/dev")?;
    let is_loopback = match url.host() {
        Some(UrlHost::Domain(name)) => name == "localhost",
        Some(UrlHost::Ipv4(address)) => address.is_loopback(),
        Some(UrlHost::Ipv6(address)) => address.is_loopback(),
        None => return Err("must be a URL like wss://…/dev".into()),
    };
    match url.scheme() {
        "wss" => {}
        "ws" if is_loopback => {}
        "ws" => return Err("ws:// would send the token unencrypted; use wss://".into()),
        _ => return Err("must begin with wss://, or with ws:// on this machine".into()),
    }
    let is_plain = url.query().is_none() && url.fragment().is_none();
    if !is_plain || !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "must have no query, fragment or user name; give the token with --token or {TOKEN_VARIABLE}"
        ));
    }
    Ok(url)
}

/// Two durations, or one that counts for both.
fn retry_delays(text: &str) -> Result<RetryDelays, String> {
    let (first, second) = text.split_once(',').unwrap_or((text, text));
    Ok(RetryDelays {
        first: duration::parse(first)?,
        second: duration::parse(second)?,
    })
}

pub(crate) fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must have the form NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn function_urls_have_the_ports_from_the_first_on() {
        let port = |flags: &[&str], number| {
            let arguments = ["belfry", "run"].iter().chain(flags);
            let Command::Run(arguments) = Cli::try_parse_from(arguments).unwrap().command else {
                panic!("not `run`")
            };
            arguments.function_url_port(number)
        };
        assert_eq!((port(&[], 0), port(&[], 1)), (3101, 3102));
        assert_eq!(port(&["--port", "4000"], 0), 4100);
        assert_eq!(port(&["--port", "0"], 1), 0);
        assert_eq!(port(&["--port", "65535"], 0), 0);
        assert_eq!(port(&["--url-port", "3102", "--port", "0"], 2), 3104);
        assert_eq!(port(&["--url-port", "0"], 1), 0);
        assert_eq!(port(&["--url-port", "65535"], 1), 0);
    }

    #[test]
    fn every_flag_of_run_with_a_value_shows_an_example() {
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
    fn it_listens_only_where_functions_can_reach_it() {
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
    fn retry_delays_are_one_or_two_durations() {
        let delays = |text| retry_delays(text).map(|delays| (delays.first, delays.second));
        let seconds = Duration::from_secs;
        assert_eq!(delays("1m,2m"), Ok((seconds(60), seconds(120))));
        assert_eq!(delays("1s"), Ok((seconds(1), seconds(1))));
        assert!(delays("1s,2s,3s").is_err());
        assert!(delays("1").is_err());
    }

    #[test]
    fn a_value_may_contain_equals_signs() {
        assert_eq!(name_and_value("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(name_and_value("A="), Ok(("A".into(), String::new())));
        assert!(name_and_value("A").is_err());
        assert!(name_and_value("=b").is_err());
    }

    #[test]
    fn a_token_goes_only_to_an_encrypted_url_or_to_this_machine() {
        for good in [
            "wss://abc.execute-api.eu-west-1.amazonaws.com/dev",
            "ws://127.0.0.1:3001/dev",
            "ws://[::1]:3001/dev",
            "ws://localhost/dev",
        ] {
            assert_eq!(websocket_url(good).unwrap().as_str(), good);
        }
        for (wrong, problem) in [
            ("ws://example.com/dev", "unencrypted"),
            ("ws://127.0.0.1.example.com/dev", "unencrypted"),
            ("https://example.com/dev", "must begin with wss://"),
            ("example.com/dev", "must be a URL"),
            ("", "must be a URL"),
            ("wss://example.com/dev?token=x", "no query"),
            ("wss://user:secret@example.com/dev", "user name"),
        ] {
            let error = websocket_url(wrong).unwrap_err();
            assert!(error.contains(problem), "{wrong}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn channels_are_checked_before_anything_connects() {
        let parse = |arguments: &[&str]| {
            let parsed = Cli::try_parse_from(["belfry"].iter().chain(arguments));
            parsed.map_err(|error| error.to_string())
        };
        let many: Vec<_> = (0..51).map(|n| format!("room:{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(parse(&[&["subscribe"], &many[..50]].concat()).is_ok());
        for (arguments, problem) in [
            (&[&["subscribe"], &many[..]].concat()[..], "room:50"),
            (&["subscribe"], "<CHANNEL>..."),
            (&["subscribe", "a b"], "channel must be"),
            (&["subscribe", "@nobody"], "channel must be"),
            (&["subscribe", "a", "--since", "41"], "EPOCH:SEQ"),
            (&["subscribe", "a", "--since", "x:-1"], "EPOCH:SEQ"),
            (&["subscribe", "a", "--since", ":1"], "epoch must be"),
            (&["subscribe", "a", "--count", "0"], "--count"),
            (&["subscribe", "a", "--claim", "a=b"], "--user"),
            (&["publish", "@me", "f", "--kind", "k"], "channel must be"),
            (&["publish", "a", "f", "--kind", ""], "kind must be"),
            (&["publish", "a", "f"], "--kind"),
            (
                &["publish", "a", "f", "--kind", "k", "--message-id", "ü"],
                "messageId must be",
            ),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(problem), "{arguments:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_value_of_a_flag_is_accepted_or_refused(
            flag in prop::sample::select(vec![
                "--parameter", "--channels", "--port", "--host", "--allowed-host", "--idle-timeout", "--connect-rate",
                "--concurrency", "--environments", "--retry-delay", "--schedule-every", "--fault",
            ]),
            value in "(?s).{0,40}|-?[0-9]{1,25}[a-z,.:=]{0,4}[0-9]{0,9}[a-z]{0,2}",
        ) {
            let refused = Cli::try_parse_from(["belfry", "run", &format!("{flag}={value}")]).err();
            if let Some(error) = refused {
                prop_assert!(error.to_string().contains(flag), "{error}");
            }
        }
    }
}
