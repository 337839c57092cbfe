//! Metrics as log lines in CloudWatch's embedded metric format (AWS:
//! "Specification: Embedded metric format").

use std::io::{self, Write};
use std::time::Duration;

use belfry_core::connections::Refusal;
use belfry_core::ports::{Clock, MetricEvent, Metrics, Recoveries, VerifyError, Waiting};
use belfry_protocol::{Failures, SweepReport};
use serde_json::{Map, Value, json};

/// The namespace of Belfry's metrics.
const NAMESPACE: &str = "Belfry";

/// Writes one line for each event to standard output, which Lambda sends to
/// CloudWatch. docs/OPERATIONS.md lists the metrics.
#[derive(Debug, Clone)]
pub struct EmfMetrics<C> {
    stack: String,
    clock: C,
}

impl<C: Clock> EmfMetrics<C> {
    /// The metrics of one stack.
    #[must_use]
    pub fn new(stack: String, clock: C) -> Self {
        Self { stack, clock }
    }

    fn line(&self, event: &MetricEvent) -> Value {
        let (detail, metrics) = match event {
            MetricEvent::ConnectionAccepted => (None, one("ConnectionsAccepted")),
            MetricEvent::ConnectionEnded => (None, one("ConnectionsEnded")),
            MetricEvent::ConnectionRefused(refusal) => {
                (Some(("Reason", reason(refusal))), one("ConnectionsRefused"))
            }
            MetricEvent::FrameServed(name) => (Some(("Type", *name)), one("FramesServed")),
            MetricEvent::FrameRefused(code) => {
                (Some(("Code", code.as_str())), one("FramesRefused"))
            }
            MetricEvent::ReaderServed(name) => (Some(("Type", *name)), one("ReadersServed")),
            MetricEvent::ReaderRefused(code) => {
                (Some(("Code", code.as_str())), one("ReadersRefused"))
            }
            MetricEvent::MessagesAppended {
                messages,
                conflicts,
            } => (None, append("MessagesAppended", *messages, *conflicts)),
            MetricEvent::AppendRefused { conflicts } => {
                (None, append("AppendsRefused", 1, *conflicts))
            }
            MetricEvent::Subscribed {
                made,
                refused,
                recoveries,
            } => (None, subscribed(*made, *refused, recoveries)),
            MetricEvent::HistoryRead(read) => (None, recoveries(read).collect()),
            MetricEvent::PresenceJoined => (None, one("PresenceJoined")),
            MetricEvent::PresenceLeft => (None, one("PresenceLeft")),
            MetricEvent::AnnouncementFailed => (None, one("AnnouncementsFailed")),
            MetricEvent::LockTaken { is_takeover } => (None, lock_taken(*is_takeover)),
            MetricEvent::AuthorizationFailed => (None, one("AuthorizationsFailed")),
            MetricEvent::Called { served, took } => (None, called(*served, *took)),
            MetricEvent::HookEventsDelivered {
                delivered,
                failed,
                given_up,
            } => (None, hook_events(*delivered, *failed, *given_up)),
            MetricEvent::HookEventsWaiting { oldest } => (None, hook_events_waiting(*oldest)),
            MetricEvent::HookNotStarted => (None, one("HooksNotStarted")),
            MetricEvent::PostingPaused => (None, one("PostingPauses")),
            MetricEvent::Posted {
                success,
                failures,
                latencies,
            } => (None, posted(*success, failures, latencies)),
            MetricEvent::BroadcastDone { recipients, took } => {
                (None, broadcast(*recipients, *took))
            }
            MetricEvent::SweepDone {
                report,
                took,
                departures,
                leaves,
            } => (None, sweep(report, *took, departures, leaves)),
        };
        let mut line = Map::new();
        line.insert("Stack".into(), self.stack.as_str().into());
        let mut dimensions = vec!["Stack"];
        if let Some((name, value)) = detail {
            dimensions.push(name);
            line.insert(name.into(), value.into());
        }
        let definitions: Vec<_> = metrics
            .iter()
            .map(|metric| json!({"Name": metric.name, "Unit": metric.unit}))
            .collect();
        let directive = json!({
            "Timestamp": self.clock.now().0,
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [dimensions],
                "Metrics": definitions,
            }],
        });
        line.insert("_aws".into(), directive);
        line.extend(metrics.into_iter().map(|m| (m.name.into(), m.value)));
        line.into()
    }
}

