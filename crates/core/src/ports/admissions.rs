use std::future::Future;

use belfry_protocol::ConnectionId;

use super::StoreError;
use crate::connections::{Connection, ConnectionLimits};
use crate::time::UnixSeconds;

/// A connection to admit.
#[derive(Debug, Clone, Copy)]
pub struct Admission<'a> {
    pub connection: &'a Connection,
    /// A user who was signed out at this second or later is not admitted.
    pub token_issued_at: UnixSeconds,
    /// A connection of the same user that this one replaces.
    pub replaces: Option<&'a ConnectionId>,
}

/// Result of [`Admissions::admit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// The row exists, written now or by an earlier attempt of the same handshake.
    Yes,
    /// Another handshake's row has this id. It was not changed.
    IdTaken,
    /// The connection has already ended. There is no row.
    Ended,
    /// The stack is at its connection limit.
    AtCapacity,
    /// The user is at the limit of connections per user.
    UserAtCapacity,
    /// The user was signed out after the token was issued.
    SignedOut,
}

/// Lets connections in, within limits.
///
/// A row and its share of the capacity (of the stack and of its user) are
/// written together and removed together, so at no time are there more rows
/// than the limits allow. The one exception is a connection that was replaced:
/// its successor counts instead of it, and its row stays until it closes.
pub trait Admissions: Send + Sync {
    /// Writes a new row and counts it. Repeating the call with the same id,
    /// user and `connected_at` changes nothing and returns [`Admitted::Yes`].
    ///
    /// `replaces` counts if it names a row of the same user that was neither
    /// replaced yet nor signed out. Otherwise it is ignored. While predecessors close, a user
    /// may have up to twice the limit. If the predecessor has a session, the new
    /// row has its [owner of locks](Connection::lock_owner) and a session, too.
    ///
    /// After [`Disconnections::disconnect`](super::Disconnections::disconnect)
    /// of the same connection, in whatever order the two run, no row is left.
    ///
    /// # Errors
    /// [`StoreError`]. There may be a row, and it is not removed: if the same
    /// handshake was handled twice, the other call may have returned
    /// [`Admitted::Yes`] for it. If possible the row is made due at
    /// [`Recipient::handshake_ends_at`](crate::connections::Recipient::handshake_ends_at), so that a sweep pings it.
    fn admit(
        &self,
        admission: Admission<'_>,
        limits: ConnectionLimits,
    ) -> impl Future<Output = Result<Admitted, StoreError>> + Send;
}
