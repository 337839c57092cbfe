//! `belfry subscribe`.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::access::Access;
use super::catch_up::Since;
use super::follower::{Channel, Follower};
use super::socket::{ClientSocket, Lost};
use super::terminal::Terminal;
use super::{ClientError, advice};
use crate::cli::{SubscribeArgs, usage};
use crate::run::StopSignals;

/// Why a subscription ends.
#[derive(Debug)]
pub(super) enum End {
    /// As the person wanted.
    Wanted(&'static str),
    /// The next program of the pipe has ended.
    OutputClosed,
    Output(io::Error),
    Refused(String),
    Lost(String),
}

impl From<Lost> for End {
    fn from(Lost(reason): Lost) -> Self {
        Self::Lost(reason)
    }
}

/// Prints the messages of channels until something ends it.
pub(crate) fn subscribe(arguments: &SubscribeArgs) -> Result<(), ClientError> {
    let is_position = matches!(arguments.since, Some(Since::Position(_)));
    if is_position && arguments.channels.len() > 1 {
        let problem = "--since is a position in one channel; name no other";
        usage(clap::error::ErrorKind::ArgumentConflict, problem).exit();
    }
    let access = Access::of(&arguments.connect)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(follow(arguments, &access))
}

async fn follow(arguments: &SubscribeArgs, access: &Access) -> Result<(), ClientError> {
    let mut signals = StopSignals::new()?;
    let deadline = arguments.seconds.map(Duration::from_secs);
    let deadline = deadline.map(|after| Instant::now() + after);
    let socket = tokio::select! {
        socket = ClientSocket::open(access) => socket?,
        () = signals.next() => return Ok(()),
    };
    let mut follower = Follower::new(arguments, socket, Terminal::of_process());
    let end = tokio::select! {
        end = follower.run() => end,
        () = signals.next() => End::Wanted("stopped"),
        () = reached(deadline) => End::Wanted("the time of --seconds is over"),
    };
    finish(arguments, follower, end).await
}

/// Never returns without a deadline.
async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn finish(
    arguments: &SubscribeArgs,
    follower: Follower<'_>,
    end: End,
) -> Result<(), ClientError> {
    let Follower {
        socket,
        mut terminal,
        channels,
        printed,
        ..
    } = follower;
    let messages = match printed {
        1 => "1 message".to_owned(),
        many => format!("{many} messages"),
    };
    let continuing = continuing(arguments, &channels);
    match end {
        End::Wanted(reason) => {
            socket.close().await;
            terminal.say(&format!("{reason}; {messages}{continuing}"));
            Ok(())
        }
        End::OutputClosed => {
            socket.close().await;
            Ok(())
        }
        End::Output(error) => Err(error.into()),
        End::Refused(reason) => {
            socket.close().await;
            Err(ClientError::Ended(reason))
        }
        End::Lost(reason) => Err(ClientError::Ended(format!(
            "{reason}; {messages}{continuing}"
        ))),
    }
}

/// The commands that go on where this one ends: a position belongs to one
/// channel.
fn continuing(arguments: &SubscribeArgs, channels: &[Channel]) -> String {
    let mut text = String::from("\nContinue with");
    for Channel { name, resume, .. } in channels {
        let command = advice::continuing(name, resume.as_ref(), &arguments.connect);
        let _ = write!(text, "\n  {command}");
    }
    text
}
