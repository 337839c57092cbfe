use belfry_protocol::{ConnectionId, SignOutReport, UserId};
use futures_util::stream::{self, StreamExt};

use crate::connections::{Closed, Recipient, SIGNED_OUT, close_with_reason};
use crate::ports::{CLOCK_LEEWAY, Clock, Outbox, Removals, SignOuts, StoreError};

/// Maximum concurrent closes. Every removal writes the user's item, so more
/// would only conflict with each other.
const CONCURRENCY: usize = 8;

/// Signs a user out: closes the user's connections and voids every token that
/// was issued until now.
#[derive(Debug)]
pub struct SignOut<S, O, C> {
    pub store: S,
    pub outbox: O,
    pub clock: C,
}

impl<S: SignOuts + Removals, O: Outbox, C: Clock> SignOut<S, O, C> {
    /// Signs the user out. Calling it again closes what could not be closed,
    /// and connections that were opened since.
    ///
    /// # Errors
    /// [`StoreError`] if the tokens could not be voided. No connection was
    /// closed then.
    pub async fn handle(&self, user: &UserId) -> Result<SignOutReport, StoreError> {
        let now = self.clock.now();
        // A token may be as far in the future as clocks may differ.
        let void_until = now.plus(CLOCK_LEEWAY).to_seconds();
        let ids = self.store.sign_out(user, void_until, now).await?;
        let mut closes = stream::iter(&ids)
            .map(async |id| (id, self.end(user, id).await))
            .buffer_unordered(CONCURRENCY);
        let mut report = SignOutReport::default();
        while let Some((id, ended)) = closes.next().await {
            match ended {
                Ok(()) => report.closed += 1,
                Err(reason) => {
                    report.failed += 1;
                    tracing::warn!(event = "sign-out.connection-left", connectionId = %id, reason, "could not close a connection of a user who was signed out");
                }
            }
        }
        Ok(report)
    }

    /// Ends the session in the row first: from then on it is neither served
    /// nor sent to, even if the connection cannot be closed now.
    async fn end(&self, user: &UserId, id: &ConnectionId) -> Result<(), String> {
        let now = self.clock.now();
        let row = self.store.end_session(user, id, now).await;
        let row = row.map_err(|error| error.to_string())?;
        let closed = close_with_reason(&self.outbox, &self.clock, id, SIGNED_OUT).await;
        match (closed, row.as_ref().map(Recipient::from)) {
            (Closed::Failed(error), _) => Err(error.to_string()),
            (_, None) => Ok(()),
            // The row stays and is due, so a sweep closes what this call could
            // not. If `$connect` has not answered yet, it refuses.
            (Closed::Untold | Closed::Gone, Some(row)) if row.may_be_pending(now) => Ok(()),
            (_, Some(row)) => {
                let removed = self.store.remove_unchanged(&row).await;
                removed.map_err(|error| error.to_string())
            }
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
    async fn a_token_of_a_fast_clock_is_void_as_well() {
        let sign_out = sign_out();
        let alice = user_id("alice");
        sign_out.handle(&alice).await.unwrap();
        let until = sign_out.clock.now().plus(CLOCK_LEEWAY).to_seconds();
        let mark = sign_out.store.signed_out_at(&alice).await;
        assert_eq!(mark, Ok(Some(until)));
    }
}
