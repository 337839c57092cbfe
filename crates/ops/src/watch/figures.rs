//! What is known of a stack while it is watched.

use belfry_protocol::{ChannelCounts, Stats};
use serde_json::{Value, json};

use crate::error::OpsError;

/// Rates, latencies and alarms of the last look. The newest value is the last.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Measured {
    /// Frames of clients that were served, each second.
    pub(super) frames: Vec<f64>,
    /// Posts that API Gateway accepted, each second.
    pub(super) posts: Vec<f64>,
    /// Half of the broadcasts took at most so long, in milliseconds. Absent
    /// while there are none.
    pub(super) p50: Vec<Option<f64>>,
    /// 99 of 100 broadcasts took at most so long, in milliseconds.
    pub(super) p99: Vec<Option<f64>>,
    /// The names of alarms that are in ALARM. `None` without alarms.
    pub(super) alarms: Option<Vec<String>>,
}

#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Connections at each look that counted them.
    pub(super) connections: Vec<f64>,
    pub(super) max_connections: Option<u64>,
    pub(super) channels: Option<ChannelCounts>,
    pub(super) measured: Measured,
    /// Why a part is missing or old.
    stats_problem: Option<String>,
    metrics_problem: Option<String>,
}

/// The most values that a row shows.
pub(super) const MAX_VALUES: usize = 60;

impl Figures {
    pub(super) fn counted(&mut self, stats: Result<Stats, OpsError>) {
        match stats {
            Ok(stats) => {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "a stack has fewer than 2^52 connections"
                )]
                push(&mut self.connections, stats.connections as f64);
                self.max_connections = stats.max_connections;
                self.channels = Some(stats.channels);
                self.stats_problem = None;
            }
            Err(error) => self.stats_problem = Some(error.to_string()),
        }
    }

    pub(super) fn measured(&mut self, measured: Result<Measured, OpsError>) {
        match measured {
            Ok(measured) => {
                self.measured = measured;
                self.metrics_problem = None;
            }
            Err(error) => self.metrics_problem = Some(error.to_string()),
        }
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = &str> {
        let problems = [&self.stats_problem, &self.metrics_problem];
        problems.into_iter().filter_map(Option::as_deref)
    }

    /// Whether the last look saw nothing at all.
    pub(super) fn is_blind(&self) -> bool {
        self.problems().count() == 2
    }

    pub(super) fn to_json(&self, now: jiff::Timestamp) -> Value {
        let measured = &self.measured;
        json!({
            "at": now.to_string(),
            "connections": self.connections.last(),
            "maxConnections": self.max_connections,
            "channels": self.channels,
            "framesPerSecond": measured.frames.last(),
            "postsPerSecond": measured.posts.last(),
            "deliveryP50Ms": measured.p50.last(),
            "deliveryP99Ms": measured.p99.last(),
            "alarms": measured.alarms,
            "problems": self.problems().collect::<Vec<_>>(),
        })
    }
}

/// Adds a value, and forgets the oldest beyond what a row shows.
pub(super) fn push<T>(values: &mut Vec<T>, value: T) {
    values.push(value);
    let excess = values.len().saturating_sub(MAX_VALUES);
    values.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_look_keeps_what_is_known() {
        let mut figures = Figures::default();
        figures.counted(Ok(Stats {
            connections: 3,
            max_connections: Some(10),
            channels: ChannelCounts::default(),
        }));
        figures.counted(Err(OpsError::NoRegion));
        assert_eq!(figures.connections, [3.0]);
        assert_eq!(figures.problems().count(), 1);
        figures.measured(Err(OpsError::NoRegion));
        assert_eq!(figures.problems().count(), 2);
        figures.measured(Ok(Measured::default()));
        assert_eq!(figures.problems().count(), 1);
    }

    #[test]
    fn a_row_forgets_its_oldest_values() {
        let mut values = Vec::new();
        for value in 0..100 {
            push(&mut values, value);
        }
        assert_eq!((values.len(), values[0]), (MAX_VALUES, 40));
    }
}
