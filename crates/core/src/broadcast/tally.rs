//! What became of posts.

use std::time::Duration;

use belfry_protocol::{ConnectionId, Failures};

use super::sample::Sample;
use crate::connection::Recipient;

/// How many failed connections a report names: enough to start looking, few
/// enough for a log line.
pub(super) const SAMPLE: usize = 5;

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    Accepted,
    /// The connection is not there, as far as is known.
    Gone,
    /// The connection seemed gone, and could not be asked again; why.
    GoneRowKept(String),
    Throttled,
    TooLarge,
    /// It may have arrived; why that is not known.
    Failed(String),
    NotAttempted,
}

/// The counts, each recipient in one of them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) success: u64,
    pub(super) failures: Failures,
    /// Some of those that were not reached, each with the cause.
    pub(super) sample: Vec<(ConnectionId, String)>,
    /// Rows to be removed: nobody is behind them.
    pub(super) gone: Vec<Recipient>,
    /// Rows that should go and are still there.
    pub(super) rows_kept: u64,
    /// How long posts took.
    pub(super) times: Sample,
}

impl Tally {
    pub(super) fn time(&mut self, took: Duration) {
        self.times.add(took);
    }

    /// A 410 that is believed.
    pub(super) fn gone(&mut self, recipient: Recipient) {
        self.count(&recipient.id, Delivery::Gone);
        self.gone.push(recipient);
    }

    pub(super) fn count(&mut self, id: &ConnectionId, delivery: Delivery) {
        let (counter, cause) = match delivery {
            Delivery::Accepted => {
                self.success += 1;
                return;
            }
            Delivery::Gone => (&mut self.failures.gone, "gone".into()),
            Delivery::GoneRowKept(why) => {
                self.rows_kept += 1;
                (
                    &mut self.failures.gone,
                    format!("gone, its row is kept: {why}"),
                )
            }
            Delivery::Throttled => (&mut self.failures.throttled, "throttled".into()),
            Delivery::TooLarge => (&mut self.failures.too_large, "too large".into()),
            Delivery::Failed(why) => (&mut self.failures.failed, format!("failed: {why}")),
            Delivery::NotAttempted => (&mut self.failures.not_attempted, "not attempted".into()),
        };
        *counter += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push((id.clone(), cause));
        }
    }
}
