use std::future::Future;
use std::time::Duration;

use belfry_protocol::HookEvent;

use super::StoreError;
use crate::hooks::{HookSubject, PendingEvent};
use crate::time::UnixMillis;

/// The longest that the application's function may take for one event.
pub const HOOK_TIME: Duration = Duration::from_secs(10);

/// A subject with events that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingSubject {
    pub subject: HookSubject,
    /// When the oldest of them happened.
    pub since: UnixMillis,
}

/// The oldest events of a subject, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingEvents {
    pub events: Vec<PendingEvent>,
    /// Whether there are more.
    pub more: bool,
}

/// The events that the application is to be told of, until it was told.
///
/// The store writes an event together with what makes it true:
/// [`Admissions`](super::Admissions) and everything that removes a row, and
/// [`Subscriptions`](super::Subscriptions) and [`Presence`](super::Presence)
/// when a user joins or leaves. If the application has no hook, it writes none.
pub trait HookEvents: Send + Sync {
    /// The subjects that have events. An event of the last seconds may be
    /// missing.
    fn waiting(&self) -> impl Future<Output = Result<Vec<WaitingSubject>, StoreError>> + Send;

    /// The oldest events of a subject. If an event is listed, so is each earlier
    /// one that was not forgotten.
    fn events_of(
        &self,
        subject: &HookSubject,
    ) -> impl Future<Output = Result<PendingEvents, StoreError>> + Send;

    /// Forgets an event.
    fn forget_event(
        &self,
        event: &PendingEvent,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The application's function that is told of events.
pub trait Listener: Send + Sync {
    /// Tells it of an event and waits for at most [`HOOK_TIME`]. After an error,
    /// it may have been told all the same. The text is for the operator.
    fn tell(&self, event: &HookEvent) -> impl Future<Output = Result<(), String>> + Send;
}

/// Keeps events that the application could not be told of, for an operator.
pub trait DeadLetters: Send + Sync {
    fn keep(&self, event: &HookEvent) -> impl Future<Output = Result<(), String>> + Send;
}
