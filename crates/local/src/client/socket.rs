//! A connection to a stack: frames out, frames in.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as Part;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::ClientError;
use super::access::Access;

/// How long a connection may take to open, and a frame to be answered: longer
/// than API Gateway waits for a function.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the server may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// API Gateway's limits for a message and for a frame of WebSocket's, in bytes.
pub(super) const MAX_MESSAGE_BYTES: u64 = 128 * 1024;
const MAX_PART_BYTES: usize = 32 * 1024;

/// A server that says more is wrong.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// More than any server of the protocol sends.
const MAX_RECEIVED_BYTES: usize = 1024 * 1024;

/// Why a connection ended that was open, for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Lost(pub(super) String);

/// An open connection.
pub(super) struct ClientSocket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    sent: u64,
}

/// A frame from the server.
pub(super) struct Frame {
    /// One line of JSON, as it came.
    pub(super) text: String,
    head: Head,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    r#type: Option<String>,
    correlation_id: Option<String>,
    data: Option<Box<RawValue>>,
}

/// The `data` of an `error` frame.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorData {
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
    retry_after_ms: Option<u64>,
}

impl ErrorData {
    /// How long to wait, if the server says so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let wait = self.retry_after_ms.map(Duration::from_millis);
        wait.map(|wait| wait.min(MAX_RETRY_AFTER))
    }

    /// Whether the same frame would be refused again.
    pub(super) fn is_lasting(&self) -> bool {
        !["API Gateway", "CHANNEL_BUSY", "INTERNAL", "RATE_LIMITED"].contains(&&*self.code)
    }
}

#[derive(Serialize)]
struct Sent<'a, D> {
    r#type: &'a str,
    version: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<D>,
}

impl Frame {
    fn read(text: &str) -> Self {
        Self {
            // JSON needs no line breaks, but may have some between its tokens.
            text: text.replace(['\r', '\n'], " "),
            head: serde_json::from_str(text).unwrap_or_default(),
        }
    }

    /// Empty if it has none: API Gateway's own frames.
    pub(super) fn kind(&self) -> &str {
        self.head.r#type.as_deref().unwrap_or_default()
    }

    /// The id of the frame that this one answers.
    pub(super) fn answered(&self) -> Option<&str> {
        self.head.correlation_id.as_deref()
    }

    /// The frame's `data`, if it has that form.
    pub(super) fn data<'de, T: Deserialize<'de>>(&'de self) -> Option<T> {
        serde_json::from_str(self.head.data.as_ref()?.get()).ok()
    }

    /// What an `error` frame says. API Gateway's own frames count as one: they
    /// say that the function could not run.
    pub(super) fn error(&self) -> Option<ErrorData> {
        #[derive(Deserialize)]
        struct Bare {
            message: String,
        }
        match self.kind() {
            "error" => self.data(),
            "" => serde_json::from_str(&self.text)
                .ok()
                .map(|Bare { message }| ErrorData {
                    code: "API Gateway".into(),
                    message,
                    retry_after_ms: None,
                }),
            _ => None,
        }
    }
}

