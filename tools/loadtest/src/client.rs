//! One client of a crowd: how it connects, and how it listens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Sends a client's frames, its answers to pings among them.
pub(crate) type Sender = Arc<Mutex<SplitSink<Stream, Message>>>;

/// Receives a client's frames.
pub(crate) type Receiver = SplitStream<Stream>;

/// How a ping of Belfry's begins.
const PING: &str = r#"{"type":"ping""#;

/// The library's buffer for each client, in bytes.
const BUFFER_BYTES: usize = 1_024;

/// How many users have a single connection. Notifications go to these.
pub const SOLO: usize = 100;

/// How many connections every other user has.
const TABS: usize = 10;

/// How many users share this many clients.
#[must_use]
pub fn users_for(clients: usize) -> usize {
    let others = clients.saturating_sub(SOLO).div_ceil(TABS);
    clients.min(SOLO) + others
}

/// The user that a client belongs to, by number.
#[must_use]
pub fn user_of(client: usize, users: usize) -> usize {
    match client {
        _ if users <= SOLO => client % users,
        0..SOLO => client,
        _ => SOLO + (client - SOLO) % (users - SOLO),
    }
}

/// What a client connects with.
#[derive(Debug, Clone)]
pub struct Ticket {
    pub url: Arc<str>,
    /// The value of the header `Authorization`.
    pub authorization: Option<Arc<str>>,
    pub user: Arc<str>,
}

/// A text frame that reached a client.
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    /// The `number` in it, if it has one.
    pub(crate) number: Option<usize>,
}

/// Opens a connection, or says why it could not.
pub(crate) async fn open(ticket: &Ticket, limit: Duration) -> Result<(Sender, Receiver), String> {
    let request = (*ticket.url).into_client_request();
    let mut request = request.map_err(|error| error.to_string())?;
    if let Some(authorization) = &ticket.authorization {
        let value = authorization.parse().map_err(|_| "the token is no text")?;
        request.headers_mut().insert("Authorization", value);
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0);
    let connecting = connect_async_with_config(request, Some(config), true);
    match tokio::time::timeout(limit, connecting).await {
        Err(_) => Err("no answer in time".into()),
        Ok(Ok((stream, _))) => {
            let (sender, receiver) = stream.split();
            Ok((Arc::new(Mutex::new(sender)), receiver))
        }
        Ok(Err(Error::Http(response))) => Err(format!("HTTP {}", response.status())),
        Ok(Err(error)) => Err(error.to_string()),
    }
}

/// Answers pings and reports every other text frame until the connection ends.
/// Returns the code that the server closed with.
pub(crate) async fn listen(
    mut receiver: Receiver,
    sender: Sender,
    arrived: UnboundedSender<Arrival>,
) -> Option<u16> {
    loop {
        match receiver.next().await? {
            Ok(Message::Text(text)) if text.starts_with(PING) => {
                let pong = Message::text(r#"{"type":"pong","version":"1.0"}"#);
                let _ = sender.lock().await.send(pong).await;
            }
            Ok(Message::Text(text)) => {
                let arrival = Arrival {
                    at: Instant::now(),
                    number: number_in(&text),
                };
                // Fails only once the crowd has been dropped.
                let _ = arrived.send(arrival);
            }
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// The number that a frame carries. Searched for, not parsed: there are many
/// frames.
fn number_in(frame: &str) -> Option<usize> {
    let (_, rest) = frame.split_once(r#""number":"#)?;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok()
}
