//! The flags of `belfry ops`.

#[cfg(test)]
mod tests;

use belfry_protocol::{ChannelName, ConnectionId, KickCode, LockName, MessageId, UserId};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

#[derive(Debug, Args)]
#[command(after_help = HELP, subcommand_required = true)]
pub struct OpsArgs {
    /// Print results as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) stack: StackArgs,

    #[command(subcommand)]
    pub(crate) action: Action,
}

/// The text below the flags in `belfry ops --help`.
const HELP: &str = "\
Without --stack, commands go to the local stack. With it, credentials and region are those of the AWS CLI.

Exit codes: 0 all was done. 1 some of it failed, is not done yet, or the stack could not be asked. 2 nothing was done: the
command line is wrong, the request was refused, or nobody confirmed it. 130 Ctrl-C: work that has begun goes on.

Examples:
  belfry ops list --user alice
  belfry ops kick --channel room:7 --dry-run
  belfry ops drain --all --within 600 --stack belfry-prod --region eu-west-1
  belfry ops watch --stack belfry-prod";

/// Which stack is asked.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Stack")]
pub(crate) struct StackArgs {
    /// CloudFormation stack [default: the local stack]
    #[arg(long, global = true, value_name = "NAME", value_parser = stack_name)]
    pub(crate) stack: Option<String>,

    /// AWS region of --stack [default: as for the AWS CLI]
    #[arg(long, global = true)]
    pub(crate) region: Option<String>,

    /// Profile with the credentials [default: as for the AWS CLI]
    #[arg(long, global = true)]
    pub(crate) profile: Option<String>,

    /// URL of the local stack
    #[arg(long, global = true, value_name = "URL", default_value = DEFAULT_ENDPOINT, value_parser = endpoint)]
    pub(crate) endpoint: String,
}

pub(crate) const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:3001";

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// List connections
    List(ListArgs),
    /// Show everything known about a connection
    Inspect(InspectArgs),
    /// Close connections; their clients are told what to do
    Kick(KickArgs),
    /// Ask clients to open another connection, spread over some time; nothing is closed
    Drain(DrainArgs),
    /// Watch a kick or a drain until it is done
    Report(WorkArgs),
    /// Continue a kick or a drain that has stopped
    Resume(WorkArgs),
    /// Count connections and the subscribers of channels
    Stats,
    /// Delete a channel's history and start a new one
    Purge(PurgeArgs),
    /// Show who is present in a channel
    Presence(ChannelArgs),
    /// List the locks of a channel that are held
    Locks(ChannelArgs),
    /// Release a lock, whoever holds it
    Unlock(UnlockArgs),
    /// Sign a user out: close every connection, and refuse every token that was issued before
    SignOut(SignOutArgs),
    /// Show connections, channels, rates, latencies and alarms until q or Ctrl-C
    Watch(WatchArgs),
}

/// Whom an action is about: exactly one kind.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Target")]
#[group(required = true, multiple = true)]
pub(crate) struct TargetArgs {
    /// Every connection of this user; repeatable
    #[arg(long = "user", value_name = "USER", value_parser = user, conflicts_with_all = ["connections", "channel", "all"])]
    pub(crate) users: Vec<UserId>,

    /// This connection; repeatable
    #[arg(long = "connection", value_name = "ID", value_parser = connection, conflicts_with_all = ["channel", "all"])]
    pub(crate) connections: Vec<ConnectionId>,

    /// Every subscriber of this channel
    #[arg(long, value_parser = channel, conflicts_with = "all")]
    pub(crate) channel: Option<ChannelName>,

    /// Every connection of the stack
    #[arg(long)]
    pub(crate) all: bool,
}

impl TargetArgs {
    /// The `target` of a request.
    pub(crate) fn to_json(&self) -> Value {
        match (&*self.users, &*self.connections, &self.channel) {
            ([], [], Some(channel)) => json!({"type": "channel", "channel": channel}),
            ([], [], None) => json!({"type": "all"}),
            ([], connections, _) => json!({"type": "connections", "connectionIds": connections}),
            ([user], _, _) => json!({"type": "user", "userId": user}),
            (users, _, _) => json!({"type": "users", "userIds": users}),
        }
    }
}

