use std::sync::Mutex;
use std::time::Duration;

use belfry_protocol::{ErrorCode, Failures, SweepReport};

use crate::connections::Refusal;
use crate::ports::{MetricEvent, Metrics, Recoveries, Waiting};

/// Remembers what was recorded.
#[derive(Debug, Default)]
pub struct FakeMetrics {
    events: Mutex<Vec<MetricEvent>>,
}

impl FakeMetrics {
    /// Takes what was recorded since the last call.
    ///
    /// # Panics
    /// If a thread panicked while it recorded.
    #[must_use]
    pub fn take(&self) -> Vec<MetricEvent> {
        std::mem::take(&mut *self.events.lock().expect("a whole list"))
    }
}

impl Metrics for FakeMetrics {
    fn record(&self, event: MetricEvent) {
        self.events.lock().expect("a whole list").push(event);
    }
}

/// Holds metrics to their one promise: any event can be recorded. Returns the
/// events, so that the caller can check what was written.
pub fn metrics_contract(metrics: &impl Metrics) -> Vec<MetricEvent> {
    let events = vec![
        MetricEvent::ConnectionAccepted,
        MetricEvent::ConnectionRefused(Refusal::NoToken),
        MetricEvent::ConnectionEnded,
        MetricEvent::FrameServed("ping"),
        MetricEvent::FrameRefused(ErrorCode::RateLimited),
        MetricEvent::MessagesAppended {
            messages: 1,
            conflicts: 0,
        },
        MetricEvent::AppendRefused {
            conflicts: u64::MAX,
        },
        MetricEvent::Subscribed {
            made: 1,
            refused: 2,
            recoveries: Recoveries::default(),
        },
        MetricEvent::HistoryRead(Recoveries {
            complete: 1,
            ..Recoveries::default()
        }),
        MetricEvent::PresenceJoined,
        MetricEvent::PresenceLeft,
        MetricEvent::AnnouncementFailed,
        MetricEvent::LockTaken { is_takeover: true },
        MetricEvent::AuthorizationFailed,
        MetricEvent::Called {
            served: true,
            took: Duration::MAX,
        },
        MetricEvent::HookEventsDelivered {
            delivered: 1,
            failed: 0,
            given_up: u64::MAX,
        },
        MetricEvent::HookEventsWaiting {
            oldest: Duration::MAX,
        },
        MetricEvent::HookNotStarted,
        MetricEvent::PostingPaused,
        MetricEvent::Posted {
            success: 0,
            failures: Failures::default(),
            latencies: Vec::new(),
        },
        MetricEvent::BroadcastDone {
            recipients: u64::MAX,
            took: Duration::MAX,
        },
        MetricEvent::SweepDone {
            report: SweepReport::default(),
            took: Duration::ZERO,
            departures: Waiting {
                number: 1,
                oldest: Duration::MAX,
            },
            leaves: Waiting {
                number: 2,
                oldest: Duration::ZERO,
            },
        },
    ];
    for event in &events {
        metrics.record(event.clone());
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fake_keeps_the_contract() {
        let metrics = FakeMetrics::default();
        let events = metrics_contract(&metrics);
        assert_eq!(metrics.take(), events);
        assert!(metrics.take().is_empty());
    }
}
