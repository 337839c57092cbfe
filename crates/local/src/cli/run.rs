//! The flags of `belfry run`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::name_and_value;
use crate::duration;
use crate::fault::FaultSpec;
use crate::guard::Host;
use crate::lambda::RetryDelays;

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

/// Two durations, or one that counts for both.
fn retry_delays(text: &str) -> Result<RetryDelays, String> {
    let (first, second) = text.split_once(',').unwrap_or((text, text));
    Ok(RetryDelays {
        first: duration::parse(first)?,
        second: duration::parse(second)?,
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};
    use proptest::prelude::*;

    use super::*;
    use crate::cli::{Cli, Command};

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
