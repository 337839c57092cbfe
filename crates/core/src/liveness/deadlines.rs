use std::time::Duration;

use belfry_protocol::ConnectionId;

use crate::connections::{Connection, shard_of};
use crate::time::UnixMillis;

/// How long before its end a connection is asked to reconnect, at most.
const RECONNECT_LEAD: Duration = Duration::from_secs(10 * 60);

/// How long a replaced connection may stay: enough to read what is on its way.
const HANDOVER: Duration = Duration::from_secs(30);

/// How long a row may stay after its connection's lifetime. It is well before
/// the row's TTL, so that a sweep and not DynamoDB removes the row.
const OVERTIME: Duration = Duration::from_secs(60);

/// When connections are pinged, asked to reconnect and ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivenessSettings {
    /// How long a client may be silent before it is pinged. With the time
    /// between two sweeps it must stay below API Gateway's idle timeout of ten
    /// minutes.
    pub heartbeat_interval: Duration,
    /// How long a client has to answer a ping.
    pub heartbeat_grace: Duration,
    /// How long API Gateway lets a connection live.
    pub connection_lifetime: Duration,
}

/// What a connection needs at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    End(EndReason),
    AskToReconnect,
    Ping,
}

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReason {
    /// Its lifetime is over.
    Outlived,
    TokenExpired,
    /// Another connection replaced it.
    Replaced,
    /// It did not answer a ping.
    Silent,
}

impl LivenessSettings {
    /// The connection's deadlines, the most urgent action first: a connection
    /// that must end needs no ping. What is due now and when a connection is
    /// due next both follow from this list.
    fn deadlines(&self, connection: &Connection) -> impl Iterator<Item = (UnixMillis, Action)> {
        let liveness = &connection.liveness;
        let ping = connection.last_seen_at.plus(self.heartbeat_interval);
        let replaced = liveness.replaced_at.map(|at| at.plus(HANDOVER));
        let silent = liveness.pinged_at.map(|at| at.plus(self.heartbeat_grace));
        let reconnect = (!liveness.reconnect_sent).then(|| self.reconnect_at(connection));
        [
            (
                Some(self.outlived_at(connection)),
                Action::End(EndReason::Outlived),
            ),
            (
                Some(connection.token_expires_at.to_millis()),
                Action::End(EndReason::TokenExpired),
            ),
            (replaced, Action::End(EndReason::Replaced)),
            (silent, Action::End(EndReason::Silent)),
            (reconnect, Action::AskToReconnect),
            (liveness.pinged_at.is_none().then_some(ping), Action::Ping),
        ]
        .into_iter()
        .filter_map(|(at, action)| Some((at?, action)))
    }

    /// When the connection must be checked next. Before that there is nothing
    /// to do.
    #[must_use]
    pub fn next_due(&self, connection: &Connection) -> UnixMillis {
        // There is always one: the end of the row.
        let next = self.deadlines(connection).map(|(at, _)| at).min();
        next.unwrap_or(connection.expires_at.to_millis())
    }

    /// What the connection needs now.
    pub(super) fn due_action(&self, connection: &Connection, now: UnixMillis) -> Option<Action> {
        let due = self.deadlines(connection).find(|(at, _)| *at <= now);
        due.map(|(_, action)| action)
    }

    /// When the row is removed, even if API Gateway never said that the
    /// connection ended.
    fn outlived_at(&self, connection: &Connection) -> UnixMillis {
        let end = self.ends_at(connection).plus(OVERTIME);
        end.min(connection.expires_at.to_millis())
    }

    /// When API Gateway cuts the connection.
    pub(super) fn ends_at(&self, connection: &Connection) -> UnixMillis {
        connection.connected_at.plus(self.connection_lifetime)
    }

    /// Ten to fifteen minutes before the cut. The exact time follows from the
    /// connection's id, so that connections opened together do not reconnect
    /// together. For a short lifetime the lead is a sixth of it, plus up to half
    /// of that.
    fn reconnect_at(&self, connection: &Connection) -> UnixMillis {
        let lead = RECONNECT_LEAD.min(self.connection_lifetime / 6);
        let spread = lead.mul_f64(share(&connection.id) / 2.0);
        self.ends_at(connection).minus(lead + spread)
    }
}

