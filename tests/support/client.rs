//! A WebSocket client.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::patience::{PATIENCE, soon};
use crate::stack::Stack;

/// An open socket.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The subprotocol that the server chose.
    pub protocol: Option<String>,
}

async fn handshake(
    url: &str,
    headers: &[(&str, &str)],
    limits: Option<WebSocketConfig>,
) -> Result<Socket, Error> {
    let mut request = url.into_client_request()?;
    for (name, value) in headers {
        let name = HeaderName::try_from(*name).expect("a header name");
        request
            .headers_mut()
            .append(name, HeaderValue::try_from(*value).expect("a header value"));
    }
    let connecting = connect_async_with_config(request, limits, true);
    let (stream, response) = soon("the handshake ends", connecting).await?;
    let protocol = response
        .headers()
        .get("sec-websocket-protocol")
        .map(|value| value.to_str().expect("text").to_owned());
    Ok(Socket { stream, protocol })
}

/// # Panics
/// If the handshake is refused.
pub async fn open(url: &str, headers: &[(&str, &str)]) -> Socket {
    handshake(url, headers, None)
        .await
        .unwrap_or_else(|error| panic!("refused: {error}"))
}

/// Opens a socket that rejects frames larger than this.
///
/// # Panics
/// If it is refused.
pub async fn open_with_frames_up_to(url: &str, bytes: usize) -> Socket {
    let limits = WebSocketConfig::default().max_frame_size(Some(bytes));
    handshake(url, &[], Some(limits))
        .await
        .unwrap_or_else(|error| panic!("refused: {error}"))
}

/// Opens a socket, or returns the status that refused it.
///
/// # Errors
/// The status.
///
/// # Panics
/// If the server does not speak HTTP.
pub async fn try_open(url: &str, headers: &[(&str, &str)]) -> Result<Socket, u16> {
    match handshake(url, headers, None).await {
        Ok(socket) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("neither opened nor refused: {error}"),
    }
}

/// Returns the status that refuses a handshake.
///
/// # Panics
/// If it is not refused.
pub async fn refused(url: &str, headers: &[(&str, &str)]) -> u16 {
    match try_open(url, headers).await {
        Ok(_) => panic!("the handshake was not refused"),
        Err(status) => status,
    }
}

/// A frame whose answer has its type as `correlationId`.
#[must_use]
pub fn request(frame_type: &str, data: &Value) -> String {
    json!({"type": frame_type, "version": "1.0", "id": frame_type, "data": data}).to_string()
}

impl Stack {
    /// Opens a user's socket with the token in the `Authorization` header.
    pub async fn connect(&self, user: &str) -> Socket {
        let bearer = format!("Bearer {}", self.token(user).await);
        open(&self.ready.websocket, &[("Authorization", &bearer)]).await
    }
}

impl Socket {
    pub async fn send(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub async fn send_binary(&mut self, bytes: &'static [u8]) {
        self.send_message(Message::binary(Bytes::from_static(bytes)))
            .await;
    }

    /// Like [`Self::send`], but returns `false` if the server has closed the
    /// connection.
    pub async fn try_send(&mut self, text: &str) -> bool {
        let sending = self.stream.send(Message::text(text));
        soon("the server reads a frame", sending).await.is_ok()
    }

    async fn send_message(&mut self, message: Message) {
        let sent = soon("the server reads a frame", self.stream.send(message)).await;
        sent.expect("sent");
    }

    /// Sends one message in frames of these sizes.
    pub async fn send_in_frames(&mut self, sizes: &[usize]) {
        for (index, size) in sizes.iter().enumerate() {
            let kind = if index == 0 {
                Data::Text
            } else {
                Data::Continue
            };
            let is_last = index == sizes.len() - 1;
            let frame = Frame::message("x".repeat(*size), OpCode::Data(kind), is_last);
            // Fails if the server has closed meanwhile.
            let feed = self.stream.feed(Message::Frame(frame));
            let _ = soon("the server reads a frame", feed).await;
        }
        let _ = soon("the server reads a message", self.stream.flush()).await;
    }

    /// Sends a control ping and waits for its pong.
    ///
    /// # Panics
    /// If another frame arrives first.
    pub async fn ping(&mut self) {
        let ping = Message::Ping(Bytes::from_static(b"there?"));
        self.send_message(ping).await;
        match self.next().await {
            Some(Ok(Message::Pong(answer))) => assert_eq!(answer.as_ref(), b"there?"),
            other => panic!("expected a pong, not {other:?}"),
        }
    }

    /// # Panics
    /// If the connection ends first, or no frame arrives in time.
    pub async fn receive_text(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
            other => panic!("expected text, not {other:?}"),
        }
    }

