//! An open connection, as the rest of the gateway sees it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep_until};

use super::assumed;
use super::limits::Limits;

/// How many messages may wait for a client that reads slowly. A post beyond
/// that is answered 429, as API Gateway does when a client's buffer is full.
const BUFFERED_MESSAGES: usize = 64;

/// How many bytes may wait for it.
const BUFFERED_BYTES: usize = 256 * 1024;

/// How long a client may take to read what is on its way before it is cut off.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What is on its way to the client.
#[derive(Debug)]
pub(super) enum Outgoing {
    Text(String),
    Close(End),
}

/// How a connection ended: what `$disconnect` is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) code: u16,
    pub(super) reason: String,
}

impl End {
    /// API Gateway says this also after DELETE.
    pub(super) fn normal() -> Self {
        Self::new(1000, "Connection Closed Normally")
    }

    /// Nobody said anything for too long, or the API itself goes away.
    pub(super) fn going_away() -> Self {
        Self::new(1001, "Going away")
    }

    /// The client closed without saying why.
    pub(super) fn no_status() -> Self {
        Self::new(1005, "Client-side close frame status not set")
    }

    /// One of the ends that are not established on AWS.
    pub(super) fn assumed((code, reason): (u16, &str)) -> Self {
        Self::new(code, reason)
    }

    pub(super) fn new(code: u16, reason: &str) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
        }
    }
}

/// Who is at the other end, and since when.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) id: String,
    pub(super) connected_at_ms: u64,
    pub(super) source_ip: String,
    pub(super) user_agent: Option<String>,
}

/// The gateway's hold on an open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: Peer,
    outgoing: Sender<Outgoing>,
    /// What waits in `outgoing`, in bytes.
    waiting_bytes: AtomicUsize,
    /// On the clock that no one sets: a laptop that is woken up or told
    /// another time must not cut its connections early.
    opened: Instant,
    opened_at_ms: u64,
    /// When there was a message last, after `opened`.
    last_active_ms: AtomicU64,
    end: OnceLock<End>,
    cut: Notify,
}

/// Why a message was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// The client does not read fast enough.
    Full,
    /// The connection has ended.
    Gone,
}

impl Connection {
    /// A connection, and where its socket finds what is to be sent.
    pub(super) fn new(peer: Peer) -> (Self, Receiver<Outgoing>) {
        let (outgoing, receiver) = channel(BUFFERED_MESSAGES);
        let connection = Self {
            peer,
            outgoing,
            waiting_bytes: AtomicUsize::new(0),
            opened: Instant::now(),
            opened_at_ms: crate::clock::now_ms(),
            last_active_ms: AtomicU64::new(0),
            end: OnceLock::new(),
            cut: Notify::new(),
        };
        (connection, receiver)
    }

