use belfry_protocol::{
    AuthRefresh, AuthRefreshed, ConnectionId, Envelope, ErrorCode, Refused, ServerFrame, Version,
};

use super::TokenBucket;
use super::rejection::Rejection;
use super::touch::touch;
use crate::connections::{CloseReason, Connection};
use crate::ports::{
    Clock, Extended, Extension, Identity, SessionRefresh, Sessions, TokenVerifier, VerifyError,
};

/// `auth.refresh`: a newer token of the same user moves the session's end.
///
/// A token of another user closes the connection: its holder is not the user
/// who opened it. An invalid token changes nothing.
pub(super) struct AuthRefreshHandler<'a, V, S, C> {
    pub(super) verifier: &'a V,
    pub(super) store: &'a S,
    pub(super) clock: &'a C,
    pub(super) bucket: TokenBucket,
}

impl<V: TokenVerifier, S: Sessions + SessionRefresh, C: Clock> AuthRefreshHandler<'_, V, S, C> {
    pub(super) async fn handle(
        &self,
        id: &ConnectionId,
        frame: Envelope<AuthRefresh>,
    ) -> Result<(ServerFrame, Connection), Rejection> {
        let identity = self.verify(id, frame.data.token.reveal()).await?;
        let signed_out_at = match self.store.signed_out_at(&identity.user_id).await {
            Ok(mark) => mark,
            Err(error) => {
                self.touch(id).await?;
                return Err(error.into());
            }
        };
        if signed_out_at.is_some_and(|mark| identity.issued_at <= mark) {
            let connection = self.touch(id).await?;
            if connection.user_id != identity.user_id {
                return Err(other_user(id));
            }
            return Err(refused(
                ErrorCode::SignedOut,
                "the user was signed out after the token was issued; sign in again",
            ));
        }
        // Fetching keys may have taken seconds, and a session that ended
        // meanwhile is not revived. The handshake's leeway does not apply to a
        // running session.
        let now = self.clock.now();
        if identity.expires_at.has_passed(now) {
            self.touch(id).await?;
            return Err(refused(
                ErrorCode::Unauthorized,
                "the token has expired; the session continues until its present token expires",
            ));
        }
        let extension = Extension {
            user_id: identity.user_id,
            expires_at: identity.expires_at,
            claims: identity.claims,
        };
        match self.store.extend(id, &extension, &self.bucket, now).await? {
            Extended::Until(connection) => {
                let end = connection.token_expires_at.to_millis();
                let reply = ServerFrame::AuthRefreshed(Envelope {
                    version: Version,
                    id: None,
                    timestamp: Some(now.to_timestamp()),
                    correlation_id: frame.id,
                    data: AuthRefreshed {
                        token_expires_at: end.to_timestamp(),
                    },
                });
                Ok((reply, connection))
            }
            Extended::OtherUser => Err(other_user(id)),
            Extended::NotServed(why) => Err(why.into()),
        }
    }

    /// Verifies the token. A refused token still counts against the message rate
    /// limit, and is logged only within it: a flood of frames must not be a
    /// flood of lines.
    async fn verify(&self, id: &ConnectionId, token: &str) -> Result<Identity, Rejection> {
        let error = match self.verifier.verify(token, self.clock.now()).await {
            Ok(identity) => return Ok(identity),
            Err(error) => error,
        };
        self.touch(id).await?;
        match error {
            VerifyError::Rejected(reason) => {
                tracing::info!(event = "token.refused", connectionId = %id, reason, "a new token was refused");
                Err(refused(
                    ErrorCode::Unauthorized,
                    "the token is not valid; the session continues until its present token expires",
                ))
            }
            VerifyError::KeysUnavailable(_) => Err(Rejection::Failed(error.to_string())),
        }
    }

    async fn touch(&self, id: &ConnectionId) -> Result<Connection, Rejection> {
        touch(self.store, id, &self.bucket, self.clock.now()).await
    }
}

fn refused(code: ErrorCode, message: &str) -> Rejection {
    Refused::new(code, message).into()
}

fn other_user(id: &ConnectionId) -> Rejection {
    tracing::warn!(event = "token.other-user", connectionId = %id, "a new token belongs to another user");
    Rejection::Close(CloseReason::new(
        ErrorCode::Unauthorized,
        "the token belongs to another user; connect again",
    ))
}