/// A number from 0 to 1 that never changes for a connection.
fn share(id: &ConnectionId) -> f64 {
    const SHARES: u32 = 1_000;
    f64::from(shard_of(id, SHARES)) / f64::from(SHARES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::Liveness;
    use crate::testing::{LIVENESS, START, connection};
    use crate::time::UnixSeconds;
    use proptest::prelude::*;

    fn after(seconds: u64) -> UnixMillis {
        START.plus(Duration::from_secs(seconds))
    }

    fn long() -> Connection {
        Connection {
            token_expires_at: UnixSeconds(START.to_seconds().0 + 86_400),
            ..connection("c1", "alice")
        }
    }

    #[test]
    fn a_silent_client_is_pinged_and_then_ended() {
        let mut row = long();
        assert_eq!(LIVENESS.due_action(&row, after(479)), None);
        assert_eq!(LIVENESS.due_action(&row, after(480)), Some(Action::Ping));
        row.liveness.pinged_at = Some(after(500));
        assert_eq!(LIVENESS.due_action(&row, after(529)), None);
        assert_eq!(LIVENESS.next_due(&row), after(530));
        assert_eq!(
            LIVENESS.due_action(&row, after(530)),
            Some(Action::End(EndReason::Silent))
        );
        row.liveness.pinged_at = None;
        row.last_seen_at = after(529);
        assert_eq!(LIVENESS.due_action(&row, after(530)), None);
        assert_eq!(LIVENESS.next_due(&row), after(529 + 480));
    }

    #[test]
    fn reconnects_are_requested_once_and_spread_over_five_minutes() {
        let mut moments: Vec<_> = (0..1_000)
            .map(|n| {
                let row = connection(&format!("connection-{n}"), "alice");
                LIVENESS.reconnect_at(&row)
            })
            .collect();
        moments.sort_unstable();
        assert!(moments[0] >= after(7_200 - 900));
        assert!(moments[999] <= after(7_200 - 600));
        // None of the five minutes has much more than a fifth.
        for minute in 0..5 {
            let begins = after(7_200 - 900 + minute * 60);
            let ends = begins.plus(Duration::from_secs(60));
            let count = moments
                .iter()
                .filter(|at| (begins..ends).contains(at))
                .count();
            assert!((120..280).contains(&count), "{count} in minute {minute}");
        }
        let mut row = long();
        row.last_seen_at = after(6_600);
        assert_eq!(
            LIVENESS.due_action(&row, after(6_600)),
            Some(Action::AskToReconnect)
        );
        row.liveness.reconnect_sent = true;
        assert_eq!(LIVENESS.due_action(&row, after(6_600)), None);
    }

    #[test]
    fn ends_come_before_anything_else() {
        let mut row = long();
        row.liveness.replaced_at = Some(after(10));
        assert_eq!(LIVENESS.due_action(&row, after(39)), None);
        assert_eq!(
            LIVENESS.due_action(&row, after(40)),
            Some(Action::End(EndReason::Replaced))
        );
        row.token_expires_at = after(40).to_seconds();
        assert_eq!(
            LIVENESS.due_action(&row, after(40)),
            Some(Action::End(EndReason::TokenExpired))
        );
        row.expires_at = after(40).to_seconds();
        assert_eq!(
            LIVENESS.due_action(&row, after(40)),
            Some(Action::End(EndReason::Outlived))
        );
    }

    #[test]
    fn a_row_is_removed_before_its_ttl() {
        let row = long();
        assert_eq!(row.expires_at, after(7_500).to_seconds());
        assert_eq!(
            LIVENESS.due_action(&row, after(7_260)),
            Some(Action::End(EndReason::Outlived))
        );
    }

    proptest! {
        /// A sweep at `next_due` finds something to do, and an earlier one does
        /// not: nothing is missed, and no check is wasted.
        #[test]
        fn a_connection_is_due_exactly_when_there_is_something_to_do(
            seen in 0u64..8_000,
            token in 1u64..9_000,
            pinged in prop::option::of(0u64..8_000),
            replaced in prop::option::of(0u64..8_000),
            reconnect_sent: bool,
            now in 0u64..9_000,
        ) {
            let row = Connection {
                last_seen_at: after(seen),
                token_expires_at: after(token).to_seconds(),
                liveness: Liveness {
                    pinged_at: pinged.map(after),
                    unreachable_since: None,
                    replaced_at: replaced.map(after),
                    reconnect_sent,
                    due_at: START,
                },
                ..connection("c1", "alice")
            };
            let due = LIVENESS.next_due(&row);
            let is_due = due <= after(now);
            prop_assert_eq!(LIVENESS.due_action(&row, after(now)).is_some(), is_due);
        }
    }
}
