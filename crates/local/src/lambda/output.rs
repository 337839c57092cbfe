//! What a function's process writes.

use std::io::{self, ErrorKind, PipeReader, Write};
use std::os::fd::OwnedFd;

use bytes::Bytes;
use serde_json::Value;
use tokio::net::unix::pipe::Receiver;

/// The longest line of a function's output that is shown in one piece.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// How much is taken at a time, in bytes.
const CHUNK_BYTES: usize = 8 * 1024;

/// How many times that a pipe holds at most: what was written before an answer
/// is within as many.
const CHUNKS_IN_PIPE: usize = 8;

/// How much of an invocation's log `Invoke` gives back (AWS: "the last 4 KB").
const TAIL_BYTES: usize = 4 * 1024;

/// A process's output, shown line by line under its name; the end of what it
/// wrote for the present event is kept.
pub(super) struct Output {
    name: String,
    pipe: Option<Receiver>,
    line: Vec<u8>,
    tail: Vec<u8>,
    show_metrics: bool,
}

impl Output {
    pub(super) fn new(name: &str, pipe: PipeReader, show_metrics: bool) -> io::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            pipe: Some(Receiver::from_owned_fd(OwnedFd::from(pipe))?),
            line: Vec::new(),
            tail: Vec::new(),
            show_metrics,
        })
    }

    /// Waits until there is more, and takes some of it. Never ends once the
    /// process has closed its output. Nothing is lost when this is cancelled.
    pub(super) async fn more(&mut self) {
        match &self.pipe {
            None => std::future::pending().await,
            Some(pipe) => {
                // Where this fails, reading tells why.
                let _ = pipe.readable().await;
            }
        }
        // No more than a chunk, and then the others' turn: a function that
        // never stops writing must not keep its own timeout from being seen.
        self.take_chunk();
        tokio::task::yield_now().await;
    }

    /// Takes what is there without waiting.
    pub(super) fn take(&mut self) {
        for _ in 0..CHUNKS_IN_PIPE {
            if !self.take_chunk() {
                return;
            }
        }
    }

    /// Whether there was something.
    fn take_chunk(&mut self) -> bool {
        let mut buffer = [0; CHUNK_BYTES];
        let Some(pipe) = &self.pipe else { return false };
        match pipe.try_read(&mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(read) => {
                self.show(&buffer[..read]);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.pipe = None,
        }
        false
    }

    fn show(&mut self, bytes: &[u8]) {
        self.note(bytes);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() >= MAX_LINE_BYTES {
                self.show_line();
            }
        }
    }

    fn show_line(&mut self) {
        if !self.show_metrics && is_metrics(&self.line) {
            self.line.clear();
            return;
        }
        let line = String::from_utf8_lossy(&self.line);
        let line = format!("[{}] {}\n", self.name, line.trim_end());
        // Where nobody reads our own output any more, the show goes on.
        let _ = io::stderr().write_all(line.as_bytes());
        self.line.clear();
    }

    /// Begins the log of an event.
    pub(super) fn begin(&mut self, request_id: &str) {
        self.tail.clear();
        self.note(format!("START RequestId: {request_id} Version: $LATEST\n").as_bytes());
    }

    /// Adds to the event's log.
    pub(super) fn note(&mut self, text: &[u8]) {
        self.tail.extend_from_slice(text);
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
    }

    /// The end of the event's log.
    pub(super) fn tail(&self) -> Bytes {
        Bytes::copy_from_slice(&self.tail)
    }
}

/// Whether a line reports metrics: JSON with a member `_aws` (AWS:
/// "Specification: Embedded metric format").
fn is_metrics(line: &[u8]) -> bool {
    line.starts_with(b"{")
        && serde_json::from_slice::<Value>(line).is_ok_and(|json| json.get("_aws").is_some())
}

impl Drop for Output {
    /// Last words.
    fn drop(&mut self) {
        self.take();
        if !self.line.is_empty() {
            self.show_line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_metrics_are_known() {
        assert!(is_metrics(b"{\"N\":1,\"_aws\":{\"Timestamp\":1}}\n"));
        for other in [
            "",
            "{}",
            "{\"message\":\"_aws\"}",
            "[\"_aws\"]",
            "{\"_aws\":",
        ] {
            assert!(!is_metrics(other.as_bytes()), "{other}");
        }
    }
}
