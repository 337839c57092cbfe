use std::time::Duration;

use belfry_protocol::{ErrorCode, Failures, SweepReport};

use crate::connections::Refusal;

/// Figures for dashboards and alarms.
///
/// Recording never fails and never blocks for long. Figures of an invocation
/// that dies may be lost.
pub trait Metrics: Send + Sync {
    fn record(&self, event: MetricEvent);
}

/// Something that happened and is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricEvent {
    ConnectionAccepted,
    ConnectionRefused(Refusal),
    ConnectionEnded,
    /// A frame of this type was served.
    FrameServed(&'static str),
    /// A frame was not served, or ended its connection.
    FrameRefused(ErrorCode),
    /// One invocation has done its part of a broadcast.
    Posted {
        /// Posts that were accepted.
        success: u64,
        /// Recipients that were not reached, by cause.
        failures: Failures,
        /// Latencies of the posts: all of them, or a sample of many.
        latencies: Vec<Duration>,
    },
    /// A whole broadcast is done.
    BroadcastDone {
        recipients: u64,
        /// From the request to the last post.
        took: Duration,
    },
    SweepDone {
        report: SweepReport,
        took: Duration,
    },
}
