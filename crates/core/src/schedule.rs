//! When a connection must be looked at, and what is to be done then.

use std::time::Duration;

use belfry_protocol::ConnectionId;

use crate::connection::Connection;
use crate::spread::part_of;
use crate::time::UnixMillis;

/// How long before its end a connection is told to reconnect, at the most.
const RECONNECT_LEAD: Duration = Duration::from_secs(10 * 60);

/// How long a connection may stay whose place another one has taken: enough
/// to read what is on its way.
const HANDOVER: Duration = Duration::from_secs(30);

/// How long a connection may stay after its lifetime. It is well before the
/// row's TTL, so that the sweeper and not DynamoDB removes the row.
const OVERTIME: Duration = Duration::from_secs(60);

/// The rules of time that a sweeper follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// How long a client may be silent before it is pinged. With the time
    /// between two sweeps it must stay below API Gateway's idle timeout of
    /// ten minutes.
    pub heartbeat_interval: Duration,
    /// How long a client has to answer a ping.
    pub heartbeat_grace: Duration,
    /// How long API Gateway lets a connection live.
    pub connection_lifetime: Duration,
}

/// What is to be done about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It has to end.
    End(End),
    /// It should be told to reconnect.
    Reconnect,
    /// It should show that it lives.
    Ping,
    /// Nothing yet.
    Wait,
}

/// Why a connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its row counts for nothing any more.
    Outlived,
    TokenExpired,
    /// Another connection took its place.
    Replaced,
    /// It did not answer a ping.
    Silent,
}

impl Schedule {
    /// When the connection must be looked at next. Before that
    /// [`Self::step`] says that there is nothing to do.
    #[must_use]
    pub fn next_due(&self, connection: &Connection) -> UnixMillis {
        let watch = &connection.watch;
        let silence = match watch.pinged_at {
            Some(pinged_at) => pinged_at.plus(self.heartbeat_grace),
            None => connection.last_seen_at.plus(self.heartbeat_interval),
        };
        let ends = connection.token_expires_at.to_millis();
        let mut due = silence.min(ends).min(self.outlived_at(connection));
        if !watch.told_to_reconnect {
            due = due.min(self.reconnect_at(connection));
        }
        if let Some(replaced_at) = watch.replaced_at {
            due = due.min(replaced_at.plus(HANDOVER));
        }
        due
    }

    /// What is to be done about the connection now: ends come first, since
    /// whoever has to go needs no ping.
    pub(crate) fn step(&self, connection: &Connection, now: UnixMillis) -> Step {
        let watch = &connection.watch;
        if self.outlived_at(connection) <= now {
            return Step::End(End::Outlived);
        }
        if connection.token_expires_at.has_passed(now) {
            return Step::End(End::TokenExpired);
        }
        if watch.replaced_at.is_some_and(|at| at.plus(HANDOVER) <= now) {
            return Step::End(End::Replaced);
        }
        if let Some(pinged_at) = watch.pinged_at
            && pinged_at.plus(self.heartbeat_grace) <= now
        {
            return Step::End(End::Silent);
        }
        if !watch.told_to_reconnect && self.reconnect_at(connection) <= now {
            return Step::Reconnect;
        }
        let is_silent = connection.last_seen_at.plus(self.heartbeat_interval) <= now;
        if is_silent && watch.pinged_at.is_none() {
            return Step::Ping;
        }
        Step::Wait
    }

    /// When the row is removed, whether or not API Gateway said that the
    /// connection has ended.
    fn outlived_at(&self, connection: &Connection) -> UnixMillis {
        let end = self.ends_at(connection).plus(OVERTIME);
        end.min(connection.expires_at.to_millis())
    }

    /// When API Gateway cuts the connection.
    #[must_use]
    pub fn ends_at(&self, connection: &Connection) -> UnixMillis {
        connection.connected_at.plus(self.connection_lifetime)
    }

