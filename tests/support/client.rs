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

use crate::stack::{PATIENCE, Stack};

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
    let connecting = tokio::time::timeout(PATIENCE, connecting).await;
    let (stream, response) = connecting.expect("the handshake ends")?;
    let protocol = response
        .headers()
        .get("sec-websocket-protocol")
        .map(|value| value.to_str().expect("text").to_owned());
    Ok(Socket { stream, protocol })
}

/// Opens a socket.
///
/// # Panics
/// If it is refused.
pub async fn open(url: &str, headers: &[(&str, &str)]) -> Socket {
    handshake(url, headers, None)
        .await
        .unwrap_or_else(|error| panic!("refused: {error}"))
}

/// Opens a socket that takes no frame with more than so many bytes.
///
/// # Panics
/// If it is refused.
pub async fn open_with_frames_up_to(url: &str, bytes: usize) -> Socket {
    let limits = WebSocketConfig::default().max_frame_size(Some(bytes));
    handshake(url, &[], Some(limits))
        .await
        .unwrap_or_else(|error| panic!("refused: {error}"))
}

/// Opens a socket, or says with which status it was refused.
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
        Err(error) => panic!("no refusal but {error}"),
    }
}

/// The status that a handshake is refused with.
///
/// # Panics
/// If it is not refused.
pub async fn refused(url: &str, headers: &[(&str, &str)]) -> u16 {
    match try_open(url, headers).await {
        Ok(_) => panic!("the handshake was not refused"),
        Err(status) => status,
    }
}

impl Stack {
    /// Opens a user's socket, the token in the `Authorization` header.
    pub async fn connect(&self, user: &str) -> Socket {
        let bearer = format!("Bearer {}", self.token(user).await);
        open(&self.ready.websocket, &[("Authorization", &bearer)]).await
    }
}

impl Socket {
    /// Sends a text frame.
    pub async fn send(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("sent");
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: &'static [u8]) {
        self.stream
            .send(Message::binary(Bytes::from_static(bytes)))
            .await
            .expect("sent");
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
            // A server that has closed meanwhile takes no more.
            let _ = self.stream.feed(Message::Frame(frame)).await;
        }
        let _ = self.stream.flush().await;
    }

    /// Sends a control ping and waits for its pong.
    ///
    /// # Panics
    /// If something else comes first.
    pub async fn ping(&mut self) {
        let ping = Message::Ping(Bytes::from_static(b"there?"));
        self.stream.send(ping).await.expect("sent");
        match self.next().await {
            Some(Ok(Message::Pong(answer))) => assert_eq!(answer.as_ref(), b"there?"),
            other => panic!("no pong but {other:?}"),
        }
    }

    /// The next text frame.
    ///
    /// # Panics
    /// If the connection ends first or nothing comes.
    pub async fn receive_text(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
            other => panic!("no text but {other:?}"),
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

    /// Sends a frame and waits for the next one, whatever it is.
    pub async fn ask_text(&mut self, text: &str) -> String {
        self.send(text).await;
        self.receive_text().await
    }

    /// Shows that nothing is waiting: the next frame is the answer to this
    /// question and not something that was sent before it.
    pub async fn expect_nothing(&mut self) {
        let pong = self
            .ask(r#"{"type":"ping","version":"1.0","id":"nothing-before-me"}"#)
            .await;
        assert_eq!(
            pong["correlationId"], "nothing-before-me",
            "a frame that nobody expected: {pong}"
        );
    }

    /// This connection's id, as `welcome` says.
    pub async fn id(&mut self) -> String {
        let welcome = self
            .ask(&json!({"type": "hello", "version": "1.0"}).to_string())
            .await;
        welcome["data"]["connectionId"]
            .as_str()
            .expect("a connection id")
            .to_owned()
    }

    /// Waits until the server closes, and returns the code and the reason.
    ///
    /// # Panics
    /// If a frame comes first.
    pub async fn closed(&mut self) -> (u16, String) {
        self.closed_within(PATIENCE).await
    }

    /// The same, for what may take longer.
    ///
    /// # Panics
    /// If a frame comes first, or nothing in time.
    pub async fn closed_within(&mut self, limit: Duration) -> (u16, String) {
        let next = tokio::time::timeout(limit, self.stream.next()).await;
        match next.expect("the server closes in time") {
            Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                (code.into(), reason.as_str().to_owned())
            }
            other => panic!("no close but {other:?}"),
        }
    }

    /// Whether the connection ends within this time, whatever comes before.
    pub async fn ended_within(&mut self, limit: Duration) -> bool {
        let ended = async { while self.next_text().await.is_some() {} };
        tokio::time::timeout(limit, ended).await.is_ok()
    }

    /// The next text, however long it takes; nothing at the connection's end.
    /// May be cancelled.
    pub async fn next_text(&mut self) -> Option<String> {
        loop {
            match self.stream.next().await? {
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Closes as a well-behaved client does.
    ///
    /// # Panics
    /// If the server does not answer the close.
    pub async fn close(self) {
        self.close_with(None).await;
    }

    /// Closes with a code and a reason, or without.
    ///
    /// # Panics
    /// If the server does not answer the close.
    pub async fn close_with(mut self, said: Option<(u16, &str)>) {
        let frame = said.map(|(code, reason)| CloseFrame {
            code: code.into(),
            reason: reason.into(),
        });
        self.stream.close(frame).await.expect("closed");
        loop {
            match self.next().await {
                Some(Ok(_)) => {}
                None => return,
                Some(Err(error)) => panic!("no clean end but {error}"),
            }
        }
    }

    async fn next(&mut self) -> Option<Result<Message, Error>> {
        let next = tokio::time::timeout(PATIENCE, self.stream.next()).await;
        next.expect("the server says something")
    }
}
