//! A client has a newer token.

use belfry_protocol::{
    AuthRefresh, AuthRefreshed, ConnectionId, Envelope, ErrorCode, Refused, ServerFrame, Version,
};

use super::{Answer, Receive};
use crate::ports::{
    Clock, ConnectionStore, Extended, Extension, Metrics, Outbox, TokenVerifier, VerifyError,
};

impl<V: TokenVerifier, S: ConnectionStore, O: Outbox, C: Clock, M: Metrics> Receive<V, S, O, C, M> {
    /// A newer token of the same user moves the session's end. One of another
    /// user ends the connection: whoever holds it is not who opened it. One
    /// that is not accepted changes nothing.
    pub(super) async fn refresh(
        &self,
        id: &ConnectionId,
        frame: Envelope<AuthRefresh>,
    ) -> Result<Answer, Answer> {
        let frame_id = frame.id.as_ref();
        let refused = |why: &str| Refused {
            correlation_id: frame.id.clone(),
            ..Refused::new(ErrorCode::Unauthorized, why)
        };
        let token = frame.data.token.reveal();
        let identity = match self.verifier.verify(token, self.clock.now()).await {
            Ok(identity) => identity,
            Err(VerifyError::Rejected(reason)) => {
                tracing::info!(connectionId = %id, reason, "a new token was not accepted");
                let why = "the token is not accepted; the session goes on until its own ends";
                return self.refuse(id, refused(why)).await;
            }
            Err(error @ VerifyError::KeysUnavailable(_)) => {
                self.touch(id, frame_id).await?;
                return Err(self.failed(&error, frame_id));
            }
        };
        let mark = self.store.signed_out_at(&identity.user_id).await;
        let mark = mark.map_err(|error| self.failed(&error, frame_id))?;
        if mark.is_some_and(|mark| identity.issued_at <= mark) {
            let connection = self.touch(id, frame_id).await?;
            if connection.user_id != identity.user_id {
                return Err(self.close_for_another_user(id).await);
            }
            let why = "the user was signed out after the token was made; sign in again";
            return Err(Answer::refused(refused(why), self.clock.now()));
        }
        // Fetching keys may have taken seconds, and what has ended meanwhile
        // is not revived. The handshake's leeway is not for a session that runs.
        let now = self.clock.now();
        if identity.expires_at.has_passed(now) {
            let why = "the token has expired; the session goes on until its own ends";
            return self.refuse(id, refused(why)).await;
        }
        let extension = Extension {
            user_id: identity.user_id,
            expires_at: identity.expires_at,
        };
        match self.store.extend(id, &extension, &self.budget(), now).await {
            Ok(Extended::Until(end)) => {
                let reply = ServerFrame::AuthRefreshed(Envelope {
                    version: Version,
                    id: None,
                    timestamp: Some(now.to_timestamp()),
                    correlation_id: frame.id,
                    data: AuthRefreshed {
                        token_expires_at: end.to_millis().to_timestamp(),
                    },
                });
                Ok(Answer::served(&reply, "auth.refresh", now))
            }
            Ok(Extended::OtherUser) => Err(self.close_for_another_user(id).await),
            Ok(Extended::Not(why)) => Err(self.not_served(id, why, frame_id).await),
            Err(error) => Err(self.failed(&error, frame_id)),
        }
    }
    async fn close_for_another_user(&self, id: &ConnectionId) -> Answer {
        let reason = "a token of another user";
        tracing::warn!(connectionId = %id, reason, "a session was not refreshed");
        let why = "the token belongs to another user; connect again";
        self.close(id, ErrorCode::Unauthorized, why).await
    }
}