    /// Ten minutes before the cut, or earlier by up to five, each connection
    /// at a moment of its own: those that came together need not leave
    /// together. In a short life it is the last sixth of it.
    fn reconnect_at(&self, connection: &Connection) -> UnixMillis {
        let lead = RECONNECT_LEAD.min(self.connection_lifetime / 6);
        let spread = lead.mul_f64(share(&connection.id) / 2.0);
        self.ends_at(connection).minus(lead + spread)
    }
}

/// A number from 0 to 1 that is always the same for a connection.
fn share(id: &ConnectionId) -> f64 {
    const PARTS: u32 = 1_000;
    f64::from(part_of(id, PARTS)) / f64::from(PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Watch;
    use crate::testing::{SCHEDULE, START, connection};
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
    fn silence_is_answered_with_a_ping_and_then_with_the_end() {
        let mut row = long();
        assert_eq!(SCHEDULE.step(&row, after(479)), Step::Wait);
        assert_eq!(SCHEDULE.step(&row, after(480)), Step::Ping);
        row.watch.pinged_at = Some(after(500));
        assert_eq!(SCHEDULE.step(&row, after(529)), Step::Wait);
        assert_eq!(SCHEDULE.next_due(&row), after(530));
        assert_eq!(SCHEDULE.step(&row, after(530)), Step::End(End::Silent));
        row.watch.pinged_at = None;
        row.last_seen_at = after(529);
        assert_eq!(SCHEDULE.step(&row, after(530)), Step::Wait);
        assert_eq!(SCHEDULE.next_due(&row), after(529 + 480));
    }

    #[test]
    fn reconnecting_is_asked_for_once_and_spread_over_five_minutes() {
        let mut moments: Vec<_> = (0..1_000)
            .map(|n| {
                let row = connection(&format!("connection-{n}"), "alice");
                SCHEDULE.reconnect_at(&row)
            })
            .collect();
        moments.sort_unstable();
        assert!(moments[0] >= after(7_200 - 900));
        assert!(moments[999] <= after(7_200 - 600));
        // No minute of the five has much more than its fifth.
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
        assert_eq!(SCHEDULE.step(&row, after(6_600)), Step::Reconnect);
        row.watch.told_to_reconnect = true;
        assert_eq!(SCHEDULE.step(&row, after(6_600)), Step::Wait);
    }

    #[test]
    fn what_has_to_go_goes_first() {
        let mut row = long();
        row.watch.replaced_at = Some(after(10));
        assert_eq!(SCHEDULE.step(&row, after(39)), Step::Wait);
        assert_eq!(SCHEDULE.step(&row, after(40)), Step::End(End::Replaced));
        row.token_expires_at = after(40).to_seconds();
        assert_eq!(SCHEDULE.step(&row, after(40)), Step::End(End::TokenExpired));
        row.expires_at = after(40).to_seconds();
        assert_eq!(SCHEDULE.step(&row, after(40)), Step::End(End::Outlived));
    }

    #[test]
    fn a_row_goes_before_its_ttl_would_remove_it() {
        let row = long();
        assert_eq!(row.expires_at, after(7_500).to_seconds());
        assert_eq!(SCHEDULE.step(&row, after(7_260)), Step::End(End::Outlived));
    }

    proptest! {
        /// A sweeper that comes at `next_due` has something to do, and one
        /// that comes earlier has not: nothing is missed, nothing is busy.
        #[test]
        fn it_is_due_exactly_when_there_is_something_to_do(
            seen in 0u64..8_000,
            token in 1u64..9_000,
            pinged in prop::option::of(0u64..8_000),
            replaced in prop::option::of(0u64..8_000),
            told_to_reconnect: bool,
            now in 0u64..9_000,
        ) {
            let row = Connection {
                last_seen_at: after(seen),
                token_expires_at: after(token).to_seconds(),
                watch: Watch {
                    pinged_at: pinged.map(after),
                    unreachable_since: None,
                    replaced_at: replaced.map(after),
                    told_to_reconnect,
                    due_at: START,
                },
                ..connection("c1", "alice")
            };
            let due = SCHEDULE.next_due(&row);
            let is_due = due <= after(now);
            prop_assert_eq!(SCHEDULE.step(&row, after(now)) != Step::Wait, is_due);
        }
    }
}
