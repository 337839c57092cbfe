//! One client's socket, from the upgrade to its end.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::WebSocketApi;
use super::assumed::{self, PING_IS_ACTIVITY};
use super::connection::{CloseStatus, Connection, Outgoing};
use super::event::ApiEndpoint;
use super::limits::{MAX_FRAME_BYTES, MAX_MESSAGE_BYTES};
use crate::console::Direction;
use crate::server::RecordingStream;

/// The WebSocket library's read buffer. Its default of 128 KB would be most of a
/// connection's memory.
const BUFFER_BYTES: usize = 2 * 1024;

/// Messages of one connection that are handled concurrently. Further ones stay
/// unread.
const MAX_CONCURRENT_MESSAGES: usize = 64;

/// How long the client may take to complete the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Stream = WebSocketStream<TcpStream>;

/// Carries messages in both directions until either side ends the connection.
pub(super) async fn run(
    api: &WebSocketApi,
    connection: &Arc<Connection>,
    endpoint: &ApiEndpoint,
    upgraded: Upgraded,
    outgoing: Receiver<Outgoing>,
) -> CloseStatus {
    let Some(stream) = stream(upgraded).await else {
        return CloseStatus::assumed(assumed::LOST);
    };
    let (mut sink, mut frames) = stream.split();
    let end = {
        let carried = pin!(async {
            tokio::select! {
                end = receive(api, connection, endpoint, &mut frames) => end,
                end = send(api, connection, &mut sink, outgoing) => end,
            }
        });
        tokio::select! {
            end = while_not_frozen(api, &connection.peer.id, carried) => end,
            end = connection.terminated() => end,
            end = connection.expired(&api.inner.limits) => end,
        }
    };
    // A lost client gets no close frame, and a client that does not read is not
    // waited for.
    if end.code != assumed::LOST.0 {
        // Boxed, or every open connection would have room for its buffer.
        let closing = Box::pin(close(sink, frames, end.clone()));
        if api.inner.faults.freezes(&connection.peer.id) {
            close_when_thawed(api, connection, closing);
        } else {
            closing.await;
        }
    }
    end
}

/// Pauses while a fault freezes this client: nothing is read or sent, as if its
/// network had silently gone.
async fn while_not_frozen(
    api: &WebSocketApi,
    id: &str,
    mut carried: Pin<&mut impl Future<Output = CloseStatus>>,
) -> CloseStatus {
    loop {
        tokio::select! {
            biased;
            () = api.inner.faults.frozen(id) => api.inner.faults.thawed(id).await,
            end = &mut carried => return end,
        }
    }
}

/// A frozen client hears of its connection's end when it hears again.
fn close_when_thawed(
    api: &WebSocketApi,
    connection: &Arc<Connection>,
    closing: impl Future<Output = ()> + Send + 'static,
) {
    let (faults, connection) = (api.inner.faults.clone(), Arc::clone(connection));
    tokio::spawn(async move {
        faults.thawed(&connection.peer.id).await;
        closing.await;
    });
}

/// The WebSocket over an upgraded request's TCP stream, without the HTTP layers.
async fn stream(upgraded: Upgraded) -> Option<Stream> {
    let parts = upgraded.downcast::<TokioIo<RecordingStream>>().ok()?;
    let io = parts.io.into_inner().into_stream();
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_frame_size(Some(MAX_FRAME_BYTES))
        .max_message_size(Some(MAX_MESSAGE_BYTES));
    let already_read = parts.read_buf.to_vec();
    Some(WebSocketStream::from_partially_read(io, already_read, Role::Server, Some(config)).await)
}

/// Completes the closing handshake, unless the client takes too long.
async fn close(sink: SplitSink<Stream, Message>, frames: SplitStream<Stream>, end: CloseStatus) {
    let handshake = closing_handshake(sink, frames, end);
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, handshake).await;
}