impl ClientSocket {
    pub(super) async fn open(access: &Access) -> Result<Self, ClientError> {
        let url = access.url.to_string();
        let failed = |cause: String| ClientError::Connect {
            url: url.clone(),
            cause,
        };
        let mut request = url
            .as_str()
            .into_client_request()
            .map_err(|error| failed(error.to_string()))?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", access.token))
            .map_err(|_| failed("the token has characters that no token has".into()))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        // An error only means that there is one already.
        let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_RECEIVED_BYTES))
            .max_frame_size(Some(MAX_RECEIVED_BYTES));
        let connecting = connect_async_with_config(request, Some(limits), true);
        match timeout(ANSWER_TIMEOUT, connecting).await {
            Ok(Ok((stream, _))) => Ok(Self { stream, sent: 0 }),
            Ok(Err(Error::Http(response))) => Err(ClientError::Handshake {
                url,
                status: response.status(),
                advice: advice(response.status()),
            }),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(no_answer())),
        }
    }

    /// Sends a frame. Returns the id that its reply will have.
    pub(super) async fn send<D: Serialize>(
        &mut self,
        frame_type: &str,
        data: Option<D>,
    ) -> Result<String, Lost> {
        self.sent += 1;
        let id = self.sent.to_string();
        let frame = Sent {
            r#type: frame_type,
            version: "1.0",
            id: &id,
            data,
        };
        let text = serde_json::to_string(&frame).map_err(|error| Lost(error.to_string()))?;
        let sending = timeout(ANSWER_TIMEOUT, self.send_text(text)).await;
        match sending {
            Ok(Ok(())) => Ok(id),
            Ok(Err(error)) => Err(Lost(error.to_string())),
            Err(_) => Err(Lost("the server reads nothing".into())),
        }
    }

    async fn send_text(&mut self, text: String) -> Result<(), Error> {
        if text.len() <= MAX_PART_BYTES {
            return self.stream.send(Message::text(text)).await;
        }
        let bytes = Bytes::from(text);
        let parts = bytes.len().div_ceil(MAX_PART_BYTES);
        for part in 0..parts {
            let start = part * MAX_PART_BYTES;
            let end = bytes.len().min(start + MAX_PART_BYTES);
            let kind = if part == 0 {
                Data::Text
            } else {
                Data::Continue
            };
            let piece = bytes.slice(start..end);
            let piece = Part::message(piece, OpCode::Data(kind), part + 1 == parts);
            self.stream.feed(Message::Frame(piece)).await?;
        }
        self.stream.flush().await
    }

    /// The next frame that concerns the caller: the server's `ping` is answered
    /// here. Cancelling this loses no frame.
    pub(super) async fn next(&mut self) -> Result<Frame, Lost> {
        loop {
            let frame = match self.stream.next().await {
                Some(Ok(Message::Text(text))) => Frame::read(&text),
                Some(Ok(Message::Close(close))) => return Err(closed(close)),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(Lost(format!("the connection broke: {error}"))),
                None => return Err(Lost("the connection broke".into())),
            };
            if frame.kind() != "ping" {
                return Ok(frame);
            }
            self.send("pong", None::<()>).await?;
        }
    }

    /// Waits for the reply to a frame. Other frames are dropped.
    pub(super) async fn reply(&mut self, id: &str) -> Result<Frame, Lost> {
        let replying = async {
            loop {
                let frame = self.next().await?;
                // API Gateway's own errors name no frame, and neither do errors
                // about a frame that was not read.
                let is_reply = frame
                    .answered()
                    .map_or(frame.error().is_some(), |it| it == id);
                if is_reply {
                    return Ok(frame);
                }
            }
        };
        let reply = timeout(ANSWER_TIMEOUT, replying).await;
        reply.unwrap_or_else(|_| Err(Lost(no_answer())))
    }

    /// Closes the connection, and waits a moment for the server to do the same.
    pub(super) async fn close(mut self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let closing = async {
            if self.stream.close(Some(frame)).await.is_ok() {
                while let Some(Ok(_)) = self.stream.next().await {}
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }
}

pub(super) fn no_answer() -> String {
    format!("no answer within {} seconds", ANSWER_TIMEOUT.as_secs())
}

fn closed(close: Option<CloseFrame>) -> Lost {
    Lost(match close {
        None => "the server closed the connection".into(),
        Some(CloseFrame { code, reason }) if reason.is_empty() => {
            format!("the server closed the connection with {}", u16::from(code))
        }
        Some(CloseFrame { code, reason }) => format!(
            "the server closed the connection with {} {reason}",
            u16::from(code)
        ),
    })
}

/// What to do about a status that refuses a handshake, as in docs/PROTOCOL.md.
fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => {
            "The token has expired, or this stack does not accept it: check its issuer and client, and get a new one."
        }
        403 => {
            "Check the URL, with its stage, like …/dev. Or the stack refuses clients without an Origin."
        }
        429 => {
            "The user has too many connections, or the stack gets too many at once. Close some, or try again later."
        }
        502 | 504 => "The function that opens connections failed; its log says why.",
        503 => {
            "The stack is full or cannot reach its database or the issuer's keys. Try again later."
        }
        _ => "Is this the WebSocket URL of a Belfry stack?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_line_and_anything_may_come() {
        let frame = Frame::read("{\"type\":\"pong\",\r\n \"correlationId\":\"7\"}");
        assert_eq!(frame.text.lines().count(), 1);
        assert_eq!(frame.kind(), "pong");
        assert_eq!(frame.answered(), Some("7"));
        assert!(frame.error().is_none());
        for text in ["", "null", "[]", "7", "{\"type\":7}", "{\"data\":null}"] {
            let frame = Frame::read(text);
            assert_eq!(frame.kind(), "", "{text}");
            assert_eq!(frame.answered(), None, "{text}");
            assert!(frame.error().is_none(), "{text}");
        }
    }

    #[test]
    fn both_kinds_of_error_are_read() {
        let frame = Frame::read(
            r#"{"type":"error","data":{"code":"RATE_LIMITED","message":"m","retryAfterMs":5}}"#,
        );
        let error = frame.error().unwrap();
        assert_eq!(error.retry_after(), Some(Duration::from_millis(5)));
        assert!(!error.is_lasting());
        let frame = Frame::read(r#"{"message":"Internal server error","connectionId":"x"}"#);
        assert_eq!(frame.error().unwrap().message, "Internal server error");
    }
}
