use std::future::Future;

use super::StoreError;
use crate::connections::Recipient;
use crate::time::UnixMillis;

/// Removes rows of connections that are gone.
pub trait Removals: Send + Sync {
    /// Removes the row and releases its capacity if it is still the row that
    /// was read, with the same id and `connected_at`. Otherwise nothing
    /// changes; that is no error.
    fn remove_unchanged(
        &self,
        seen: &Recipient,
        now: UnixMillis,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
