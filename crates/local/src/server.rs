//! The HTTP server. It records each client's address and the original case of
//! its header names: HTTP libraries convert names to lower case, but API Gateway
//! passes them on unchanged, and handlers must cope with that.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, Request};
use futures_util::StreamExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

use crate::guard::Guard;
use crate::listen::Listeners;

/// The longest request head that is recorded, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The most headers that are recorded.
const MAX_HEADERS: usize = 128;

/// How long a client may take to send a request's head, including the idle time
/// before a further request. Clients close unused connections earlier.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);

/// The HTTP library's read buffer, in bytes. A longer head is refused.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// The most that is read of a refused request's body.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// The pause after a failure to accept: the process may have no file descriptor
/// left until a connection ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A request extension for handlers.
#[derive(Debug, Clone)]
pub(crate) struct ClientInfo {
    pub address: SocketAddr,
    head: Arc<Mutex<RequestHead>>,
}

/// The head of a client's first request.
#[derive(Debug, Default)]
struct RequestHead {
    bytes: Vec<u8>,
    complete: bool,
}

impl ClientInfo {
    /// The header names of the client's first request in their original case. A
    /// WebSocket handshake is the first request of its connection. This works
    /// once: the recorded head may contain a token, so it is dropped.
    pub(crate) fn take_header_case(&self) -> HeaderCase {
        let bytes = std::mem::take(
            &mut self
                .head
                .lock()
                .expect("no code panics while holding the lock")
                .bytes,
        );
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        // The HTTP library has already refused a head that does not parse.
        let _ = request.parse(&bytes);
        HeaderCase(
            request
                .headers
                .iter()
                .map(|header| header.name.to_owned())
                .collect(),
        )
    }
}

/// Header names in the case that a client sent.
pub(crate) struct HeaderCase(Vec<String>);

impl HeaderCase {
    pub(crate) fn of(&self, name: &HeaderName) -> String {
        let original = self
            .0
            .iter()
            .find(|original| original.eq_ignore_ascii_case(name.as_str()));
        original.map_or(name.as_str(), String::as_str).to_owned()
    }
}

/// Serves the router until it is dropped. Each request that the guard lets pass
/// has a [`ClientInfo`] as an extension.
pub(crate) async fn serve(listeners: Listeners, router: Router, guard: Guard) {
    let accept_at = |listener| accept(listener, router.clone(), guard.clone());
    let at_ipv6_loopback = async {
        if let Some(listener) = listeners.ipv6_loopback {
            accept_at(listener).await;
        }
    };
    tokio::join!(accept_at(listeners.main), at_ipv6_loopback);
}

async fn accept(listener: TcpListener, router: Router, guard: Guard) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let client = serve_client(stream, address, router.clone(), guard.clone());
                tokio::spawn(client);
            }
            Err(error) => {
                tracing::warn!(reason = %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_client(stream: TcpStream, address: SocketAddr, router: Router, guard: Guard) {
    // Small frames must not wait for each other. If this fails, they only arrive later.
    let _ = stream.set_nodelay(true);
    let head = Arc::default();
    let client = ClientInfo {
        address,
        head: Arc::clone(&head),
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client.clone());
        let checked = guard.check(&request);
        let guard = guard.clone();
        // A router is always ready.
        let mut router = router.clone();
        async move {
            if let Err(refusal) = checked {
                tracing::warn!("request refused: {refusal}");
                discard(request.into_body()).await;
                return Ok(refusal.response());
            }
            let mut response = router.call(request.map(Body::new)).await?;
            guard.remove_cors(response.headers_mut());
            Ok::<_, Infallible>(response)
        }
    });
    let stream = TokioIo::new(RecordingStream { stream, head });
    // An error here concerns only this client.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(stream, service)
        .with_upgrades()
        .await;
}

/// Reads the rest of a refused request: a response before its end would reach the
/// client as a connection reset.
async fn discard(body: Incoming) {
    let mut chunks = Body::new(body).into_data_stream();
    let mut bytes = 0;
    while let Some(Ok(chunk)) = chunks.next().await {
        bytes += chunk.len();
        if bytes > MAX_DISCARDED_BYTES {
            return;
        }
    }
}

/// A TCP stream that records its first request's head.
pub(crate) struct RecordingStream {
    stream: TcpStream,
    head: Arc<Mutex<RequestHead>>,
}

impl RecordingStream {
    /// The plain stream, after the requests are over.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for RecordingStream {
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
                .expect("no code panics while holding the lock");
            head.record(&buffer.filled()[before..]);
        }
        outcome
    }
}

impl RequestHead {
    fn record(&mut self, bytes: &[u8]) {
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

impl AsyncWrite for RecordingStream {
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
    fn header_names_keep_their_case_across_reads() {
        let head = Arc::new(Mutex::new(RequestHead::default()));
        for part in [
            "GET /dev HTTP/1.1\r\nHo",
            "st: x\r\nauthORIZATION: y\r\n",
            "\r\n",
            "Host: late",
        ] {
            head.lock().unwrap().record(part.as_bytes());
        }
        let client = ClientInfo {
            address: ([127, 0, 0, 1], 1).into(),
            head,
        };
        let header_case = client.take_header_case();
        assert_eq!(
            header_case.of(&http::header::AUTHORIZATION),
            "authORIZATION"
        );
        assert_eq!(header_case.of(&http::header::HOST), "Host");
        assert_eq!(header_case.of(&http::header::ORIGIN), "origin");
        assert!(
            client.head.lock().unwrap().bytes.is_empty(),
            "the head is dropped"
        );
        client.head.lock().unwrap().record(b"GET / HTTP/1.1");
        assert!(
            client.head.lock().unwrap().bytes.is_empty(),
            "later requests are not recorded"
        );
    }

    #[test]
    fn a_long_head_is_truncated() {
        let mut head = RequestHead::default();
        for _ in 0..10 {
            head.record(&[b'x'; 10_000]);
        }
        assert_eq!(head.bytes.len(), MAX_HEAD_BYTES);
    }
}
