//! The output of a function's process.

use std::io::{self, ErrorKind, PipeReader, Write};
use std::os::fd::OwnedFd;

use bytes::Bytes;
use nix::unistd;
use serde_json::Value;
use tokio::net::unix::pipe::Receiver;

use crate::metrics::Metrics;

/// The longest line of output that is printed in one piece.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// The size of one read, in bytes.
const CHUNK_BYTES: usize = 8 * 1024;

/// A full pipe in chunks. Reading this many returns everything that the process
/// wrote before its response.
const CHUNKS_IN_PIPE: usize = 8;

/// The part of an invocation's log that `Invoke` returns (AWS: "the last 4 KB").
const TAIL_BYTES: usize = 4 * 1024;

/// Prints a process's output line by line under the function's name, and keeps
/// the end of the current invocation's log.
pub(super) struct ProcessOutput {
    name: String,
    pipe: Option<Receiver>,
    line: Vec<u8>,
    tail: Vec<u8>,
    metrics: Metrics,
    show_metrics: bool,
}

impl ProcessOutput {
    pub(super) fn new(
        name: &str,
        pipe: PipeReader,
        metrics: Metrics,
        show_metrics: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            pipe: Some(Receiver::from_owned_fd(OwnedFd::from(pipe))?),
            line: Vec::new(),
            tail: Vec::new(),
            metrics,
            show_metrics,
        })
    }

    /// Waits for output and prints some of it. Never returns after the process
    /// has closed its output. Cancelling this loses nothing.
    pub(super) async fn print_next(&mut self) {
        match &self.pipe {
            None => std::future::pending().await,
            Some(pipe) => {
                // If this fails, so does the read below.
                let _ = pipe.readable().await;
            }
        }
        // One chunk, then other tasks may run: a function that never stops
        // writing must not hide its own timeout.
        self.print_chunk(Receiver::try_read);
        tokio::task::yield_now().await;
    }

    /// Prints everything that is already in the pipe. Asks the kernel, since the
    /// async runtime may not know yet that there is something.
    pub(super) fn print_pending(&mut self) {
        for _ in 0..CHUNKS_IN_PIPE {
            if !self.print_chunk(|pipe, buffer| Ok(unistd::read(pipe, buffer)?)) {
                return;
            }
        }
    }

    /// Returns whether there was anything to print.
    fn print_chunk(&mut self, read: impl Fn(&Receiver, &mut [u8]) -> io::Result<usize>) -> bool {
        let mut buffer = [0; CHUNK_BYTES];
        let Some(pipe) = &self.pipe else { return false };
        match read(pipe, &mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(read) => {
                self.print(&buffer[..read]);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.pipe = None,
        }
        false
    }

    fn print(&mut self, bytes: &[u8]) {
        self.log(bytes);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() >= MAX_LINE_BYTES {
                self.print_line();
            }
        }
    }

    fn print_line(&mut self) {
        if let Some(metrics) = metrics(&self.line) {
            self.metrics.add(&metrics);
            if !self.show_metrics {
                self.line.clear();
                return;
            }
        }
        let line = String::from_utf8_lossy(&self.line);
        let line = format!("[{}] {}\n", self.name, line.trim_end());
        // A closed stderr must not stop the stack.
        let _ = io::stderr().write_all(line.as_bytes());
        self.line.clear();
    }

    /// Starts the log of an invocation.
    pub(super) fn start_log(&mut self, request_id: &str) {
        self.tail.clear();
        self.log(format!("START RequestId: {request_id} Version: $LATEST\n").as_bytes());
    }

    /// Adds to the invocation's log.
    pub(super) fn log(&mut self, text: &[u8]) {
        self.tail.extend_from_slice(text);
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
    }

    /// The end of the invocation's log.
    pub(super) fn log_tail(&self) -> Bytes {
        Bytes::copy_from_slice(&self.tail)
    }
}

/// Whether a line is in CloudWatch's embedded metric format.
pub(crate) fn is_metrics(line: &[u8]) -> bool {
    metrics(line).is_some()
}

/// A line in CloudWatch's embedded metric format: JSON with a member `_aws`.
fn metrics(line: &[u8]) -> Option<Value> {
    let json: Value = line
        .starts_with(b"{")
        .then(|| serde_json::from_slice(line).ok())??;
    json.get("_aws").is_some().then_some(json)
}

impl Drop for ProcessOutput {
    fn drop(&mut self) {
        self.print_pending();
        if !self.line.is_empty() {
            self.print_line();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::PipeWriter;

    use futures_util::FutureExt;

    use super::*;

    /// The output of a process named `Reader`, and where that writes.
    fn output() -> (ProcessOutput, PipeWriter) {
        let (pipe, writer) = io::pipe().unwrap();
        let output = ProcessOutput::new("Reader", pipe, Metrics::default(), false);
        (output.unwrap(), writer)
    }

    #[tokio::test]
    async fn what_was_written_before_is_printed_at_once() {
        let (mut output, mut writer) = output();
        writer.write_all(b"first\n").unwrap();
        output.print_next().await;
        assert_eq!(output.log_tail(), "first\n");
        // The async runtime has not run since, and does not know of this.
        writer.write_all(b"second\n").unwrap();
        output.print_pending();
        assert_eq!(output.log_tail(), "first\nsecond\n");
        output.print_pending();
        writer.write_all(b"third\n").unwrap();
        while output.log_tail() != "first\nsecond\nthird\n" {
            output.print_next().await;
        }
        drop(writer);
        assert!(output.print_next().now_or_never().is_none());
        output.print_pending();
        assert!(output.pipe.is_none());
    }

    #[test]
    fn metric_lines_are_recognised() {
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
