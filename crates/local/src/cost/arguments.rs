use clap::Args;

use crate::cli::name_and_value;

/// API Gateway ends a connection after two hours.
const LONGEST_SESSION_MINUTES: i64 = 120;

/// How a stack is used.
#[derive(Debug, Args)]
#[command(next_line_help = true, after_help = HELP)]
pub(crate) struct CostArgs {
    /// Connections at a time
    #[arg(long, value_name = "COUNT", default_value_t = 0.0, value_parser = count)]
    pub connections: f64,

    /// Hours a day that they are open
    #[arg(long, value_name = "HOURS", default_value_t = 24.0, value_parser = hours_of_a_day)]
    pub hours_per_day: f64,

    /// Minutes until a connection ends or is replaced; the most is API Gateway's limit
    #[arg(long, value_name = "MINUTES", default_value_t = 120, value_parser = clap::value_parser!(u16).range(1..=LONGEST_SESSION_MINUTES))]
    pub session_minutes: u16,

    /// Seconds between the pings of a connection: the parameter HeartbeatIntervalSeconds
    #[arg(long, value_name = "SECONDS", default_value_t = 480, value_parser = clap::value_parser!(u16).range(1..=520))]
    pub ping_interval: u16,

    /// Messages that a server sends to each user a day
    #[arg(long, value_name = "COUNT", default_value_t = 0.0, value_parser = count)]
    pub messages_per_user: f64,

    /// Broadcasts to everyone a day
    #[arg(long, value_name = "COUNT", default_value_t = 0.0, value_parser = count)]
    pub broadcasts: f64,

    /// Frames a day that each client sends, besides those below, each with its answer
    #[arg(long, value_name = "COUNT", default_value_t = 0.0, value_parser = count)]
    pub frames_per_user: f64,

    /// Channels of each connection
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=50))]
    pub subscriptions: u8,

    /// Messages that each user publishes to a channel a day
    #[arg(long, value_name = "COUNT", default_value_t = 0.0, value_parser = count, requires = "fan_out")]
    pub publishes_per_user: f64,

    /// Subscribers of a channel: they receive what is published, and who comes, goes and locks
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub fan_out: Option<f64>,

    /// How often each user joins a channel with presence a day
    #[arg(long, value_name = "COUNT", default_value_t = 0.0, value_parser = count, requires = "fan_out")]
    pub presence_joins_per_user: f64,

    /// Acknowledgements of each user a day
    #[arg(long, value_name = "COUNT", default_value_t = 0.0, value_parser = count)]
    pub acks_per_user: f64,

    /// Locks that each user takes and releases a day
    #[arg(long, value_name = "COUNT", default_value_t = 0.0, value_parser = count, requires = "fan_out")]
    pub locks_per_user: f64,

    /// Bytes of a message's data
    #[arg(long, value_name = "BYTES", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=131_072))]
    pub message_bytes: u32,

    /// Hours for which messages are kept; 0 keeps none
    #[arg(long, value_name = "HOURS", default_value_t = 0.0, value_parser = count)]
    pub history_hours: f64,

    /// The stack has a HookFunction
    #[arg(long)]
    pub hooks: bool,

    /// Server-Sent Events at a time
    #[arg(long, value_name = "COUNT", default_value_t = 0.0, value_parser = count)]
    pub sse_clients: f64,

    /// Clients at a time that poll and wait 20 seconds
    #[arg(long, value_name = "COUNT", default_value_t = 0.0, value_parser = count)]
    pub long_poll_clients: f64,

    /// Clients at a time that poll once a minute
    #[arg(long, value_name = "COUNT", default_value_t = 0.0, value_parser = count)]
    pub short_poll_clients: f64,

    /// Price instead of us-east-1's, like --price api-minute=0.30; repeatable. docs/COSTS.md has their names
    #[arg(long = "price", value_name = "NAME=DOLLARS", value_parser = name_and_value)]
    pub prices: Vec<(String, String)>,

    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// The text below the flags in `belfry cost --help`.
const HELP: &str = "\
The units of DynamoDB are those that tests count; docs/COSTS.md says what else is assumed.

Examples:
  belfry cost --connections 10000 --messages-per-user 20
  belfry cost --connections 200 --hours-per-day 8 --publishes-per-user 50 --fan-out 10 --history-hours 24
  belfry cost --connections 1000 --price lambda-gb-second=13.3334";

impl CostArgs {
    /// Connections and HTTP readers.
    pub(super) fn users(&self) -> f64 {
        self.connections + self.readers()
    }

    pub(super) fn readers(&self) -> f64 {
        self.sse_clients + self.long_poll_clients + self.short_poll_clients
    }

    pub(super) fn keeps_messages(&self) -> bool {
        self.history_hours > 0.0
    }

    /// Refuses what no stack can be.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.users() == 0.0 {
            return Err(
                "there is nobody to count: give --connections, like --connections 1000".into(),
            );
        }
        if self.readers() > 0.0 && self.messages_per_user > 0.0 && !self.keeps_messages() {
            return Err(
                "HTTP readers read what is kept: say for how long, like --history-hours 24".into(),
            );
        }
        if self
            .fan_out
            .is_some_and(|fan_out| fan_out > self.connections)
        {
            return Err(format!(
                "--fan-out: a channel cannot have more subscribers than there are --connections ({})",
                self.connections
            ));
        }
        Ok(())
    }
}

/// Beyond this, figures mean nothing.
const MAX_COUNT: f64 = 1e9;

fn count(text: &str) -> Result<f64, String> {
    number(text, MAX_COUNT)
        .ok_or_else(|| "must be a number from 0 to 1000000000, like 20 or 0.5".to_owned())
}

fn hours_of_a_day(text: &str) -> Result<f64, String> {
    let hours = number(text, 24.0).filter(|hours| *hours > 0.0);
    hours.ok_or_else(|| "must be above 0 and at most 24".to_owned())
}

/// A number from 0 to a maximum.
pub(super) fn number(text: &str, most: f64) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    (0.0..=most).contains(&number).then_some(number)
}
