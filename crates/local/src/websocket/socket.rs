//! One client's socket, from the upgrade to its end.

use std::sync::Arc;

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
use super::connection::{Connection, End, Outgoing};
use super::event::Place;
use super::limits::{MAX_FRAME_BYTES, MAX_MESSAGE_BYTES};
use crate::server::RememberingStream;

/// The library's own buffers: its default of 128 KB for each socket would be
/// most of what a connection costs.
const BUFFER_BYTES: usize = 2 * 1024;

/// How many frames of one connection are handled at a time. A client that
/// sends faster waits: its next frames stay unread.
const CONCURRENT_FRAMES: usize = 64;

/// How long the client may take to answer a close.
const CLOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

type Stream = WebSocketStream<TcpStream>;

/// Carries messages both ways until one side ends it, and says how it ended.
pub(super) async fn run(
    api: &WebSocketApi,
    connection: &Arc<Connection>,
    place: &Place,
    upgraded: Upgraded,
    outgoing: Receiver<Outgoing>,
) -> End {
    let Some(stream) = stream(upgraded).await else {
        return End::assumed(assumed::LOST);
    };
    let (mut sink, mut frames) = stream.split();
    let end = {
        let carried = async {
            tokio::select! {
                end = receive(api, connection, place, &mut frames) => end,
                end = send(connection, &mut sink, outgoing) => end,
            }
        };
        tokio::select! {
            end = unless_frozen(api, &connection.peer.id, carried) => end,
            end = connection.was_cut() => end,
            end = connection.expired(&api.inner.limits) => end,
        }
    };
    // A client that is gone cannot be told, one that does not listen is not waited for.
    if end.code != assumed::LOST.0 {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, say_goodbye(sink, frames, &end)).await;
    }
    end
}

/// Rests for as long as a fault freezes this peer: nothing is read and
/// nothing is sent, as with a client whose network is gone without a word.
async fn unless_frozen(api: &WebSocketApi, id: &str, carried: impl Future<Output = End>) -> End {
    tokio::pin!(carried);
    loop {
        tokio::select! {
            biased;
            () = api.inner.faults.frozen(id) => api.inner.faults.thawed(id).await,
            end = &mut carried => return end,
        }
    }
}

/// The socket under an upgraded request, without the layers that only the
/// request needed.
async fn stream(upgraded: Upgraded) -> Option<Stream> {
    let parts = upgraded.downcast::<TokioIo<RememberingStream>>().ok()?;
    let io = parts.io.into_inner().into_stream();
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_frame_size(Some(MAX_FRAME_BYTES))
        .max_message_size(Some(MAX_MESSAGE_BYTES));
    let begun = parts.read_buf.to_vec();
    Some(WebSocketStream::from_partially_read(io, begun, Role::Server, Some(config)).await)
}

/// Completes the closing handshake (RFC 6455, section 7.1.1).
async fn say_goodbye(mut sink: SplitSink<Stream, Message>, frames: SplitStream<Stream>, end: &End) {
    let code = if end.code == 1005 { 1000 } else { end.code };
    let frame = CloseFrame {
        code: CloseCode::from(code),
        reason: end.reason.as_str().into(),
    };
    // Where the client closed first this is refused, and the library's own
    // answer is what there is to flush.
    let _ = sink.send(Message::Close(Some(frame))).await;
    let _ = sink.flush().await;
    let Ok(mut stream) = sink.reunite(frames) else {
        return;
    };
    // Whatever the client still sends is read and dropped: closing a socket
    // with unread bytes resets it, and the reset overtakes the close frame.
    let io = stream.get_mut();
    let mut dropped = [0; BUFFER_BYTES];
    if io.shutdown().await.is_ok() {
        while let Ok(1..) = io.read(&mut dropped).await {}
    }
}

async fn send(
    connection: &Connection,
    sink: &mut SplitSink<Stream, Message>,
    mut outgoing: Receiver<Outgoing>,
) -> End {
    while let Some(message) = outgoing.recv().await {
        let text = match message {
            Outgoing::Close(end) => return end,
            Outgoing::Text(text) => text,
        };
        let bytes = text.len();
        let sent = if bytes <= MAX_FRAME_BYTES {
            sink.send(Message::text(text)).await
        } else {
            send_in_frames(sink, text.into()).await
        };
        connection.sent(bytes);
        if sent.is_err() {
            break;
        }
    }
    End::assumed(assumed::LOST)
}

/// Sends a message that is too large for one frame (RFC 6455, section 5.4).
async fn send_in_frames(sink: &mut SplitSink<Stream, Message>, text: Bytes) -> Result<(), Error> {
    let mut rest = text;
    let mut kind = Data::Text;
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(MAX_FRAME_BYTES));
        let frame = Frame::message(part, OpCode::Data(kind), rest.is_empty());
        sink.feed(Message::Frame(frame)).await?;
        kind = Data::Continue;
    }
    sink.flush().await
}

async fn receive(
    api: &WebSocketApi,
    connection: &Arc<Connection>,
    place: &Place,
    frames: &mut SplitStream<Stream>,
) -> End {
    let slots = Arc::new(Semaphore::new(CONCURRENT_FRAMES));
    loop {
        match frames.next().await {
            Some(Ok(Message::Text(text))) => {
                connection.active();
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                    return End::assumed(assumed::LOST);
                };
                // Frames of one connection run concurrently, as on AWS.
                let (api, connection, place) = (api.clone(), Arc::clone(connection), place.clone());
                tokio::spawn(async move {
                    api.dispatch(&connection, &place, &text).await;
                    drop(slot);
                });
            }
            Some(Ok(Message::Binary(_))) => return End::assumed(assumed::BINARY),
            // The library answers control frames.
            Some(Ok(Message::Ping(_))) if PING_IS_ACTIVITY => connection.active(),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(None))) => return End::no_status(),
            Some(Ok(Message::Close(Some(frame)))) => return closed_by_client(&frame),
            Some(Err(Error::Capacity(_))) => return End::assumed(assumed::TOO_LARGE),
            Some(Err(Error::Utf8(_))) => return End::assumed(assumed::NOT_UTF8),
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                return End::assumed(assumed::LOST);
            }
            Some(Err(Error::Protocol(_))) => return End::assumed(assumed::PROTOCOL_ERROR),
            Some(Err(_)) | None => return End::assumed(assumed::LOST),
        }
    }
}

fn closed_by_client(frame: &CloseFrame) -> End {
    match (u16::from(frame.code), frame.reason.as_str()) {
        (1000, _) => End::normal(),
        (code, reason) => End::new(code, reason),
    }
}
