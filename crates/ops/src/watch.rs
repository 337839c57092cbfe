//! `watch`: how a stack is doing, again and again.

mod cloudwatch;
mod figures;
mod keys;
mod local;
mod screen;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::actions::Outcome;
use crate::arguments::WatchArgs;
use crate::error::OpsError;
use crate::output::{Output, now};
use crate::stack::{Place, Stack, read};
use cloudwatch::CloudWatch;
use figures::{Figures, Measured};
use keys::Screen;
use local::LocalMetrics;

/// The time between two looks at the local stack.
const LOCAL_INTERVAL: Duration = Duration::from_secs(2);

/// The time between two looks at a stack on AWS.
const AWS_INTERVAL: Duration = Duration::from_secs(5);

/// `stats` reads a part of a table, so it is not asked at each look on AWS.
const AWS_STATS_INTERVAL: Duration = Duration::from_mins(1);

/// What [`Recent`] sums up.
const RECENT_SECONDS: i64 = 300;

/// What happened in the last five minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Recent {
    /// Frames of clients that were served.
    pub(crate) frames_served: f64,
    /// Posts that API Gateway accepted.
    pub(crate) posts_accepted: f64,
}

/// Counted by the metrics that the functions write anyway.
pub(crate) async fn recent(stack: &Stack) -> Result<Recent, OpsError> {
    match &stack.place {
        Place::Local { endpoint } => local::recent(endpoint).await,
        Place::Aws { cloud, stack } => cloudwatch::recent(cloud, stack).await,
    }
}

/// Where rates, latencies and alarms come from.
enum Source<'a> {
    Local(LocalMetrics),
    Aws(CloudWatch<'a>),
}

impl Source<'_> {
    async fn measure(&mut self) -> Result<Measured, OpsError> {
        match self {
            Self::Local(metrics) => metrics.measure().await,
            Self::Aws(metrics) => metrics.measure().await,
        }
    }
}

pub(crate) async fn watch(
    stack: &Stack,
    output: &mut Output,
    arguments: &WatchArgs,
) -> Result<Outcome, OpsError> {
    let (mut source, every, stats_every) = match &stack.place {
        Place::Local { endpoint } => (
            Source::Local(LocalMetrics::new(endpoint)),
            LOCAL_INTERVAL,
            LOCAL_INTERVAL,
        ),
        Place::Aws { cloud, stack } => (
            Source::Aws(CloudWatch::new(cloud, stack)),
            AWS_INTERVAL,
            AWS_STATS_INTERVAL,
        ),
    };
    let mut screen = if output.json { None } else { Screen::open()? };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut figures = Figures::default();
    let mut stats_at: Option<Instant> = None;
    let mut looks = 0;
    while arguments.count != Some(looks) {
        let look = async {
            ticks.tick().await;
            if stats_at.is_none_or(|at| at.elapsed() >= stats_every) {
                stats_at = Some(Instant::now());
                let stats = stack.ask(&json!({"action": "stats"})).await;
                figures.counted(stats.and_then(|report| read(&report)));
            }
            figures.measured(source.measure().await);
        };
        tokio::select! {
            () = look => {}
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = keys::quit(screen.as_mut()) => break,
        }
        // A stack that may come back is watched on, but not one that was never there.
        if looks == 0 && figures.is_blind() {
            let problems: Vec<_> = figures.problems().collect();
            return Err(OpsError::NothingSeen(problems[0].to_owned()));
        }
        looks += 1;
        match &mut screen {
            Some(screen) => screen.draw(&screen::lines(&stack.name(), now(), &figures))?,
            None => output.result(&figures.to_json(now()), || {
                Ok(screen::line(now(), &figures))
            })?,
        }
    }
    Ok(Outcome::of(!figures.is_blind()))
}
