//! A management API that accepts every post at the lowest cost, so that a
//! benchmark measures the poster.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

const ACCEPTED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Larger than any benchmark's request.
const BUFFER_BYTES: usize = 16 * 1_024;

/// A running sink; it ends when dropped.
pub struct Sink {
    /// The management endpoint, with a stage.
    pub url: String,
    taken: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Sink {
    /// # Panics
    /// If no port is free.
    pub async fn start() -> Self {
        Self::behind(None).await
    }

    /// Starts a sink, behind TLS if `tls` is given.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn behind(tls: Option<TlsAcceptor>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let taken = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&taken);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, counter) = (tls.clone(), Arc::clone(&counter));
                // Fails if the client gives up, which is the client's business.
                tokio::spawn(async move {
                    stream.set_nodelay(true)?;
                    match tls {
                        Some(tls) => take(tls.accept(stream).await?, counter).await,
                        None => take(stream, counter).await,
                    }
                });
            }
        });
        Self {
            url: format!("{scheme}://{address}/dev"),
            taken,
            serving,
        }
    }

    /// How many posts it has accepted since the last call.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.swap(0, Ordering::Relaxed)
    }
}

async fn take(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    taken: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            read => filled += read,
        }
        while let Some(length) = length_of_request(&buffer[..filled]) {
            buffer.copy_within(length..filled, 0);
            filled -= length;
            taken.fetch_add(1, Ordering::Relaxed);
            stream.write_all(ACCEPTED).await?;
            stream.flush().await?;
        }
    }
}

/// The length of the first request, or `None` if it is incomplete.
fn length_of_request(bytes: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(bytes).expect("a request") {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => return None,
    };
    let length = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .map_or("0", |header| {
            std::str::from_utf8(header.value).expect("a number")
        });
    let whole = head + length.parse::<usize>().expect("a number");
    (bytes.len() >= whole).then_some(whole)
}
