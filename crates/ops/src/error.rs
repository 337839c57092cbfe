//! Why an action ended early, and what to do next.

use std::io;

use crate::commands;

/// Exit code if something failed.
const FAILED: u8 = 1;

/// Exit code if nothing was done: the same as clap's for a wrong command line.
const NOTHING_DONE: u8 = 2;

/// Exit code of a program that Ctrl-C ends, as shells report it.
const INTERRUPTED: u8 = 130;

#[derive(Debug, thiserror::Error)]
pub(crate) enum OpsError {
    #[error(
        "no local stack responds at {endpoint}: {cause}\nStart one with `{}`, choose another with --endpoint, or name a stack on AWS with --stack.",
        commands::start()
    )]
    NoLocalStack { endpoint: String, cause: String },
    #[error(
        "there are no valid AWS credentials: {0}\nSign in as for the AWS CLI, choose a profile with --profile, or run\n  eval \"$(aws configure export-credentials --format env)\""
    )]
    NoCredentials(String),
    #[error("the AWS region is not known\nGive it with --region, or set AWS_REGION.")]
    NoRegion,
    #[error(
        "there is no stack {stack} with a function Operator in {region}: {reason}\nCheck --stack, --region and --profile; `aws cloudformation list-stacks --region {region}` lists stacks."
    )]
    NoStack {
        stack: String,
        region: String,
        reason: String,
    },
    #[error(
        "AWS denies {operation}: {reason}\nYour role needs that permission; the policy of the stack's output OperatorInvokePolicyArn allows the invocation."
    )]
    Denied {
        operation: &'static str,
        reason: String,
    },
    #[error("{operation} failed: {reason}")]
    Aws {
        operation: &'static str,
        reason: String,
    },
    /// The function refused the request: nothing was done.
    #[error("{message}{}", refusal_advice(.error_type, .message))]
    Refused { error_type: String, message: String },
    /// The function failed: a part may be done.
    #[error("{error_type}: {message}\n{}", failure_advice(.error_type))]
    Failed { error_type: String, message: String },
    #[error(
        "the function's report cannot be read: {0}\nThe stack and this program may have different versions."
    )]
    UnknownReport(String),
    /// A first look at a stack that answers nothing.
    #[error("{0}")]
    NothingSeen(String),
    #[error("{0}")]
    NotConfirmed(&'static str),
    #[error("{0}")]
    WrongFlags(&'static str),
    /// The work may have begun, or has.
    #[error("{cause}\nThe work may have begun. To watch it:\n  {report}")]
    Begun {
        cause: Box<OpsError>,
        report: String,
    },
    #[error("{0}")]
    Interrupted(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl OpsError {
    /// The exit codes of `belfry ops --help`.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::NotConfirmed(_) | Self::WrongFlags(_) => NOTHING_DONE,
            Self::Interrupted(_) => INTERRUPTED,
            _ => FAILED,
        }
    }

    /// A function's error, from the fields of its payload.
    pub(crate) fn of_function(error_type: &str, message: &str) -> Self {
        let (error_type, message) = (error_type.to_owned(), message.to_owned());
        match &*error_type {
            "InvalidRequest" | "PayloadTooLarge" | "RateLimited" => Self::Refused {
                error_type,
                message,
            },
            _ => Self::Failed {
                error_type,
                message,
            },
        }
    }
}

fn refusal_advice(error_type: &str, message: &str) -> &'static str {
    if error_type == "RateLimited" {
        "\nWait, then run the command again."
    } else if message.starts_with("action must be one of") {
        "\nThe stack is older than this program; upgrade it (docs/OPERATIONS.md, \"Upgrade and rollback\")."
    } else {
        ""
    }
}

fn failure_advice(error_type: &str) -> &'static str {
    match error_type {
        "Unavailable" | "Timeout" | "ChannelBusy" | "Sandbox.Timedout" => "Try again in a moment.",
        _ => "The log of the function Operator says more.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(error_type: &str, message: &str) -> String {
        let error = OpsError::of_function(error_type, message);
        format!("{} {error}", error.exit_code())
    }

    #[test]
    fn an_error_of_the_function_says_what_to_do() {
        insta::assert_snapshot!(shown("InvalidRequest", "channel must be a string"), @"2 channel must be a string");
        insta::assert_snapshot!(shown("InvalidRequest", "action must be one of signOut"), @r#"
        2 action must be one of signOut
        The stack is older than this program; upgrade it (docs/OPERATIONS.md, "Upgrade and rollback").
        "#);
        insta::assert_snapshot!(shown("RateLimited", "too many"), @"
        2 too many
        Wait, then run the command again.
        ");
        insta::assert_snapshot!(shown("Unavailable", "the store is throttled"), @"
        1 Unavailable: the store is throttled
        Try again in a moment.
        ");
        insta::assert_snapshot!(shown("Runtime.ExitError", "exit status: 7"), @"
        1 Runtime.ExitError: exit status: 7
        The log of the function Operator says more.
        ");
    }
}
