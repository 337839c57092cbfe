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
    /// Messages were appended to a log, together if there are several.
    MessagesAppended {
        messages: u64,
        /// Attempts that another publisher was faster than.
        conflicts: u64,
    },
    /// Nothing was appended: other publishers were always faster.
    AppendRefused {
        conflicts: u64,
    },
    /// A connection was subscribed to channels, or refused.
    Subscribed {
        made: u64,
        refused: u64,
        recoveries: Recoveries,
    },
    /// A client read what it has missed.
    HistoryRead(Recoveries),
    /// A user has come to a channel.
    PresenceJoined,
    /// A user has left a channel.
    PresenceLeft,
    /// The others could not be told of a change of presence or of a lock.
    AnnouncementFailed,
    /// A connection has taken a lock.
    LockTaken {
        /// Whether the last holder had let its seconds end.
        is_takeover: bool,
    },
    /// The application could not be asked what a user may do, or gave an odd
    /// answer.
    AuthorizationFailed,
    /// A client called the application's function.
    Called {
        /// Whether the client got the answer.
        served: bool,
        took: Duration,
    },
    /// An HTTP reader was served: `stream`, `poll` or `publish`.
    ReaderServed(&'static str),
    /// An HTTP reader was refused, or its stream ended before its time.
    ReaderRefused(ErrorCode),
    /// The application was told of events, or could not be.
    HookEventsDelivered {
        delivered: u64,
        failed: u64,
        given_up: u64,
    },
    /// A run found events waiting.
    HookEventsWaiting {
        /// How long the oldest event has waited.
        oldest: Duration,
    },
    /// An event was written, but its delivery could not be started at once.
    HookNotStarted,
    /// Posting pauses because the API fails as a whole: at first, or after a
    /// failed probe.
    PostingPaused,
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
        departures: Waiting,
        /// Users who may have left a channel.
        leaves: Waiting,
    },
}

/// Clients that asked for what they have missed, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recoveries {
    pub complete: u64,
    pub epoch: u64,
    pub expired: u64,
    pub too_far: u64,
}

/// What a sweep found due, of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    pub number: u64,
    /// How long the oldest has been due.
    pub oldest: Duration,
}