/// RFC 6455, section 7.1.1.
async fn closing_handshake(
    mut sink: SplitSink<Stream, Message>,
    frames: SplitStream<Stream>,
    end: CloseStatus,
) {
    let code = if end.code == 1005 { 1000 } else { end.code };
    let frame = CloseFrame {
        code: CloseCode::from(code),
        reason: end.reason.as_str().into(),
    };
    // If the client closed first, the library refuses this frame and flushes its
    // own close frame instead.
    let _ = sink.send(Message::Close(Some(frame))).await;
    let _ = sink.flush().await;
    let Ok(mut stream) = sink.reunite(frames) else {
        return;
    };
    // Read and drop whatever the client still sends: closing a socket with unread
    // bytes resets it, and the reset overtakes the close frame.
    let io = stream.get_mut();
    let mut discarded = [0; BUFFER_BYTES];
    if io.shutdown().await.is_ok() {
        while let Ok(1..) = io.read(&mut discarded).await {}
    }
}

async fn send(
    api: &WebSocketApi,
    connection: &Connection,
    sink: &mut SplitSink<Stream, Message>,
    mut outgoing: Receiver<Outgoing>,
) -> CloseStatus {
    while let Some(message) = outgoing.recv().await {
        let text = match message {
            Outgoing::Close(end) => return end,
            Outgoing::Text(text) => text,
        };
        let bytes = text.len();
        let recorder = &api.inner.recorder;
        recorder.frame(&connection.peer.id, Direction::Out, &text);
        let sent = if bytes <= MAX_FRAME_BYTES {
            sink.send(Message::text(text)).await
        } else {
            send_in_frames(sink, text.into()).await
        };
        connection.count_sent(bytes);
        if sent.is_err() {
            break;
        }
    }
    CloseStatus::assumed(assumed::LOST)
}

/// Sends a message that is too large for one frame (RFC 6455, section 5.4).
async fn send_in_frames(sink: &mut SplitSink<Stream, Message>, text: Bytes) -> Result<(), Error> {
    let mut rest = text;
    let mut kind = Data::Text;
    while !rest.is_empty() {
        let payload = rest.split_to(rest.len().min(MAX_FRAME_BYTES));
        let frame = Frame::message(payload, OpCode::Data(kind), rest.is_empty());
        sink.feed(Message::Frame(frame)).await?;
        kind = Data::Continue;
    }
    sink.flush().await
}

async fn receive(
    api: &WebSocketApi,
    connection: &Arc<Connection>,
    endpoint: &ApiEndpoint,
    frames: &mut SplitStream<Stream>,
) -> CloseStatus {
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT_MESSAGES));
    loop {
        match frames.next().await {
            Some(Ok(Message::Text(text))) => {
                connection.count_received();
                let recorder = &api.inner.recorder;
                recorder.frame(&connection.peer.id, Direction::In, &text);
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return CloseStatus::assumed(assumed::LOST);
                };
                // Messages of one connection run concurrently, as on AWS.
                let (api, connection, endpoint) =
                    (api.clone(), Arc::clone(connection), endpoint.clone());
                tokio::spawn(async move {
                    api.dispatch(&connection, &endpoint, &text).await;
                    drop(permit);
                });
            }
            Some(Ok(Message::Binary(_))) => return CloseStatus::assumed(assumed::BINARY),
            // The library answers control frames.
            Some(Ok(Message::Ping(_))) if PING_IS_ACTIVITY => connection.mark_active(),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(None))) => return CloseStatus::no_status(),
            Some(Ok(Message::Close(Some(frame)))) => return closed_by_client(&frame),
            Some(Err(Error::Capacity(_))) => return CloseStatus::assumed(assumed::TOO_LARGE),
            Some(Err(Error::Utf8(_))) => return CloseStatus::assumed(assumed::NOT_UTF8),
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                return CloseStatus::assumed(assumed::LOST);
            }
            Some(Err(Error::Protocol(_))) => return CloseStatus::assumed(assumed::PROTOCOL_ERROR),
            Some(Err(_)) | None => return CloseStatus::assumed(assumed::LOST),
        }
    }
}

fn closed_by_client(frame: &CloseFrame) -> CloseStatus {
    match (u16::from(frame.code), frame.reason.as_str()) {
        (1000, _) => CloseStatus::normal(),
        (code, reason) => CloseStatus::new(code, reason),
    }
}
