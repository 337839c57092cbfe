use belfry_protocol::{SignOutReport, UserId};
use futures_util::stream::{self, StreamExt};

use crate::connections::{Closed, Connection, Recipient, SIGNED_OUT, close_with_reason};
use crate::ports::{CLOCK_LEEWAY, Clock, Outbox, Removals, SignOuts, StoreError};
use crate::time::UnixMillis;

/// Maximum concurrent writes that end sessions: each goes to a row of its own.
const ENDS: usize = 64;

/// Maximum concurrent closes. A client that does not read takes two seconds.
const CLOSES: usize = 64;

/// Maximum concurrent removals. Each writes the user's item, so more would only
/// conflict with each other.
const REMOVALS: usize = 8;

/// Signs a user out: closes the user's connections and voids every token that
/// was issued until now.
#[derive(Debug)]
pub struct SignOut<S, O, C> {
    pub store: S,
    pub outbox: O,
    pub clock: C,
}

/// What became of one connection.
enum Outcome {
    Closed,
    /// The session has ended, and a sweep closes the connection.
    NotClosed(String),
    /// The connection may be served until its token expires.
    NotEnded(String),
}

impl<S: SignOuts + Removals, O: Outbox, C: Clock> SignOut<S, O, C> {
    /// Signs the user out. Calling it again closes what could not be closed,
    /// and connections that were opened since.
    ///
    /// Every session is ended before the first connection is closed: however
    /// slowly clients read, from then on none of them is served or sent to.
    ///
    /// # Errors
    /// [`StoreError`] if the tokens could not be voided. No connection was
    /// closed then.
    pub async fn handle(&self, user: &UserId) -> Result<SignOutReport, StoreError> {
        let now = self.clock.now();
        // A token may be as far in the future as clocks may differ.
        let void_until = now.plus(CLOCK_LEEWAY).to_seconds();
        let ids = self.store.sign_out(user, void_until, now).await?;
        let sessions: Vec<_> = stream::iter(ids)
            .map(async |id| {
                let row = self.store.end_session(user, &id, self.clock.now()).await;
                (id, row)
            })
            .buffer_unordered(ENDS)
            .collect()
            .await;
        let mut connections = stream::iter(sessions)
            .map(async |(id, row)| {
                let begun = self.clock.now();
                let closed = close_with_reason(&self.outbox, &self.clock, &id, SIGNED_OUT).await;
                (id, row, begun, closed)
            })
            .buffer_unordered(CLOSES)
            .map(async |(id, row, begun, closed)| (id, self.settle(row, begun, closed).await))
            .buffer_unordered(REMOVALS);
        let mut report = SignOutReport::default();
        while let Some((id, outcome)) = connections.next().await {
            let (count, reason) = match outcome {
                Outcome::Closed => (&mut report.closed, None),
                Outcome::NotClosed(reason) => (&mut report.failed, Some(reason)),
                Outcome::NotEnded(reason) => (&mut report.not_ended, Some(reason)),
            };
            *count += 1;
            if let Some(reason) = reason {
                tracing::warn!(event = "sign-out.connection-left", connectionId = %id, reason, "could not sign out a connection completely");
            }
        }
        Ok(report)
    }

