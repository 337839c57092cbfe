//! What the rules need from outside: one trait for each role.
//!
//! A use case names the traits whose functions it calls, and no others. Each
//! trait's docs are a promise; the contract suites in `testing` hold the fakes
//! and the real adapters to it.

mod acks;
mod admissions;
mod authorizer;
mod broadcast_records;
mod callee;
mod capacity;
mod clock;
mod connection_listing;
mod connection_lookup;
mod consistency;
mod cursor;
mod disconnections;
mod due_connections;
mod hooks;
mod locks;
mod logs;
mod metrics;
mod outbox;
mod presence;
mod randomness;
mod reader_limits;
mod recipients;
mod removals;
mod segments;
mod sessions;
mod sign_outs;
mod sockets;
mod store_error;
mod subscription_counts;
mod subscriptions;
mod verifier;
mod workers;

pub use acks::{ACK_LIFETIME, Acks, ReaderPage, Receipts};
pub use admissions::{Admission, Admissions, Admitted};
pub use authorizer::{Authorizer, Permission, Question};
pub use broadcast_records::{
    Begun, BroadcastKey, BroadcastRecord, BroadcastRecords, NewBroadcasts,
};
pub use callee::{CallError, Callee, ClientCall, MAX_RESULT_BYTES};
pub use capacity::Capacity;
pub use clock::Clock;
pub use connection_listing::{ConnectionListing, ConnectionPage};
pub use connection_lookup::ConnectionLookup;
pub use consistency::Consistency;
pub use cursor::Cursor;
pub use disconnections::{Disconnections, TOMBSTONE_LIFETIME};
pub use due_connections::DueConnections;
pub use hooks::{DeadLetters, HOOK_TIME, HookEvents, Listener, PendingEvents, WaitingSubject};
pub use locks::{FreeLock, ListedLock, LockKey, LockPage, LockState, Locks, Swapped};
pub use logs::{
    Advanced, DeletedPage, DeletedTo, LogAppends, LogPeeks, LogPurges, LogReads, Memory, Tail,
};
pub use metrics::{MetricEvent, Metrics, Recoveries, Waiting};
pub use outbox::{Outbox, PostError};
pub use presence::{Arrival, DueCount, Leave, LeaveOutcome, Presence, PresentUser, PresentUsers};
pub use randomness::Randomness;
pub use reader_limits::{ReaderLimits, ReaderPlace};
pub use recipients::{RecipientPage, Recipients};
pub use removals::Removals;
pub use segments::{
    Acquired, Lease, Progress, Reservation, Segment, SegmentLeases, SegmentOffers, SegmentStates,
    SegmentView,
};
pub use sessions::{Extended, Extension, NotServed, SessionRefresh, Sessions, Touched};
pub use sign_outs::SignOuts;
pub use sockets::Sockets;
pub use store_error::StoreError;
pub use subscription_counts::{SubscriptionCounts, SubscriptionsCounted};
pub use subscriptions::{
    Departure, Departures, Due, JoinsPresence, Left, Listing, SubscribeResult, SubscriberPage,
    Subscribers, Subscription, Subscriptions,
};
pub use verifier::{CLOCK_LEEWAY, Identity, MAX_TOKEN_LIFETIME, TokenVerifier, VerifyError};
pub use workers::Workers;
