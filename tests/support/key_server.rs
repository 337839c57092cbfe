//! A key server that answers as a test tells it to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::signing::SigningKey;

/// The answer at one path.
#[derive(Debug, Clone)]
pub struct KeyAnswer {
    status: &'static str,
    body: String,
    /// Delay before the second half of the body.
    pause: Duration,
}

impl KeyAnswer {
    #[must_use]
    pub fn keys(keys: &[&SigningKey]) -> Self {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        Self::text(json!({"keys": keys}).to_string())
    }

    #[must_use]
    pub fn text(body: impl Into<String>) -> Self {
        Self {
            status: "200 OK",
            body: body.into(),
            pause: Duration::ZERO,
        }
    }

    /// An empty body under another status line. Headers may follow in it.
    #[must_use]
    pub fn status(status: &'static str) -> Self {
        Self {
            status,
            ..Self::text("")
        }
    }

    /// The same answer, with its second half this much later.
    #[must_use]
    pub fn slowly(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    async fn write(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let (status, length) = (self.status, self.body.len());
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        let (first, second) = self.body.as_bytes().split_at(length / 2);
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(first).await?;
        tokio::time::sleep(self.pause).await;
        stream.write_all(second).await
    }
}

#[derive(Default)]
struct State {
    answers: HashMap<String, KeyAnswer>,
    requests: HashMap<String, usize>,
}

/// A running key server; dropped, it is down.
pub struct KeyServer {
    address: String,
    state: Arc<Mutex<State>>,
    serving: AbortHandle,
}

impl KeyServer {
    /// Starts a server without answers: every path is a 404.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let state = Arc::<Mutex<State>>::default();
        let serving = tokio::spawn(serve(listener, state.clone())).abort_handle();
        Self {
            address,
            state,
            serving,
        }
    }

    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sets the answer at a path.
    pub fn answer(&self, path: &str, answer: KeyAnswer) {
        let mut state = self.state.lock().expect("nobody panics with it");
        state.answers.insert(path.to_owned(), answer);
    }

    /// How many requests a path has had.
    #[must_use]
    pub fn requests(&self, path: &str) -> usize {
        let state = self.state.lock().expect("nobody panics with it");
        state.requests.get(path).copied().unwrap_or_default()
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        // Fails if the client gives up, which is the client's business.
        tokio::spawn(answer(stream, state.clone()));
    }
}

async fn answer(stream: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if stream.read_line(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = {
        let mut state = state.lock().expect("nobody panics with it");
        let answer = state.answers.get(&path).cloned();
        *state.requests.entry(path).or_default() += 1;
        answer.unwrap_or_else(|| KeyAnswer::status("404 Not Found"))
    };
    answer.write(stream.get_mut()).await
}