/// Before something is closed or deleted.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct CareArgs {
    /// Only show whom it would reach
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Skip the confirmation for --all
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those that a page of this origin opened, like `https://app.example.com`
    #[arg(long)]
    pub(crate) origin: Option<String>,

    /// Only those that were opened at least this long ago, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds(0..=7_200))]
    pub(crate) min_age: Option<u64>,

    /// Only those that have sent nothing for this long, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds(0..=7_200))]
    pub(crate) min_silence: Option<u64>,

    /// Stop after this many connections
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Connection
    #[arg(value_name = "ID", value_parser = connection)]
    pub(crate) connection: ConnectionId,
}

#[derive(Debug, Args)]
pub(crate) struct KickArgs {
    /// What their clients are told
    #[arg(long, value_enum, default_value_t = Code::Reconnect)]
    pub(crate) code: Code,

    #[command(flatten)]
    pub(crate) care: CareArgs,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// What clients are told before their connections are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Code {
    /// Connect again
    Reconnect,
    /// Connect again with a new token, for example after the user's groups have changed
    TokenExpired,
    /// Do not connect again
    ClosedByOperator,
}

impl From<Code> for KickCode {
    fn from(code: Code) -> Self {
        match code {
            Code::Reconnect => Self::Reconnect,
            Code::TokenExpired => Self::TokenExpired,
            Code::ClosedByOperator => Self::ClosedByOperator,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// Each client chooses a moment within this time, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = seconds(10..=7_200))]
    pub(crate) within: u64,

    /// How many of them to ask, in percent; one that is asked at 10 is also asked at 20
    #[arg(long, default_value_t = 100, value_parser = seconds(1..=100))]
    pub(crate) percent: u64,

    #[command(flatten)]
    pub(crate) care: CareArgs,

    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// The id that `kick` or `drain` printed, `messageId` in its report
    #[arg(value_name = "ID", value_parser = message_id)]
    pub(crate) id: MessageId,
}

#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    /// Channel, like room:7
    #[arg(value_parser = channel)]
    pub(crate) channel: ChannelName,

    /// Only show whose history it is: the channel's subscribers
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChannelArgs {
    /// Channel, like room:7
    #[arg(value_parser = channel)]
    pub(crate) channel: ChannelName,
}

#[derive(Debug, Args)]
pub(crate) struct UnlockArgs {
    /// Channel, like room:7
    #[arg(value_parser = channel)]
    pub(crate) channel: ChannelName,

    /// The lock's name in the channel
    #[arg(value_parser = lock)]
    pub(crate) name: LockName,

    /// Only show who holds it
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SignOutArgs {
    /// User: the claim `sub` of the tokens
    #[arg(value_parser = user)]
    pub(crate) user: UserId,

    /// Only show the connections that it would close
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Stop after this many updates
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

fn seconds(range: std::ops::RangeInclusive<u64>) -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(range)
}

fn user(text: &str) -> Result<UserId, String> {
    UserId::parse(text).map_err(|error| error.to_string())
}

fn connection(text: &str) -> Result<ConnectionId, String> {
    ConnectionId::parse(text).map_err(|error| error.to_string())
}

fn channel(text: &str) -> Result<ChannelName, String> {
    ChannelName::parse(text).map_err(|error| error.to_string())
}

fn lock(text: &str) -> Result<LockName, String> {
    LockName::parse(text).map_err(|error| error.to_string())
}

fn message_id(text: &str) -> Result<MessageId, String> {
    MessageId::parse(text).map_err(|error| error.to_string())
}

/// The name goes into expressions of CloudWatch.
fn stack_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if (1..=128).contains(&text.len()) && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err("must be the name of a stack: letters, digits and hyphens".into())
}

/// A URL to which paths are appended.
fn endpoint(url: &str) -> Result<String, String> {
    let url = url.trim_end_matches('/');
    let is_host = |host: &str| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
    match url.strip_prefix("http://").is_some_and(is_host) {
        true => Ok(url.to_owned()),
        false => Err(format!("must be a URL like {DEFAULT_ENDPOINT}")),
    }
}
