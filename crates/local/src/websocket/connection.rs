//! An open connection, as the rest of the local stack sees it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, sleep_until};

use super::assumed;
use super::limits::Limits;

/// Messages that may wait for a slow client. A post beyond that gets a 429, as
/// API Gateway responds when a client's buffer is full.
const BUFFERED_MESSAGES: usize = 64;

/// Bytes that may wait for a slow client.
const BUFFERED_BYTES: usize = 256 * 1024;

/// How long a closing connection waits until the client has read its messages.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A message or close frame for the client.
#[derive(Debug)]
pub(super) enum Outgoing {
    Text(String),
    Close(CloseStatus),
}

/// How a connection ended; `$disconnect` gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CloseStatus {
    pub(super) code: u16,
    pub(super) reason: String,
}

impl CloseStatus {
    /// API Gateway uses this after DELETE too.
    pub(super) fn normal() -> Self {
        Self::new(1000, "Connection Closed Normally")
    }

    /// After the idle timeout, or because the API stops.
    pub(super) fn going_away() -> Self {
        Self::new(1001, "Going away")
    }

    /// The client closed without a status.
    pub(super) fn no_status() -> Self {
        Self::new(1005, "Client-side close frame status not set")
    }

    /// A status from [`super::assumed`].
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

/// The client of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) id: String,
    pub(super) connected_at_ms: u64,
    pub(super) source_ip: String,
    pub(super) user_agent: Option<String>,
}

/// A handle to an open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: Peer,
    outgoing: Sender<Outgoing>,
    /// The size of `outgoing`.
    waiting_bytes: AtomicUsize,
    /// Monotonic: a change of the system time must not end connections early.
    opened: Instant,
    opened_at_ms: u64,
    /// The time of the latest message, after `opened`.
    last_active_ms: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    end: OnceLock<CloseStatus>,
    terminated: Notify,
    /// Held by the message that waits for an environment. The connection's
    /// others wait behind it instead of before other clients' messages.
    pub(super) queue: Mutex<()>,
}

/// What the console shows of a connection.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpenConnection {
    pub(crate) id: String,
    pub(crate) connected_at_ms: u64,
    last_active_at_ms: u64,
    source_ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    /// Messages from the client, and to it.
    received: u64,
    sent: u64,
}

/// Why a message was not sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SendError {
    /// The client does not read fast enough.
    BufferFull,
    /// The connection has ended.
    Gone,
}

impl Connection {
    /// Returns a connection, and the messages that its socket must send.
    pub(super) fn new(peer: Peer) -> (Self, Receiver<Outgoing>) {
        let (outgoing, receiver) = channel(BUFFERED_MESSAGES);
        let connection = Self {
            peer,
            outgoing,
            waiting_bytes: AtomicUsize::new(0),
            opened: Instant::now(),
            opened_at_ms: crate::clock::now_ms(),
            last_active_ms: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            end: OnceLock::new(),
            terminated: Notify::new(),
            queue: Mutex::default(),
        };
        (connection, receiver)
    }

