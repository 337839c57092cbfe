use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::{Close, Post};
use crate::connections::Recipient;
use crate::time::UnixMillis;

/// Maximum connections that wait for a retry. Beyond it, no first attempt is
/// made: with so many refused, no single client can be the cause.
const CAPACITY: usize = 256;

/// A frame that is to be posted, and those that follow it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attempt {
    /// When it is due.
    pub(super) at: UnixMillis,
    pub(super) post: Post,
    /// When its turn first came.
    pub(super) begun: UnixMillis,
    /// How often it was refused: throttled, or by an API that fails.
    pub(super) refused: u32,
    /// When its patience began: it was first refused.
    pub(super) since: UnixMillis,
    /// If the API failed at the last post.
    pub(super) failure: Option<Failure>,
    /// Whether a first 410 may have come from a pending handshake.
    pub(super) confirming: bool,
}

/// The API fails at a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Failure {
    pub(super) cause: String,
    /// How many posts the API had answered by then.
    pub(super) answers: u64,
    /// How often it has failed while it answered others.
    pub(super) alone: u32,
}

impl Attempt {
    pub(super) fn first(post: Post, now: UnixMillis) -> Self {
        Self {
            at: now,
            post,
            begun: now,
            refused: 0,
            since: now,
            failure: None,
            confirming: false,
        }
    }

    /// Whether nothing was posted to it yet.
    pub(super) fn is_first(&self) -> bool {
        let is_untried = self.refused == 0 && !self.confirming && self.failure.is_none();
        is_untried && self.post.accepted == 0 && !self.is_close()
    }

    /// Whether the connection is closed now, and nothing is posted.
    pub(super) fn is_close(&self) -> bool {
        matches!(self.post.close, Close::Now(_))
    }
}

/// Connections that wait for a retry, while the others are posted to.
#[derive(Debug, Default)]
pub(super) struct RetryQueue(BinaryHeap<Reverse<Attempt>>);

impl RetryQueue {
    pub(super) fn push(&mut self, attempt: Attempt) {
        self.0.push(Reverse(attempt));
    }

    /// Takes the first attempt that is due.
    pub(super) fn pop_due(&mut self, now: UnixMillis) -> Option<Attempt> {
        let is_due = self.0.peek().is_some_and(|Reverse(next)| next.at <= now);
        is_due.then(|| self.0.pop())?.map(|Reverse(next)| next)
    }

    /// The wait until the first attempt is due; `None` if one is due already,
    /// or if none waits.
    pub(super) fn wait(&self, now: UnixMillis) -> Option<Duration> {
        let Reverse(next) = self.0.peek()?;
        (next.at > now).then(|| next.at.since(now))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= CAPACITY
    }

    pub(super) fn recipients(&self) -> impl Iterator<Item = &Recipient> {
        self.0
            .iter()
            .map(|Reverse(attempt)| &attempt.post.recipient)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Attempt> {
        self.0.drain().map(|Reverse(attempt)| attempt)
    }
}
