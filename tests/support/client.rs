//! A WebSocket client.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::stack::{PATIENCE, Stack};

/// An open socket.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The subprotocol that the server chose.
    pub protocol: Option<String>,
}

async fn handshake(url: &str, headers: &[(&str, &str)]) -> Result<Socket, Error> {
    let mut request = url.into_client_request()?;
    for (name, value) in headers {
        let name = HeaderName::try_from(*name).expect("a header name");
        request
            .headers_mut()
            .append(name, HeaderValue::try_from(*value).expect("a header value"));
    }
    let connecting = tokio::time::timeout(PATIENCE, connect_async(request)).await;
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
    handshake(url, headers)
        .await
        .unwrap_or_else(|error| panic!("refused: {error}"))
}

/// The status that a handshake is refused with.
///
/// # Panics
/// If it is not refused.
pub async fn refused(url: &str, headers: &[(&str, &str)]) -> u16 {
    match handshake(url, headers).await {
        Ok(_) => panic!("the handshake was not refused"),
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("no refusal but {error}"),
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
        match self.next().await {
            Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                (code.into(), reason.as_str().to_owned())
            }
            other => panic!("no close but {other:?}"),
        }
    }

    /// Closes as a well-behaved client does.
    ///
    /// # Panics
    /// If the server does not answer the close.
    pub async fn close(mut self) {
        self.stream.close(None).await.expect("closed");
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
