//! What the rules need from outside, as narrow traits.
//!
//! Each promises what its docs say; the contract suites in `testing` hold the
//! fakes and the real adapters to it.

mod broadcasts;
mod metrics;
mod outbox;
mod recipients;
mod store;
mod sweep;
mod tokens;

use std::future::Future;
use std::time::Duration;

use crate::time::UnixMillis;

pub use broadcasts::{
    Begun, BroadcastKey, BroadcastRecord, BroadcastStore, Kept, Lease, Progress, SegmentView,
    Taken, Workers,
};
pub use metrics::{Measured, Metrics};
pub use outbox::{Outbox, PostError};
pub use recipients::{Cursor, Page, RecipientStore, Segment};
pub use store::{
    Admission, ConnectionStore, Extended, Extension, Inserted, NotServed, Places, StoreError,
    TOMBSTONE_LIFE, Touched,
};
pub use sweep::{DueCursor, DuePage, PARTS, SweepStore};
pub use tokens::{Identity, TokenVerifier, VerifyError};

/// The time, and waiting.
pub trait Clock: Send + Sync {
    /// Now. It may jump; nothing may depend on it growing.
    fn now(&self) -> UnixMillis;

    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}
