use clap::{CommandFactory, Parser};
use serde_json::json;

use super::*;

/// Operate a running stack
#[derive(Debug, Parser)]
#[command(name = "belfry ops")]
struct Cli {
    #[command(flatten)]
    ops: OpsArgs,
}

fn parse(arguments: &[&str]) -> Result<OpsArgs, String> {
    let parsed = Cli::try_parse_from(["belfry ops"].iter().chain(arguments));
    parsed.map(|cli| cli.ops).map_err(|error| error.to_string())
}

fn target(arguments: &[&str]) -> Value {
    let arguments = parse(&[&["list"], arguments].concat()).unwrap();
    let Action::List(list) = arguments.action else {
        panic!("not `list`")
    };
    list.target.to_json()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_help_is_as_reviewed() {
    let help = |path: &[&str]| {
        let mut command = Cli::command();
        command.build();
        let found = path.iter().fold(&mut command, |command, name| {
            command.find_subcommand_mut(name).unwrap()
        });
        found.render_long_help().to_string()
    };
    insta::assert_snapshot!(help(&[]), @"
    Operate a running stack

    Usage: belfry ops [OPTIONS] <COMMAND>

    Commands:
      list      List connections
      inspect   Show everything known about a connection
      kick      Close connections; their clients are told what to do
      drain     Ask clients to open another connection, spread over some time; nothing is closed
      report    Watch a kick or a drain until it is done
      resume    Continue a kick or a drain that has stopped
      stats     Count connections and the subscribers of channels
      purge     Delete a channel's history and start a new one
      presence  Show who is present in a channel
      locks     List the locks of a channel that are held
      unlock    Release a lock, whoever holds it
      sign-out  Sign a user out: close every connection, and refuse every token that was issued before
      watch     Show connections, channels, rates, latencies and alarms until q or Ctrl-C
      help      Print this message or the help of the given subcommand(s)

    Options:
          --json
              Print results as JSON

      -h, --help
              Print help

    Stack:
          --stack <NAME>
              CloudFormation stack [default: the local stack]

          --region <REGION>
              AWS region of --stack [default: as for the AWS CLI]

          --profile <PROFILE>
              Profile with the credentials [default: as for the AWS CLI]

          --endpoint <URL>
              URL of the local stack
              
              [default: http://127.0.0.1:3001]

    Without --stack, commands go to the local stack. With it, credentials and region are those of the AWS CLI.

    Exit codes: 0 all was done. 1 some of it failed, is not done yet, or the stack could not be asked. 2 nothing was done: the
    command line is wrong, the request was refused, or nobody confirmed it. 130 Ctrl-C: work that has begun goes on.

    Examples:
      belfry ops list --user alice
      belfry ops kick --channel room:7 --dry-run
      belfry ops drain --all --within 600 --stack belfry-prod --region eu-west-1
      belfry ops watch --stack belfry-prod
    ");
    insta::assert_snapshot!(help(&["kick"]), @"
    Close connections; their clients are told what to do

    Usage: belfry ops kick [OPTIONS] <--user <USER>|--connection <ID>|--channel <CHANNEL>|--all>

    Options:
          --code <CODE>
              What their clients are told

              Possible values:
              - reconnect:          Connect again
              - token-expired:      Connect again with a new token, for example after the user's groups have changed
              - closed-by-operator: Do not connect again
              
              [default: reconnect]

          --json
              Print results as JSON

          --dry-run
              Only show whom it would reach

          --yes
              Skip the confirmation for --all

      -h, --help
              Print help (see a summary with '-h')

    Target:
          --user <USER>
              Every connection of this user; repeatable

          --connection <ID>
              This connection; repeatable

          --channel <CHANNEL>
              Every subscriber of this channel

          --all
              Every connection of the stack

    Stack:
          --stack <NAME>
              CloudFormation stack [default: the local stack]

          --region <REGION>
              AWS region of --stack [default: as for the AWS CLI]

          --profile <PROFILE>
              Profile with the credentials [default: as for the AWS CLI]

          --endpoint <URL>
              URL of the local stack
              
              [default: http://127.0.0.1:3001]
    ");
}

#[test]
fn flags_become_a_target() {
    assert_eq!(target(&["--all"]), json!({"type": "all"}));
    assert_eq!(
        target(&["--user", "alice"]),
        json!({"type": "user", "userId": "alice"})
    );
    assert_eq!(
        target(&["--user", "alice", "--user", "bob"]),
        json!({"type": "users", "userIds": ["alice", "bob"]})
    );
    assert_eq!(
        target(&["--connection", "c1="]),
        json!({"type": "connections", "connectionIds": ["c1="]})
    );
    assert_eq!(
        target(&["--channel", "room:7"]),
        json!({"type": "channel", "channel": "room:7"})
    );
}

#[test]
fn a_target_is_one_kind() {
    for (wrong, problem) in [
        (&["list"][..], "required"),
        (&["list", "--all", "--user", "alice"], "cannot be used with"),
        (&["list", "--all", "--channel", "c"], "cannot be used with"),
        (
            &["kick", "--connection", "c", "--user", "u"],
            "cannot be used with",
        ),
        (&["kick", "--user", ""], "userId must be"),
        (&["kick", "--channel", "a b"], "channel must be"),
        (&["kick", "--all", "--code", "SIGNED_OUT"], "--code"),
        (&["drain", "--all", "--within", "9"], "--within"),
        (&["drain", "--all", "--percent", "0"], "--percent"),
        (&["list", "--all", "--limit", "0"], "--limit"),
        (
            &["stats", "--endpoint", "127.0.0.1:3001"],
            "must be a URL like",
        ),
        (
            &["stats", "--endpoint", "https://belfry.example"],
            "must be a URL like",
        ),
        (&["stats", "--stack", "a\" b"], "--stack"),
        (&["unlock", "room:7"], "<NAME>"),
        (&[], "Usage"),
    ] {
        let error = parse(wrong).unwrap_err();
        assert!(error.contains(problem), "{wrong:?}: {error}");
    }
}

#[test]
fn the_stack_may_be_named_before_or_after_the_action() {
    for arguments in [
        ["--stack", "belfry", "stats", "--region", "eu-west-1"],
        ["stats", "--stack", "belfry", "--region", "eu-west-1"],
        ["--region", "eu-west-1", "stats", "--stack", "belfry"],
    ] {
        let stack = parse(&arguments).unwrap().stack;
        assert_eq!(stack.stack.as_deref(), Some("belfry"));
        assert_eq!(stack.region.as_deref(), Some("eu-west-1"));
    }
}
