use belfry_protocol::{ConnectionId, ErrorCode, SignOutReport, UserId};
use futures_util::stream::{self, StreamExt};

use crate::connections::{Closed, Recipient, close_with_reason};
use crate::ports::{Clock, ConnectionLookup, Outbox, Removals, SignOuts, StoreError};

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

impl<S: SignOuts + ConnectionLookup + Removals, O: Outbox, C: Clock> SignOut<S, O, C> {
    /// Signs the user out. Calling it again closes what could not be closed,
    /// and connections that were opened since.
    ///
    /// # Errors
    /// [`StoreError`] if the tokens could not be voided. No connection was
    /// closed then.
    pub async fn handle(&self, user: &UserId) -> Result<SignOutReport, StoreError> {
        let ids = self.store.sign_out(user, self.clock.now()).await?;
        let mut closes = stream::iter(&ids)
            .map(async |id| (id, self.end(id).await))
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
    async fn end(&self, id: &ConnectionId) -> Result<(), String> {
        let failed = |error: StoreError| error.to_string();
        let row = self.store.find(id).await.map_err(failed)?;
        if let Some(row) = &row {
            let ended = self.store.end_session(row, self.clock.now()).await;
            ended.map_err(failed)?;
        }
        let why = "signed out; sign in again";
        let code = ErrorCode::Unauthorized;
        let closed = close_with_reason(&self.outbox, &self.clock, id, code, why).await;
        if let Closed::Failed(error) = closed {
            return Err(error.to_string());
        }
        match &row {
            Some(row) => {
                let removed = self.store.remove_unchanged(&Recipient::from(row)).await;
                removed.map_err(failed)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeOutbox, FakeStore, TestClock, user_id};
    use serde_json::Value;

    #[tokio::test(start_paused = true)]
    async fn a_users_connections_are_told_and_closed() {
        let sign_out = SignOut {
            store: FakeStore::default(),
            outbox: FakeOutbox::default(),
            clock: TestClock::default(),
        };
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
        assert_eq!(posted["data"]["code"], "UNAUTHORIZED");
        sign_out.outbox.allow_closing("c2");
        let report = sign_out.handle(&user_id("alice")).await.unwrap();
        assert_eq!((report.closed, report.failed), (1, 0));
        assert!(sign_out.store.row("c1").is_none() && sign_out.store.row("c2").is_none());
        assert!(sign_out.outbox.is_open("b1") && sign_out.store.row("b1").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_closed_if_the_tokens_cannot_be_voided() {
        let sign_out = SignOut {
            store: FakeStore::default(),
            outbox: FakeOutbox::default(),
            clock: TestClock::default(),
        };
        sign_out.store.put("c1", "alice").await;
        sign_out.outbox.open("c1");
        sign_out.store.fail_next("sign_out");
        assert!(sign_out.handle(&user_id("alice")).await.is_err());
        assert!(sign_out.outbox.is_open("c1"));
    }
}
