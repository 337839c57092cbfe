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
    /// When its turn first came after its row was read.
    pub(super) begun: UnixMillis,
    /// How often it was refused: throttled, or by an API that fails.
    pub(super) refused: u32,
    /// When it was first refused.
    pub(super) since: UnixMillis,
    /// When the API began to throttle it, and did nothing else since.
    pub(super) throttled_since: UnixMillis,
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
            throttled_since: now,
            failure: None,
            confirming: false,
        }
    }

    /// The next of its frames, after one was accepted.
    pub(super) fn next_frame(mut self, now: UnixMillis) -> Self {
        self.post.accepted += 1;
        Self {
            begun: self.begun,
            ..Self::first(self.post, now)
        }
    }

    /// The same after its row was read again: what was tried still counts, and
    /// no frame that was accepted is posted twice.
    pub(super) fn read_again(self, post: Post, now: UnixMillis) -> Self {
        let is_same = self.post.frames == post.frames;
        let accepted = if is_same { self.post.accepted } else { 0 };
        Self {
            at: now,
            begun: now,
            post: Post { accepted, ..post },
            ..self
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, connection};

    fn post(frames: &[&str]) -> Post {
        Post {
            recipient: Recipient::from(&connection("c1", "u")),
            frames: frames.iter().map(|frame| (*frame).into()).collect(),
            accepted: 0,
            close: Close::Never,
        }
    }

    #[test]
    fn the_age_of_a_row_is_that_of_all_its_frames() {
        let mut attempt = Attempt::first(post(&["1", "2"]), START);
        attempt.refused = 3;
        let later = START.plus(Duration::from_secs(9));
        let next = attempt.next_frame(later);
        assert_eq!((next.begun, next.at), (START, later));
        assert_eq!((next.post.accepted, next.refused), (1, 0));
    }

    #[test]
    fn a_row_that_was_read_again_begins_nothing_anew() {
        let mut tried = Attempt::first(post(&["1", "2"]), START);
        (tried.refused, tried.post.accepted) = (3, 1);
        let later = START.plus(Duration::from_secs(60));
        let same = tried.clone().read_again(post(&["1", "2"]), later);
        assert_eq!((same.begun, same.at, same.since), (later, later, START));
        assert_eq!((same.post.accepted, same.refused), (1, 3));
        // It gets the messages in one frame now.
        let other = tried.read_again(post(&["1 and 2"]), later);
        assert_eq!((other.post.accepted, other.refused), (0, 3));
        assert_eq!(other.post.next_frame(), "1 and 2");
    }
}
