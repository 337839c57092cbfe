//! The flags of `belfry subscribe`, `publish` and `call`.

use std::path::PathBuf;

use clap::Args;

use super::ConnectArgs;
use crate::channels;
use crate::client::Since;

/// The most channels of one connection.
const MAX_CHANNELS: usize = 50;

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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

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
}
