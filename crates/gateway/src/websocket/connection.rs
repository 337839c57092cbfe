//! An open connection, as the rest of the gateway sees it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How many messages may wait for a client that reads slowly. A post beyond
/// that is answered 429, as API Gateway does when a client's buffer is full.
const BUFFERED_MESSAGES: usize = 64;

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

    /// The client closed without saying why.
    pub(super) fn no_status() -> Self {
        Self::new(1005, "Client-side close frame status not set")
    }

    /// The network went away. The words are not established on AWS.
    pub(super) fn abnormal() -> Self {
        Self::new(1006, "Connection Closed Abnormally")
    }

    /// The client sent binary data, which a WebSocket API does not take.
    pub(super) fn binary() -> Self {
        Self::new(1003, "Binary is not supported")
    }

    /// The client sent more than a frame or a message may hold.
    pub(super) fn too_large() -> Self {
        Self::new(1009, "Message too large")
    }

    /// The client's text is no UTF-8 (RFC 6455, section 8.1).
    pub(super) fn not_utf8() -> Self {
        Self::new(1007, "Invalid UTF-8")
    }

    /// The client does not speak WebSocket as it should.
    pub(super) fn protocol_error() -> Self {
        Self::new(1002, "Protocol error")
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
    last_active_ms: AtomicU64,
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
        let last_active_ms = AtomicU64::new(peer.connected_at_ms);
        let connection = Self {
            peer,
            outgoing,
            last_active_ms,
            cut: Notify::new(),
        };
        (connection, receiver)
    }

    /// Takes a message, or says at once why not.
    pub(super) fn try_send(&self, text: String) -> Result<(), NotSent> {
        self.outgoing
            .try_send(Outgoing::Text(text))
            .map_err(|error| match error {
                TrySendError::Full(_) => NotSent::Full,
                TrySendError::Closed(_) => NotSent::Gone,
            })?;
        self.active();
        Ok(())
    }

    /// Sends a reply to a frame, waiting for a slow client.
    pub(super) async fn send(&self, text: String) {
        // A client that is gone needs no reply.
        if self.outgoing.send(Outgoing::Text(text)).await.is_ok() {
            self.active();
        }
    }

    /// Ends the connection after what is already on its way. A client that
    /// does not read is not waited for.
    pub(super) async fn close(&self, end: End) {
        let closing = self.outgoing.send(Outgoing::Close(end));
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, async {
            if closing.await.is_ok() {
                self.outgoing.closed().await;
            }
        })
        .await;
        self.cut.notify_one();
    }

    /// Waits until the connection is ended without regard to what is on its way.
    pub(super) async fn cut(&self) -> End {
        self.cut.notified().await;
        End::normal()
    }

    /// Notes a message in either direction.
    pub(super) fn active(&self) {
        self.last_active_ms
            .store(crate::clock::now_ms(), Ordering::Relaxed);
    }

    pub(super) fn last_active_ms(&self) -> u64 {
        self.last_active_ms.load(Ordering::Relaxed)
    }
}