    /// The next text frame, as JSON.
    pub async fn receive(&mut self) -> Value {
        serde_json::from_str(&self.receive_text().await).expect("JSON")
    }

    /// Sends a frame and waits for the next one.
    pub async fn ask(&mut self, text: &str) -> Value {
        self.send(text).await;
        self.receive().await
    }

    /// Sends a frame and returns its answer. Drops every frame that comes before.
    pub async fn request(&mut self, frame_type: &str, data: Value) -> Value {
        self.send(&request(frame_type, &data)).await;
        loop {
            let answer = self.receive().await;
            if answer["correlationId"] == frame_type {
                return answer;
            }
        }
    }

    /// Sends a frame and waits for the next one, which need not be JSON.
    pub async fn ask_text(&mut self, text: &str) -> String {
        self.send(text).await;
        self.receive_text().await
    }

    /// Checks that no frame is waiting: the next one answers this ping, so
    /// nothing was sent before it.
    pub async fn expect_nothing(&mut self) {
        let pong = self
            .ask(r#"{"type":"ping","version":"1.0","id":"nothing-before-me"}"#)
            .await;
        assert_eq!(
            pong["correlationId"], "nothing-before-me",
            "an unexpected frame: {pong}"
        );
    }

    /// Asks for this connection's id with `hello`.
    pub async fn id(&mut self) -> String {
        let welcome = self
            .ask(&json!({"type": "hello", "version": "1.0"}).to_string())
            .await;
        welcome["data"]["connectionId"]
            .as_str()
            .unwrap_or_else(|| panic!("not a welcome: {welcome}"))
            .to_owned()
    }

    /// Waits until the server closes, and returns the code and the reason.
    ///
    /// # Panics
    /// If a frame arrives first, or the server does not close in time.
    pub async fn closed(&mut self) -> (u16, String) {
        self.closed_within(PATIENCE).await
    }

    /// Like [`Self::closed`], with a limit of its own.
    ///
    /// # Panics
    /// If a frame arrives first, or the server does not close in time.
    pub async fn closed_within(&mut self, limit: Duration) -> (u16, String) {
        let next = tokio::time::timeout(limit, self.stream.next()).await;
        let next = next.unwrap_or_else(|_| panic!("not closed after {} s", limit.as_secs()));
        match next {
            Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                (code.into(), reason.as_str().to_owned())
            }
            other => panic!("expected a close, not {other:?}"),
        }
    }

    /// Whether the connection ends within this time, whatever frames arrive.
    pub async fn ended_within(&mut self, limit: Duration) -> bool {
        let ended = async { while self.next_text().await.is_some() {} };
        tokio::time::timeout(limit, ended).await.is_ok()
    }

    /// The next text, or `None` at the connection's end. Waits without a
    /// limit, so callers bring their own; cancel-safe.
    pub async fn next_text(&mut self) -> Option<String> {
        loop {
            match self.stream.next().await? {
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Closes without a code and waits for the server's answer.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn close(self) {
        self.close_with(None).await;
    }

    /// Closes with a code and a reason, and waits for the server's answer.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn close_with(mut self, code: Option<(u16, &str)>) {
        let frame = code.map(|(code, reason)| CloseFrame {
            code: code.into(),
            reason: reason.into(),
        });
        let closing = async {
            self.stream.close(frame).await.expect("closed");
            while let Some(next) = self.stream.next().await {
                next.unwrap_or_else(|error| panic!("not closed cleanly: {error}"));
            }
        };
        soon("the server answers the close", closing).await;
    }

    async fn next(&mut self) -> Option<Result<Message, Error>> {
        soon("a frame arrives", self.stream.next()).await
    }
}
