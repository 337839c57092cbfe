use std::future::Future;
use std::time::Duration;

use belfry_protocol::UserId;

use super::StoreError;
use crate::frames::TokenBucket;
use crate::time::UnixMillis;

/// A place that a reader of a user takes while it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderPlace {
    /// Its number among the user's places.
    pub number: u32,
    /// From then on it is free, whatever became of the reader.
    pub until: UnixMillis,
}

/// What the HTTP readers of each user may use. A function that dies leaves its
/// place taken until the place's end.
pub trait ReaderLimits: Send + Sync {
    /// Takes one of a user's places. `None`: all of them are taken.
    fn take_place(
        &self,
        user: &UserId,
        places: u32,
        until: UnixMillis,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Option<ReaderPlace>, StoreError>> + Send;

    /// Frees a place, unless another reader has it.
    fn leave_place(
        &self,
        user: &UserId,
        place: ReaderPlace,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes a token from the user's bucket. Otherwise: how long to wait for one.
    fn take_token(
        &self,
        user: &UserId,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Result<(), Duration>, StoreError>> + Send;
}