    /// Sends a message, or fails at once.
    pub(super) fn try_send(&self, text: String) -> Result<(), SendError> {
        let bytes = text.len();
        // The first message always fits, whatever its size.
        let fits = |waiting| waiting == 0 || waiting + bytes <= BUFFERED_BYTES;
        self.waiting_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                fits(waiting).then_some(waiting + bytes)
            })
            .map_err(|_| SendError::BufferFull)?;
        let sent = self.outgoing.try_send(Outgoing::Text(text));
        match sent {
            Ok(()) => {
                self.mark_active();
                Ok(())
            }
            Err(error) => {
                self.free(bytes);
                Err(match error {
                    TrySendError::Full(_) => SendError::BufferFull,
                    TrySendError::Closed(_) => SendError::Gone,
                })
            }
        }
    }

    /// Frees this many bytes of the buffer.
    fn free(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts a message that has left the buffer.
    pub(super) fn count_sent(&self, bytes: usize) {
        self.free(bytes);
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message of the client's.
    pub(super) fn count_received(&self) {
        self.mark_active();
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn describe(&self) -> OpenConnection {
        OpenConnection {
            id: self.peer.id.clone(),
            connected_at_ms: self.peer.connected_at_ms,
            last_active_at_ms: self.last_active_ms(),
            source_ip: self.peer.source_ip.clone(),
            user_agent: self.peer.user_agent.clone(),
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
        }
    }

    /// Sends a reply to a frame, and waits for a slow client.
    pub(super) async fn send(&self, text: String) {
        self.waiting_bytes.fetch_add(text.len(), Ordering::Relaxed);
        // A lost client needs no reply.
        if self.outgoing.send(Outgoing::Text(text)).await.is_ok() {
            self.mark_active();
        }
    }

    /// Closes the connection after its outgoing messages. A client that does not
    /// read them in time does not delay this.
    pub(super) async fn close(&self, end: CloseStatus) {
        let closing = self.outgoing.send(Outgoing::Close(end.clone()));
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, async {
            if closing.await.is_ok() {
                self.outgoing.closed().await;
            }
        })
        .await;
        self.terminate(end);
    }

    /// Closes the connection now and discards its outgoing messages. The first
    /// close status counts.
    pub(super) fn terminate(&self, end: CloseStatus) {
        let _ = self.end.set(end);
        self.terminated.notify_one();
    }

    /// Waits until the connection is terminated.
    pub(super) async fn terminated(&self) -> CloseStatus {
        self.terminated.notified().await;
        self.end.get().cloned().unwrap_or_else(CloseStatus::normal)
    }

    /// Waits for the idle timeout or the maximum lifetime.
    pub(super) async fn expired(&self, limits: &Limits) -> CloseStatus {
        let lifetime_end = self.opened + limits.max_duration;
        loop {
            let last_active = self.opened + self.last_active_after();
            let idle_until = last_active + limits.idle_timeout;
            let now = Instant::now();
            if lifetime_end <= now {
                return CloseStatus::assumed(assumed::MAX_DURATION_REACHED);
            }
            if idle_until <= now {
                return CloseStatus::going_away();
            }
            sleep_until(lifetime_end.min(idle_until)).await;
        }
    }

    /// Records a message in either direction. Control frames do not count.
    pub(super) fn mark_active(&self) {
        let after = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_active_ms.store(after, Ordering::Relaxed);
    }

    fn last_active_after(&self) -> Duration {
        Duration::from_millis(self.last_active_ms.load(Ordering::Relaxed))
    }

    /// The time of the latest message, in milliseconds since the Unix epoch.
    pub(super) fn last_active_ms(&self) -> u64 {
        self.opened_at_ms + self.last_active_ms.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limiter::RateLimiter;

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
            connects: RateLimiter::new(0, 0),
            requests: RateLimiter::new(0, 0),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_after_the_idle_timeout() {
        let (connection, _outgoing) = connection();
        let started = Instant::now();
        assert_eq!(
            connection.expired(&limits()).await,
            CloseStatus::going_away()
        );
        assert_eq!(started.elapsed().as_secs(), 600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_restarts_the_idle_timeout_and_no_connection_outlives_the_maximum() {
        let (connection, mut outgoing) = connection();
        let started = Instant::now();
        let talk = async {
            loop {
                tokio::time::sleep(Duration::from_secs(599)).await;
                connection.try_send("still here".into()).unwrap();
                outgoing.recv().await;
            }
        };
        tokio::select! {
            end = async { connection.expired(&limits()).await } => assert_eq!(end, CloseStatus::going_away()),
            () = talk => {}
        }
        assert_eq!(started.elapsed().as_secs(), 7_200);
        assert_eq!(
            connection.last_active_ms(),
            connection.opened_at_ms + 599_000 * 12
        );
    }

    #[test]
    fn the_buffer_is_bounded_in_messages_and_in_bytes() {
        let (one, _outgoing) = connection();
        let large = "x".repeat(128 * 1024);
        assert_eq!(one.try_send(large.clone()), Ok(()));
        assert_eq!(one.try_send(large.clone()), Ok(()));
        assert_eq!(one.try_send("x".into()), Err(SendError::BufferFull));
        one.count_sent(large.len());
        assert_eq!(one.try_send("x".into()), Ok(()));

        let (many, _outgoing) = connection();
        let sent = (0..100).filter(|_| many.try_send("x".into()).is_ok());
        assert_eq!(sent.count(), BUFFERED_MESSAGES);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_close_status_counts() {
        let (connection, _outgoing) = connection();
        connection.terminate(CloseStatus::going_away());
        connection.terminate(CloseStatus::normal());
        assert_eq!(connection.terminated().await, CloseStatus::going_away());
    }
}