impl<C: Clock> Metrics for EmfMetrics<C> {
    fn record(&self, event: MetricEvent) {
        // There is nowhere to report that standard output cannot be written.
        let _ = writeln!(io::stdout(), "{}", self.line(&event));
    }
}

struct Metric {
    name: &'static str,
    unit: &'static str,
    value: Value,
}

fn count(name: &'static str, value: u64) -> Metric {
    Metric {
        name,
        unit: "Count",
        value: value.into(),
    }
}

fn duration(name: &'static str, value: impl Into<Value>) -> Metric {
    Metric {
        name,
        unit: "Milliseconds",
        value: value.into(),
    }
}

fn one(name: &'static str) -> Vec<Metric> {
    vec![count(name, 1)]
}

/// The counts that are not zero. CloudWatch treats a missing count as zero, and
/// a metric that is not written costs nothing.
fn counted<const N: usize>(counts: [(&'static str, u64); N]) -> impl Iterator<Item = Metric> {
    let happened = counts.into_iter().filter(|(_, value)| *value > 0);
    happened.map(|(name, value)| count(name, value))
}

fn append(outcome: &'static str, count: u64, conflicts: u64) -> Vec<Metric> {
    counted([(outcome, count), ("AppendConflicts", conflicts)]).collect()
}

fn subscribed(made: u64, refused: u64, recovered: &Recoveries) -> Vec<Metric> {
    let counts = [
        ("SubscriptionsMade", made),
        ("SubscriptionsRefused", refused),
    ];
    counted(counts).chain(recoveries(recovered)).collect()
}

fn recoveries(recoveries: &Recoveries) -> impl Iterator<Item = Metric> + use<> {
    counted([
        ("RecoveriesComplete", recoveries.complete),
        ("RecoveriesEpoch", recoveries.epoch),
        ("RecoveriesExpired", recoveries.expired),
        ("RecoveriesTooFar", recoveries.too_far),
    ])
}

fn lock_taken(is_takeover: bool) -> Vec<Metric> {
    let mut metrics = one("LocksTaken");
    metrics.extend(counted([("LocksTakenOver", u64::from(is_takeover))]));
    metrics
}

fn called(served: bool, took: Duration) -> Vec<Metric> {
    let outcome = if served { "CallsServed" } else { "CallsFailed" };
    vec![
        count(outcome, 1),
        duration("CallDuration", milliseconds(took)),
    ]
}

fn hook_events(delivered: u64, failed: u64, given_up: u64) -> Vec<Metric> {
    let counts = [
        ("HookEventsDelivered", delivered),
        ("HookEventsFailed", failed),
        ("HookEventsGivenUp", given_up),
    ];
    counted(counts).collect()
}

fn hook_events_waiting(oldest: Duration) -> Vec<Metric> {
    vec![duration("OldestHookEventAge", milliseconds(oldest))]
}

fn broadcast(recipients: u64, took: Duration) -> Vec<Metric> {
    vec![
        count("BroadcastRecipients", recipients),
        duration("BroadcastDuration", milliseconds(took)),
    ]
}

fn posted(success: u64, failures: &Failures, latencies: &[Duration]) -> Vec<Metric> {
    let mut metrics = Vec::new();
    // A metric with an empty list of values is malformed.
    if !latencies.is_empty() {
        let times: Vec<_> = latencies.iter().copied().map(milliseconds).collect();
        metrics.push(duration("PostLatency", times));
    }
    metrics.extend(counted([
        ("PostsAccepted", success),
        ("PostsGone", failures.gone),
        ("PostsThrottled", failures.throttled),
        ("PostsTooLarge", failures.too_large),
        ("PostsFailed", failures.failed),
        ("PostsNotAttempted", failures.not_attempted),
    ]));
    metrics
}

fn sweep(
    report: &SweepReport,
    took: Duration,
    departures: &Waiting,
    leaves: &Waiting,
) -> Vec<Metric> {
    let mut metrics = vec![
        count("ConnectionsOpen", report.connections),
        duration("SweepDuration", milliseconds(took)),
    ];
    metrics.extend(counted([
        ("SweepKept", report.kept),
        ("SweepPinged", report.pinged),
        ("SweepReconnectSent", report.reconnect_sent),
        ("SweepExpired", report.expired),
        ("SweepSilent", report.silent),
        ("SweepReplaced", report.replaced),
        ("SweepOutlived", report.outlived),
        ("SweepGone", report.gone),
        ("SweepFailed", report.failed),
        ("SweepIncomplete", u64::from(!report.complete)),
    ]));
    metrics.extend(waiting(
        "DeparturesWaiting",
        "OldestDepartureAge",
        departures,
    ));
    metrics.extend(waiting("LeavesWaiting", "OldestLeaveAge", leaves));
    metrics
}

fn waiting(
    number: &'static str,
    oldest: &'static str,
    waiting: &Waiting,
) -> impl Iterator<Item = Metric> + use<> {
    let age = (waiting.number > 0).then(|| duration(oldest, milliseconds(waiting.oldest)));
    counted([(number, waiting.number)]).chain(age)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Few values, each with a different remedy: every value of a dimension is a
/// metric that is paid for.
fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Origin => "origin",
        Refusal::Subprotocol | Refusal::SeveralTokens | Refusal::NoToken => "token",
        Refusal::Token(VerifyError::Rejected(_)) => "token",
        Refusal::Token(VerifyError::KeysUnavailable(_)) => "keysUnavailable",
        Refusal::Store(_) => "storeUnavailable",
        Refusal::AtCapacity => "atCapacity",
        Refusal::UserAtCapacity => "userAtCapacity",
        Refusal::SignedOut => "signedOut",
        Refusal::IdTaken | Refusal::Ended => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemClock;
    use belfry_core::ports::StoreError;
    use belfry_core::testing::metrics_contract;
    use belfry_protocol::ErrorCode;

    fn line(event: &MetricEvent) -> Value {
        EmfMetrics::new("belfry-dev".into(), SystemClock).line(event)
    }

    /// The metrics of a line, after a check that it is what CloudWatch takes:
    /// each dimension and each metric that is named stands beside `_aws`.
    fn metrics(line: &Value) -> Vec<(String, String, Value)> {
        assert!(line["_aws"]["Timestamp"].as_u64().unwrap() > 1_700_000_000_000);
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "Belfry");
        let dimensions = directive["Dimensions"][0].as_array().unwrap();
        for dimension in dimensions {
            assert!(line[dimension.as_str().unwrap()].is_string(), "{line}");
        }
        assert_eq!(line["Stack"], "belfry-dev");
        let metrics: Vec<_> = directive["Metrics"].as_array().unwrap().clone();
        assert_eq!(
            line.as_object().unwrap().len(),
            1 + dimensions.len() + metrics.len(),
            "{line}"
        );
        let metric = |metric: &Value| {
            let name = metric["Name"].as_str().unwrap();
            let unit = metric["Unit"].as_str().unwrap();
            (name.to_owned(), unit.to_owned(), line[name].clone())
        };
        metrics.iter().map(metric).collect()
    }

    fn named(list: &[(&str, &str, Value)]) -> Vec<(String, String, Value)> {
        let owned = |(n, u, v): &(&str, &str, Value)| ((*n).into(), (*u).into(), v.clone());
        list.iter().map(owned).collect()
    }

    #[test]
    fn single_events_count_one_with_what_they_are() {
        let down = StoreError {
            operation: "PutItem",
            cause: "down".into(),
        };
        let rejected = Refusal::Token(VerifyError::Rejected("expired"));
        for (event, name, dimension) in [
            (MetricEvent::ConnectionAccepted, "ConnectionsAccepted", None),
            (MetricEvent::ConnectionEnded, "ConnectionsEnded", None),
            (MetricEvent::PostingPaused, "PostingPauses", None),
            (
                MetricEvent::ConnectionRefused(rejected),
                "ConnectionsRefused",
                Some(("Reason", "token")),
            ),
            (
                MetricEvent::ConnectionRefused(Refusal::Store(down)),
                "ConnectionsRefused",
                Some(("Reason", "storeUnavailable")),
            ),
            (
                MetricEvent::FrameServed("auth.refresh"),
                "FramesServed",
                Some(("Type", "auth.refresh")),
            ),
            (
                MetricEvent::FrameRefused(ErrorCode::RateLimited),
                "FramesRefused",
                Some(("Code", "RATE_LIMITED")),
            ),
            (
                MetricEvent::ReaderServed("stream"),
                "ReadersServed",
                Some(("Type", "stream")),
            ),
            (
                MetricEvent::ReaderRefused(ErrorCode::Forbidden),
                "ReadersRefused",
                Some(("Code", "FORBIDDEN")),
            ),
        ] {
            let line = line(&event);
            assert_eq!(metrics(&line), named(&[(name, "Count", 1.into())]));
            let dimensions = &line["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0];
            match dimension {
                None => assert_eq!(*dimensions, json!(["Stack"])),
                Some((name, value)) => {
                    assert_eq!(*dimensions, json!(["Stack", name]));
                    assert_eq!(line[name], value);
                }
            }
        }
    }

    #[test]
    fn posts_are_one_line_without_zeros() {
        let failures = Failures {
            gone: 2,
            ..Failures::default()
        };
        let event = MetricEvent::Posted {
            success: 3,
            failures,
            latencies: vec![Duration::from_millis(4), Duration::from_millis(6)],
        };
        let expected = named(&[
            ("PostLatency", "Milliseconds", json!([4, 6])),
            ("PostsAccepted", "Count", 3.into()),
            ("PostsGone", "Count", 2.into()),
        ]);
        assert_eq!(metrics(&line(&event)), expected);
        let broadcast = MetricEvent::BroadcastDone {
            recipients: 0,
            took: Duration::from_millis(40),
        };
        let expected = named(&[
            ("BroadcastRecipients", "Count", 0.into()),
            ("BroadcastDuration", "Milliseconds", 40.into()),
        ]);
        assert_eq!(metrics(&line(&broadcast)), expected);
    }

    #[test]
    fn a_sweep_says_how_many_are_open_even_if_nobody_is() {
        let idle = SweepReport {
            complete: true,
            ..SweepReport::default()
        };
        let busy = SweepReport {
            pinged: 1,
            complete: false,
            connections: 7,
            ..idle
        };
        let took = Duration::from_millis(12);
        let (departures, leaves) = (Waiting::default(), Waiting::default());
        let of = |report| {
            metrics(&line(&MetricEvent::SweepDone {
                report,
                took,
                departures,
                leaves,
            }))
        };
        assert_eq!(
            of(idle),
            named(&[
                ("ConnectionsOpen", "Count", 0.into()),
                ("SweepDuration", "Milliseconds", 12.into()),
            ])
        );
        assert_eq!(
            of(busy),
            named(&[
                ("ConnectionsOpen", "Count", 7.into()),
                ("SweepDuration", "Milliseconds", 12.into()),
                ("SweepPinged", "Count", 1.into()),
                ("SweepIncomplete", "Count", 1.into()),
            ])
        );
    }

    #[test]
    fn what_waits_is_in_the_line_of_its_sweep() {
        let event = MetricEvent::SweepDone {
            report: SweepReport {
                complete: true,
                ..SweepReport::default()
            },
            took: Duration::from_millis(12),
            departures: Waiting {
                number: 2,
                oldest: Duration::ZERO,
            },
            leaves: Waiting {
                number: 1,
                oldest: Duration::from_millis(40),
            },
        };
        let expected = named(&[
            ("ConnectionsOpen", "Count", 0.into()),
            ("SweepDuration", "Milliseconds", 12.into()),
            ("DeparturesWaiting", "Count", 2.into()),
            ("OldestDepartureAge", "Milliseconds", 0.into()),
            ("LeavesWaiting", "Count", 1.into()),
            ("OldestLeaveAge", "Milliseconds", 40.into()),
        ]);
        assert_eq!(metrics(&line(&event)), expected);
    }

    #[test]
    fn events_of_hooks_are_counted_without_zeros() {
        let event = MetricEvent::HookEventsDelivered {
            delivered: 2,
            failed: 1,
            given_up: 0,
        };
        let expected = named(&[
            ("HookEventsDelivered", "Count", 2.into()),
            ("HookEventsFailed", "Count", 1.into()),
        ]);
        assert_eq!(metrics(&line(&event)), expected);
        let event = MetricEvent::HookEventsWaiting {
            oldest: Duration::from_secs(65),
        };
        let expected = named(&[("OldestHookEventAge", "Milliseconds", 65_000.into())]);
        assert_eq!(metrics(&line(&event)), expected);
        let expected = named(&[("HooksNotStarted", "Count", 1.into())]);
        assert_eq!(metrics(&line(&MetricEvent::HookNotStarted)), expected);
    }

    #[test]
    fn channels_are_counted_without_zeros() {
        let recovered = Recoveries {
            complete: 2,
            expired: 1,
            ..Recoveries::default()
        };
        for (event, expected) in [
            (
                MetricEvent::MessagesAppended {
                    messages: 1,
                    conflicts: 0,
                },
                vec![("MessagesAppended", 1)],
            ),
            (
                MetricEvent::MessagesAppended {
                    messages: 10,
                    conflicts: 3,
                },
                vec![("MessagesAppended", 10), ("AppendConflicts", 3)],
            ),
            (
                MetricEvent::AppendRefused { conflicts: 9 },
                vec![("AppendsRefused", 1), ("AppendConflicts", 9)],
            ),
            (
                MetricEvent::Subscribed {
                    made: 3,
                    refused: 1,
                    recoveries: recovered,
                },
                vec![
                    ("SubscriptionsMade", 3),
                    ("SubscriptionsRefused", 1),
                    ("RecoveriesComplete", 2),
                    ("RecoveriesExpired", 1),
                ],
            ),
            (
                MetricEvent::HistoryRead(Recoveries {
                    epoch: 1,
                    too_far: 1,
                    ..Recoveries::default()
                }),
                vec![("RecoveriesEpoch", 1), ("RecoveriesTooFar", 1)],
            ),
            (
                MetricEvent::AuthorizationFailed,
                vec![("AuthorizationsFailed", 1)],
            ),
            (MetricEvent::PresenceJoined, vec![("PresenceJoined", 1)]),
            (MetricEvent::PresenceLeft, vec![("PresenceLeft", 1)]),
            (
                MetricEvent::AnnouncementFailed,
                vec![("AnnouncementsFailed", 1)],
            ),
            (
                MetricEvent::LockTaken { is_takeover: false },
                vec![("LocksTaken", 1)],
            ),
            (
                MetricEvent::LockTaken { is_takeover: true },
                vec![("LocksTaken", 1), ("LocksTakenOver", 1)],
            ),
        ] {
            let counts = expected.iter();
            let counts: Vec<_> = counts
                .map(|(name, n)| (*name, "Count", (*n).into()))
                .collect();
            assert_eq!(metrics(&line(&event)), named(&counts));
        }
    }

    #[test]
    fn a_call_is_counted_with_its_duration() {
        for (served, name) in [(true, "CallsServed"), (false, "CallsFailed")] {
            let took = Duration::from_millis(40);
            let expected = named(&[
                (name, "Count", 1.into()),
                ("CallDuration", "Milliseconds", 40.into()),
            ]);
            let event = MetricEvent::Called { served, took };
            assert_eq!(metrics(&line(&event)), expected);
        }
    }

    #[test]
    fn the_adapter_keeps_the_contract() {
        let recorder = EmfMetrics::new("belfry-dev".into(), SystemClock);
        for event in metrics_contract(&recorder) {
            let metrics = metrics(&line(&event));
            // An invocation that posted nothing has nothing to count.
            let is_empty = matches!(&event, MetricEvent::Posted { success: 0, .. });
            assert_eq!(metrics.is_empty(), is_empty, "{event:?}");
        }
    }
}
