//! The HTTP server, and what it remembers of a client: its address and how it
//! spelt its headers. HTTP libraries put names into lower case; API Gateway
//! passes them on as they came, and handlers must cope with that.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

/// The longest request head that is remembered, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The most headers that are remembered.
const MAX_HEADERS: usize = 128;

/// How long a client may take to send a request's head, the wait for its next
/// request included. Longer than clients keep unused connections.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);

/// The most that is read ahead of a client, in bytes: a longer head is refused.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// How long accepting rests when it fails: the process may have no file left
/// until a connection ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A client, for handlers.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Where it comes from.
    pub address: SocketAddr,
    head: Arc<Mutex<Head>>,
}

/// The beginning of what a client sent: its first request's head.
#[derive(Debug, Default)]
struct Head {
    bytes: Vec<u8>,
    complete: bool,
}

impl Client {
    /// The header names of the client's first request as it spelt them, once:
    /// what was remembered, tokens among it, is forgotten. WebSocket handshakes
    /// are the first request of their connection.
    pub(crate) fn take_spellings(&self) -> Spellings {
        let bytes = std::mem::take(
            &mut self
                .head
                .lock()
                .expect("no one panics while holding the head")
                .bytes,
        );
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        // What cannot be parsed has been refused before it comes here.
        let _ = request.parse(&bytes);
        Spellings(
            request
                .headers
                .iter()
                .map(|header| header.name.to_owned())
                .collect(),
        )
    }
}

/// Header names as a client spelt them.
pub(crate) struct Spellings(Vec<String>);

impl Spellings {
    /// How the client spelt a name.
    pub(crate) fn of(&self, name: &HeaderName) -> String {
        let spelt = self
            .0
            .iter()
            .find(|spelt| spelt.eq_ignore_ascii_case(name.as_str()));
        spelt.map_or(name.as_str(), String::as_str).to_owned()
    }
}

/// Serves the router to every client, each with its [`Client`] as a request
/// extension, until it is dropped.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                tokio::spawn(serve_client(stream, address, router.clone()));
            }
            Err(error) => {
                tracing::warn!(reason = %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_client(stream: TcpStream, address: SocketAddr, router: Router) {
    // Small frames must not wait for each other; without it they only come later.
    let _ = stream.set_nodelay(true);
    let head = Arc::default();
    let client = Client {
        address,
        head: Arc::clone(&head),
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client.clone());
        // A router is always ready.
        router.clone().call(request.map(Body::new))
    });
    let stream = TokioIo::new(RememberingStream { stream, head });
    // A client that breaks off or talks nonsense is its own affair.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(stream, service)
        .with_upgrades()
        .await;
}

/// A TCP stream that remembers its first request's head.
pub(crate) struct RememberingStream {
    stream: TcpStream,
    head: Arc<Mutex<Head>>,
}

impl RememberingStream {
    /// The plain stream, when the requests are over.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for RememberingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if matches!(outcome, Poll::Ready(Ok(()))) {
            let mut head = self
                .head
                .lock()
                .expect("no one panics while holding the head");
            head.remember(&buffer.filled()[before..]);
        }
        outcome
    }
}

impl Head {
    fn remember(&mut self, bytes: &[u8]) {
        if self.complete {
            return;
        }
        let room = MAX_HEAD_BYTES - self.bytes.len();
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.complete = self.bytes.len() == MAX_HEAD_BYTES
            || self.bytes.windows(4).any(|end| end == b"\r\n\r\n");
    }
}

impl AsyncWrite for RememberingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_back_as_they_came_however_they_came() {
        let head = Arc::new(Mutex::new(Head::default()));
        for part in [
            "GET /dev HTTP/1.1\r\nHo",
            "st: x\r\nauthORIZATION: y\r\n",
            "\r\n",
            "Host: late",
        ] {
            head.lock().unwrap().remember(part.as_bytes());
        }
        let client = Client {
            address: ([127, 0, 0, 1], 1).into(),
            head,
        };
        let spellings = client.take_spellings();
        assert_eq!(spellings.of(&http::header::AUTHORIZATION), "authORIZATION");
        assert_eq!(spellings.of(&http::header::HOST), "Host");
        assert_eq!(spellings.of(&http::header::ORIGIN), "origin");
        assert!(
            client.head.lock().unwrap().bytes.is_empty(),
            "nothing is kept"
        );
        client.head.lock().unwrap().remember(b"GET / HTTP/1.1");
        assert!(
            client.head.lock().unwrap().bytes.is_empty(),
            "nor of later requests"
        );
    }

    #[test]
    fn a_long_head_is_cut() {
        let mut head = Head::default();
        for _ in 0..10 {
            head.remember(&[b'x'; 10_000]);
        }
        assert_eq!(head.bytes.len(), MAX_HEAD_BYTES);
    }
}
