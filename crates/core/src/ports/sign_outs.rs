use std::future::Future;

use belfry_protocol::{ConnectionId, UserId};

use super::StoreError;
use crate::connections::Connection;
use crate::time::UnixMillis;

pub trait SignOuts: Send + Sync {
    /// Voids every token of the user that was issued until now and lists the
    /// user's connections. No other connection can be admitted with such a
    /// token.
    fn sign_out(
        &self,
        user: &UserId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Vec<ConnectionId>, StoreError>> + Send;

    /// Ends the session of the row that was read, as if its token expired now.
    fn end_session(
        &self,
        seen: &Connection,
        now: UnixMillis,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