    /// Removes the row of a connection that is closed for certain. Any other
    /// row stays and is due, so a sweep closes what this call could not. If
    /// `$connect` has not answered yet, it refuses.
    async fn settle(
        &self,
        row: Result<Option<Connection>, StoreError>,
        begun: UnixMillis,
        closed: Closed,
    ) -> Outcome {
        let recipient = match &row {
            Ok(row) => row.as_ref().map(Recipient::from),
            Err(error) => return Outcome::NotEnded(error.to_string()),
        };
        if let Closed::Failed(error) = closed {
            return Outcome::NotClosed(error.to_string());
        }
        let closed = recipient.filter(|recipient| closed.is_final(recipient, begun));
        let Some(recipient) = closed else {
            return Outcome::Closed;
        };
        match self
            .store
            .remove_unchanged(&recipient, self.clock.now())
            .await
        {
            Ok(()) => Outcome::Closed,
            Err(error) => Outcome::NotClosed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{PostError, SessionRefresh};
    use crate::testing::{FakeOutbox, FakeStore, TestClock, user_id};
    use serde_json::Value;
    use std::time::Duration;

    fn sign_out() -> SignOut<FakeStore, FakeOutbox, TestClock> {
        SignOut {
            store: FakeStore::default(),
            outbox: FakeOutbox::default(),
            clock: TestClock::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_users_connections_are_told_and_closed() {
        let sign_out = sign_out();
        for (id, user) in [("c1", "alice"), ("c2", "alice"), ("b1", "bob")] {
            sign_out.store.put(id, user).await;
            sign_out.outbox.open(id);
        }
        sign_out.outbox.refuse_closing("c2");
        let report = sign_out.handle(&user_id("alice")).await.unwrap();
        assert_eq!((report.closed, report.failed), (1, 1));
        let left = sign_out.store.row("c2").unwrap();
        assert!(
            left.token_expires_at.has_passed(sign_out.clock.now()),
            "it is not served"
        );
        let posted = sign_out.outbox.posted("c1");
        let posted: Value = serde_json::from_str(posted.last().unwrap()).unwrap();
        assert_eq!(posted["data"]["code"], "SIGNED_OUT");
        sign_out.outbox.allow_closing("c2");
        let report = sign_out.handle(&user_id("alice")).await.unwrap();
        assert_eq!((report.closed, report.failed), (1, 0));
        assert!(sign_out.store.row("c1").is_none() && sign_out.store.row("c2").is_none());
        assert!(sign_out.outbox.is_open("b1") && sign_out.store.row("b1").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_closed_if_the_tokens_cannot_be_voided() {
        let sign_out = sign_out();
        sign_out.store.put("c1", "alice").await;
        sign_out.outbox.open("c1");
        sign_out.store.fail_next("sign_out");
        assert!(sign_out.handle(&user_id("alice")).await.is_err());
        assert!(sign_out.outbox.is_open("c1"));
    }

    #[tokio::test(start_paused = true)]
    async fn every_session_ends_although_no_post_returns() {
        let sign_out = sign_out();
        let ids = (0..300).map(|n| format!("c{n}"));
        for id in ids.clone() {
            sign_out.store.put(&id, "alice").await;
        }
        sign_out.outbox.hang();
        let alice = user_id("alice");
        let handled = tokio::time::timeout(Duration::from_secs(60), sign_out.handle(&alice));
        assert!(handled.await.is_err(), "the posts hang");
        for id in ids {
            let row = sign_out.store.row(&id).expect("a row");
            assert!(row.is_signed_out(), "{id}");
            assert!(row.liveness.due_at <= sign_out.clock.now(), "{id}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_cannot_be_ended_is_closed_and_counted_apart() {
        let sign_out = sign_out();
        for id in ["c1", "c2"] {
            sign_out.store.put(id, "alice").await;
            sign_out.outbox.open(id);
        }
        sign_out.store.fail_next("end_session");
        let report = sign_out.handle(&user_id("alice")).await.unwrap();
        let expected = SignOutReport {
            closed: 1,
            failed: 0,
            not_ended: 1,
        };
        assert_eq!(report, expected);
        assert!(!sign_out.outbox.is_open("c1") && !sign_out.outbox.is_open("c2"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_row_of_a_pending_handshake_is_left_to_a_sweep() {
        let sign_out = sign_out();
        sign_out.store.put("c1", "alice").await;
        let report = sign_out.handle(&user_id("alice")).await.unwrap();
        assert_eq!((report.closed, report.failed), (1, 0));
        let row = sign_out.store.row("c1").expect("a row");
        assert!(row.is_signed_out());
        assert_eq!(row.liveness.due_at, sign_out.clock.now());
        sign_out.clock.sleep(Duration::from_secs(35)).await;
        sign_out.handle(&user_id("alice")).await.unwrap();
        assert!(sign_out.store.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_post_proves_no_connection() {
        let sign_out = sign_out();
        sign_out.store.put("c1", "alice").await;
        sign_out.outbox.answer("c1", [Err(PostError::Throttled)]);
        sign_out.handle(&user_id("alice")).await.unwrap();
        assert!(sign_out.store.row("c1").expect("a row").is_signed_out());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_from_a_fast_clock_is_void_as_well() {
        let sign_out = sign_out();
        let alice = user_id("alice");
        sign_out.handle(&alice).await.unwrap();
        let until = sign_out.clock.now().plus(CLOCK_LEEWAY).to_seconds();
        let mark = sign_out.store.signed_out_at(&alice).await;
        assert_eq!(mark, Ok(Some(until)));
    }
}
