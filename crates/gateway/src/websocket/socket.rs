//! One client's socket, from the upgrade to its end.

use std::sync::Arc;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::WebSocketApi;
use super::connection::{Connection, End, Outgoing};
use super::event::Place;

/// API Gateway's limits for one frame and for one message, in bytes.
const MAX_FRAME_BYTES: usize = 32 * 1024;
const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// The library's own buffers: its default of 128 KB for each socket would be
/// most of what a connection costs.
const BUFFER_BYTES: usize = 4 * 1024;

/// How many frames of one connection are handled at a time. A client that
/// sends faster waits: its next frames stay unread.
const CONCURRENT_FRAMES: usize = 64;

/// How long the client may take to answer a close.
const CLOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// Carries messages both ways until one side ends it, and says how it ended.
pub(super) async fn run(
    api: &WebSocketApi,
    connection: &Arc<Connection>,
    place: &Place,
    io: Upgraded,
    outgoing: Receiver<Outgoing>,
) -> End {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_frame_size(Some(MAX_FRAME_BYTES))
        .max_message_size(Some(MAX_MESSAGE_BYTES));
    let stream =
        WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, Some(config)).await;
    let (mut sink, mut frames) = stream.split();
    let end = tokio::select! {
        end = receive(api, connection, place, &mut frames) => end,
        end = send(&mut sink, outgoing) => end,
        end = connection.cut() => end,
    };
    // A client that is gone cannot be told, one that does not listen is not waited for.
    if end.code != 1006 {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, say_goodbye(sink, frames, &end)).await;
    }
    end
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

async fn send(sink: &mut SplitSink<Stream, Message>, mut outgoing: Receiver<Outgoing>) -> End {
    while let Some(message) = outgoing.recv().await {
        match message {
            Outgoing::Close(end) => return end,
            Outgoing::Text(text) => {
                if sink.send(Message::text(text)).await.is_err() {
                    break;
                }
            }
        }
    }
    End::abnormal()
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
                    return End::abnormal();
                };
                // Frames of one connection run concurrently, as on AWS.
                let (api, connection, place) = (api.clone(), Arc::clone(connection), place.clone());
                tokio::spawn(async move {
                    api.dispatch(&connection, &place, &text).await;
                    drop(slot);
                });
            }
            Some(Ok(Message::Binary(_))) => return End::binary(),
            // Answered by the library; no activity.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(None))) => return End::no_status(),
            Some(Ok(Message::Close(Some(frame)))) => return closed_by_client(&frame),
            Some(Err(Error::Capacity(_))) => return End::too_large(),
            Some(Err(Error::Utf8(_))) => return End::not_utf8(),
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                return End::abnormal();
            }
            Some(Err(Error::Protocol(_))) => return End::protocol_error(),
            Some(Err(_)) | None => return End::abnormal(),
        }
    }
}

fn closed_by_client(frame: &CloseFrame) -> End {
    match (u16::from(frame.code), frame.reason.as_str()) {
        (1000, _) => End::normal(),
        (code, reason) => End::new(code, reason),
    }
}