    /// Takes a message, or says at once why not.
    pub(super) fn try_send(&self, text: String) -> Result<(), NotSent> {
        let bytes = text.len();
        // The first one always has room, however long it is.
        let fits = |waiting| waiting == 0 || waiting + bytes <= BUFFERED_BYTES;
        self.waiting_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                fits(waiting).then_some(waiting + bytes)
            })
            .map_err(|_| NotSent::Full)?;
        let sent = self.outgoing.try_send(Outgoing::Text(text));
        match sent {
            Ok(()) => {
                self.active();
                Ok(())
            }
            Err(error) => {
                self.sent(bytes);
                Err(match error {
                    TrySendError::Full(_) => NotSent::Full,
                    TrySendError::Closed(_) => NotSent::Gone,
                })
            }
        }
    }

    /// Notes that so many bytes wait no longer.
    pub(super) fn sent(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Sends a reply to a frame, waiting for a slow client.
    pub(super) async fn send(&self, text: String) {
        self.waiting_bytes.fetch_add(text.len(), Ordering::Relaxed);
        // A client that is gone needs no reply.
        if self.outgoing.send(Outgoing::Text(text)).await.is_ok() {
            self.active();
        }
    }

    /// Ends the connection after what is already on its way. A client that
    /// does not read is not waited for.
    pub(super) async fn close(&self, end: End) {
        let closing = self.outgoing.send(Outgoing::Close(end.clone()));
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, async {
            if closing.await.is_ok() {
                self.outgoing.closed().await;
            }
        })
        .await;
        self.cut(end);
    }

    /// Ends the connection without regard to what is on its way. The first end
    /// counts.
    pub(super) fn cut(&self, end: End) {
        let _ = self.end.set(end);
        self.cut.notify_one();
    }

    /// Waits until the connection is cut.
    pub(super) async fn was_cut(&self) -> End {
        self.cut.notified().await;
        self.end.get().cloned().unwrap_or_else(End::normal)
    }

    /// Waits until the connection has been silent, or open, for too long.
    pub(super) async fn expired(&self, limits: &Limits) -> End {
        let end_of_life = self.opened + limits.max_duration;
        loop {
            let last_active = self.opened + self.active_after();
            let silent_until = last_active + limits.idle_timeout;
            let now = Instant::now();
            if end_of_life <= now {
                return End::assumed(assumed::OPEN_TOO_LONG);
            }
            if silent_until <= now {
                return End::going_away();
            }
            sleep_until(end_of_life.min(silent_until)).await;
        }
    }

    /// Notes a message in either direction. Control frames are none.
    pub(super) fn active(&self) {
        let after = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_active_ms.store(after, Ordering::Relaxed);
    }

    fn active_after(&self) -> Duration {
        Duration::from_millis(self.last_active_ms.load(Ordering::Relaxed))
    }

    /// When there was a message last, in milliseconds since the epoch.
    pub(super) fn last_active_ms(&self) -> u64 {
        self.opened_at_ms + self.last_active_ms.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Rate;

    fn connection() -> (Connection, Receiver<Outgoing>) {
        Connection::new(Peer {
            id: "R0oXAdfD0kwCH6w=".into(),
            connected_at_ms: 1_770_660_703_822,
            source_ip: "127.0.0.1".into(),
            user_agent: None,
        })
    }

    fn limits() -> Limits {
        Limits {
            idle_timeout: Duration::from_secs(600),
            max_duration: Duration::from_secs(7_200),
            connects: Rate::new(0, 0),
            requests: Rate::new(0, 0),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_after_the_idle_timeout() {
        let (connection, _outgoing) = connection();
        let begun = Instant::now();
        assert_eq!(connection.expired(&limits()).await, End::going_away());
        assert_eq!(begun.elapsed().as_secs(), 600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_starts_the_silence_again_and_nothing_outlives_the_maximum() {
        let (connection, mut outgoing) = connection();
        let begun = Instant::now();
        let talk = async {
            loop {
                tokio::time::sleep(Duration::from_secs(599)).await;
                connection.try_send("still here".into()).unwrap();
                outgoing.recv().await;
            }
        };
        tokio::select! {
            end = async { connection.expired(&limits()).await } => assert_eq!(end, End::going_away()),
            () = talk => {}
        }
        assert_eq!(begun.elapsed().as_secs(), 7_200);
        assert_eq!(
            connection.last_active_ms(),
            connection.opened_at_ms + 599_000 * 12
        );
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_in_bytes() {
        let (one, _outgoing) = connection();
        let large = "x".repeat(128 * 1024);
        assert_eq!(one.try_send(large.clone()), Ok(()));
        assert_eq!(one.try_send(large.clone()), Ok(()));
        assert_eq!(one.try_send("x".into()), Err(NotSent::Full));
        one.sent(large.len());
        assert_eq!(one.try_send("x".into()), Ok(()));

        let (many, _outgoing) = connection();
        let taken = (0..100).filter(|_| many.try_send("x".into()).is_ok());
        assert_eq!(taken.count(), BUFFERED_MESSAGES);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_end_counts() {
        let (connection, _outgoing) = connection();
        connection.cut(End::going_away());
        connection.cut(End::normal());
        assert_eq!(connection.was_cut().await, End::going_away());
    }
}
