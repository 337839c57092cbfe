use std::time::Duration;

use belfry_protocol::{ErrorCode, Failures, SweepReport};

use crate::connect::Refusal;

/// Figures for the operator's dashboards and alarms.
///
/// Recording never fails and takes no time worth mentioning. What an
/// invocation that dies has measured may be lost.
pub trait Metrics: Send + Sync {
    /// Writes down what has happened.
    fn record(&self, measured: Measured);
}

/// What has happened, once for each event that a function handles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measured {
    /// A client was let in.
    Accepted,
    /// A client was not let in.
    Refused(Refusal),
    /// A connection has ended.
    Ended,
    /// A frame of this type was served.
    Served(&'static str),
    /// A frame was not served, or ended its connection.
    FrameRefused(ErrorCode),
    /// One invocation's part of a broadcast is done.
    Posted {
        /// How many posts were accepted.
        success: u64,
        /// Recipients that were not reached, by cause.
        failures: Failures,
        /// How long posts took to be answered: all, or of many a sample.
        posts: Vec<Duration>,
    },
    /// A whole broadcast is done.
    Broadcast {
        /// How many recipients were found.
        recipients: u64,
        /// From the request to the last post.
        took: Duration,
    },
    /// A sweep is done.
    Swept {
        /// What it did.
        report: SweepReport,
        /// From the request to the report.
        took: Duration,
    },
}
