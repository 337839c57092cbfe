use std::time::Duration;

use belfry_protocol::{ConnectionId, Failures};

use super::latency_sample::LatencySample;
use crate::connections::Recipient;
use crate::ports::Randomness;

/// How many failed connections a report names: enough to start an
/// investigation, few enough for a log line.
pub(super) const SAMPLE: usize = 5;

/// The outcome for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PostOutcome {
    Accepted,
    /// The connection does not exist, as far as is known.
    Gone,
    /// The connection seemed gone; the text says why that is not confirmed.
    GoneUnconfirmed(String),
    Throttled,
    TooLarge,
    /// The message may have arrived; the text says why that is unknown.
    Failed(String),
    NotAttempted,
}

/// Counts every recipient once, by outcome.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) success: u64,
    pub(super) failures: Failures,
    /// Some of the recipients that were not reached, each with the cause.
    pub(super) sample: Vec<(ConnectionId, String)>,
    /// Recipients whose rows are to be removed: they are gone.
    pub(super) gone: Vec<Recipient>,
    /// Rows that should be removed and still exist.
    pub(super) rows_kept: u64,
    pub(super) latencies: LatencySample,
}

impl Tally {
    pub(super) fn measure(&mut self, latency: Duration, random: &impl Randomness) {
        self.latencies.add(latency, random);
    }

    /// Counts a connection that is certainly gone.
    pub(super) fn gone(&mut self, recipient: Recipient) {
        self.count(&recipient.id, PostOutcome::Gone);
        self.gone.push(recipient);
    }

    pub(super) fn count(&mut self, id: &ConnectionId, outcome: PostOutcome) {
        let (counter, cause) = match outcome {
            PostOutcome::Accepted => {
                self.success += 1;
                return;
            }
            PostOutcome::Gone => (&mut self.failures.gone, "gone".into()),
            PostOutcome::GoneUnconfirmed(why) => {
                self.rows_kept += 1;
                (
                    &mut self.failures.gone,
                    format!("gone, but its row is kept: {why}"),
                )
            }
            PostOutcome::Throttled => (&mut self.failures.throttled, "throttled".into()),
            PostOutcome::TooLarge => (&mut self.failures.too_large, "too large".into()),
            PostOutcome::Failed(why) => (&mut self.failures.failed, format!("failed: {why}")),
            PostOutcome::NotAttempted => (&mut self.failures.not_attempted, "not attempted".into()),
        };
        *counter += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push((id.clone(), cause));
        }
    }
}
