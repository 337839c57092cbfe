//! The metrics that functions write, for `belfry ops watch` and `stats`: what CloudWatch
//! would make of them, as far as it is shown.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::clock;

/// Percentiles are those of this long before now, as one value of CloudWatch.
const WINDOW: Duration = Duration::from_mins(1);

/// How far `recent` looks back.
const RECENT: Duration = Duration::from_mins(5);

/// The most broadcasts of a window that are kept: the newest.
const MAX_DURATIONS: usize = 10_000;

#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics(Arc<Mutex<Collected>>);

#[derive(Debug, Default)]
struct Collected {
    frames_served: f64,
    posts_accepted: f64,
    /// The same of each second, the newest last.
    recent: VecDeque<Second>,
    /// When each broadcast ended, and how long it took, in milliseconds.
    broadcasts: VecDeque<(u64, f64)>,
}

/// What was counted within a second.
#[derive(Debug)]
struct Second {
    at: u64,
    frames_served: f64,
    posts_accepted: f64,
}

/// Serves `GET /_local/metrics`.
pub(crate) fn router(metrics: Metrics) -> Router {
    Router::new()
        .route("/_local/metrics", get(show))
        .with_state(metrics)
}

async fn show(State(metrics): State<Metrics>) -> Json<Value> {
    Json(metrics.collected().to_json(clock::now_ms()))
}

impl Metrics {
    /// Adds a line in CloudWatch's embedded metric format.
    pub(crate) fn add(&self, line: &Value) {
        self.collected().add(line, clock::now_ms());
    }

    fn collected(&self) -> MutexGuard<'_, Collected> {
        let collected = self.0.lock();
        collected.expect("no code panics while holding the lock")
    }
}

impl Collected {
    fn add(&mut self, line: &Value, now_ms: u64) {
        let sum = |name: &str| values(&line[name]).sum::<f64>();
        let (frames, posts) = (sum("FramesServed"), sum("PostsAccepted"));
        self.frames_served += frames;
        self.posts_accepted += posts;
        self.add_recent(now_ms / 1_000, frames, posts);
        let durations = values(&line["BroadcastDuration"]);
        self.broadcasts.extend(durations.map(|took| (now_ms, took)));
        let excess = self.broadcasts.len().saturating_sub(MAX_DURATIONS);
        self.broadcasts.drain(..excess);
    }

    fn add_recent(&mut self, at: u64, frames: f64, posts: f64) {
        let first = at.saturating_sub(RECENT.as_secs());
        self.recent.retain(|second| second.at > first);
        match self.recent.back_mut() {
            Some(second) if second.at == at => {
                second.frames_served += frames;
                second.posts_accepted += posts;
            }
            _ => self.recent.push_back(Second {
                at,
                frames_served: frames,
                posts_accepted: posts,
            }),
        }
    }

    fn to_json(&self, now_ms: u64) -> Value {
        let window = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
        let recent = self
            .broadcasts
            .iter()
            .filter(|(at, _)| now_ms - at.min(&now_ms) < window);
        let mut durations: Vec<f64> = recent.map(|(_, took)| *took).collect();
        durations.sort_by(f64::total_cmp);
        let percentile = |percent: usize| {
            let rank = (durations.len() * percent).div_ceil(100);
            durations.get(rank.saturating_sub(1))
        };
        let first = (now_ms / 1_000).saturating_sub(RECENT.as_secs());
        let recent = |count: fn(&Second) -> f64| {
            let seconds = self.recent.iter().filter(|second| second.at > first);
            seconds.map(count).sum::<f64>()
        };
        json!({
            "totals": {"framesServed": self.frames_served, "postsAccepted": self.posts_accepted},
            "recent": {
                "framesServed": recent(|second| second.frames_served),
                "postsAccepted": recent(|second| second.posts_accepted),
            },
            "broadcasts": percentile(50).map(|p50| {
                json!({"count": durations.len(), "p50": p50, "p99": percentile(99)})
            }),
        })
    }
}

/// A metric is a number or a list of them.
fn values(metric: &Value) -> impl Iterator<Item = f64> {
    let several = metric.as_array().map(Vec::as_slice).unwrap_or_default();
    let one = metric.as_f64();
    one.into_iter()
        .chain(several.iter().filter_map(Value::as_f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up() {
        let mut collected = Collected::default();
        for line in [
            json!({"Type": "ping", "FramesServed": 1}),
            json!({"Type": "echo", "FramesServed": 2}),
            json!({"PostsAccepted": 7, "PostLatency": [1, 2]}),
            json!({"FramesServed": "many"}),
        ] {
            collected.add(&line, 0);
        }
        let totals = json!({"framesServed": 3.0, "postsAccepted": 7.0});
        assert_eq!(collected.to_json(0)["totals"], totals);
        assert_eq!(collected.to_json(0)["broadcasts"], Value::Null);
    }

    #[test]
    fn percentiles_are_those_of_the_last_minute() {
        let mut collected = Collected::default();
        collected.add(&json!({"BroadcastDuration": 9_000}), 0);
        for took in 1..=100 {
            collected.add(&json!({"BroadcastDuration": took}), 60_000);
        }
        let expected = json!({"count": 100, "p50": 50.0, "p99": 99.0});
        assert_eq!(collected.to_json(60_001)["broadcasts"], expected);
        assert_eq!(collected.to_json(120_000)["broadcasts"], Value::Null);
    }

    #[test]
    fn recent_counts_are_those_of_the_last_five_minutes() {
        let mut collected = Collected::default();
        for second in 0..600 {
            let line = json!({"FramesServed": 1, "PostsAccepted": 2});
            collected.add(&line, second * 1_000);
            collected.add(&line, second * 1_000 + 999);
        }
        let recent = |at| collected.to_json(at)["recent"].clone();
        let five_minutes = json!({"framesServed": 600.0, "postsAccepted": 1_200.0});
        assert_eq!(recent(599_999), five_minutes);
        assert_eq!(recent(898_000)["framesServed"], 2.0);
        assert_eq!(recent(900_000)["framesServed"], 0.0);
        assert_eq!(collected.recent.len(), 300, "memory is bounded");
    }

    #[test]
    fn memory_is_bounded() {
        let mut collected = Collected::default();
        let many = vec![1; 2 * MAX_DURATIONS];
        collected.add(&json!({"BroadcastDuration": many}), 0);
        assert_eq!(collected.broadcasts.len(), MAX_DURATIONS);
    }
}
