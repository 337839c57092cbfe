use std::future::Future;

use belfry_protocol::{ConnectionId, UserId};

use super::StoreError;
use crate::connections::Connection;
use crate::time::{UnixMillis, UnixSeconds};

pub trait SignOuts: Send + Sync {
    /// Voids every token of the user that was issued at `void_until` or before
    /// and lists the user's connections. No other connection can be admitted
    /// with such a token.
    fn sign_out(
        &self,
        user: &UserId,
        void_until: UnixSeconds,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Vec<ConnectionId>, StoreError>> + Send;

    /// Ends the session of a user's connection for good and makes the row due
    /// for a sweep. Nothing extends the session, however wrong the clock of
    /// the function that tries. Returns the row, if there is one.
    fn end_session(
        &self,
        user: &UserId,
        id: &ConnectionId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Option<Connection>, StoreError>> + Send;
}
