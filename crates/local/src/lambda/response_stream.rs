//! Responses that a function streams: its runtime sends one while the function
//! runs, and the caller reads it as it comes.

use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::runtime_api::FunctionResponse;
use super::{NotInvoked, Outcome, error_payload};

/// Lambda's limit for a streamed response, in bytes: 200 MB.
const MAX_STREAM_BYTES: u64 = 200 * 1024 * 1024;

/// The part of a response that Lambda streams at any rate, in bytes, and its
/// rate for the rest, in bytes a second.
const UNCAPPED_BYTES: u64 = 6 * 1024 * 1024;
const CAPPED_RATE: f64 = 2.0 * 1024.0 * 1024.0;

/// Chunks that wait for a slow caller. Behind them, the function waits too.
const MAX_WAITING_CHUNKS: usize = 4;

/// The trailers that report an error in mid-stream.
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";

/// The response was cut: the function failed after it had begun to respond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the function failed in mid-stream")]
pub(crate) struct StreamCut;

/// The beginning of a streamed response.
pub(super) struct StreamHead {
    content_type: Option<HeaderValue>,
    chunks: mpsc::Receiver<Bytes>,
}

/// The runtime's end: whoever holds it can begin the response.
pub(super) struct StreamSink(oneshot::Sender<StreamHead>);

/// A response's sink, and where its beginning will arrive.
pub(super) fn channel() -> (StreamSink, oneshot::Receiver<StreamHead>) {
    let (sink, head) = oneshot::channel();
    (StreamSink(sink), head)
}

/// The caller's end of a streamed response. Dropping this does not stop the
/// function.
pub(crate) struct ResponseStream {
    /// The content type that the runtime gave.
    pub(crate) content_type: Option<HeaderValue>,
    chunks: mpsc::Receiver<Bytes>,
    /// The invocation; `None` after its end.
    run: Option<JoinHandle<Result<Outcome, NotInvoked>>>,
}

impl ResponseStream {
    pub(super) fn new(head: StreamHead, run: JoinHandle<Result<Outcome, NotInvoked>>) -> Self {
        Self {
            content_type: head.content_type,
            chunks: head.chunks,
            run: Some(run),
        }
    }

    /// The next bytes, or `None` at the response's proper end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, StreamCut>> {
        if let Some(chunk) = self.chunks.recv().await {
            return Some(Ok(chunk));
        }
        match self.run.take()?.await {
            Ok(Ok(outcome)) if !outcome.is_error => None,
            _ => Some(Err(StreamCut)),
        }
    }
}

/// How a streamed response ended.
pub(super) enum StreamEnd {
    Response(FunctionResponse),
    TooLarge(FunctionResponse),
    /// The runtime did not finish its request.
    Incomplete,
}

/// Passes a streamed response on to its caller. Reads it to the end even if the
/// caller has left, because Lambda does not tell a function that.
pub(super) async fn pass_on(
    sink: StreamSink,
    content_type: Option<HeaderValue>,
    mut body: Body,
) -> StreamEnd {
    let (sender, chunks) = mpsc::channel(MAX_WAITING_CHUNKS);
    // Fails if the caller has left already.
    let _ = sink.0.send(StreamHead {
        content_type,
        chunks,
    });
    let mut bytes = 0;
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let frame = match frame {
            None => return StreamEnd::Response(success()),
            Some(Err(_)) => return StreamEnd::Incomplete,
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(chunk) => {
                bytes += chunk.len() as u64;
                if bytes > MAX_STREAM_BYTES {
                    return StreamEnd::TooLarge(too_large());
                }
                let pause = pause(bytes, chunk.len() as u64);
                let _ = sender.send(chunk).await;
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                if let Some(error) = error(&trailers) {
                    return StreamEnd::Response(error);
                }
            }
        }
    }
}

/// The pause after a chunk that ends at this byte: only the part beyond the
/// uncapped bytes takes time.
fn pause(end: u64, length: u64) -> Duration {
    let capped = end.saturating_sub(UNCAPPED_BYTES).min(length);
    // Exact up to 2^53 bytes.
    Duration::from_secs_f64(capped as f64 / CAPPED_RATE)
}

fn success() -> FunctionResponse {
    FunctionResponse {
        payload: Bytes::new(),
        is_error: false,
    }
}

fn too_large() -> FunctionResponse {
    let message = format!(
        "Response payload size exceeded maximum allowed payload size ({MAX_STREAM_BYTES} bytes)."
    );
    FunctionResponse {
        payload: error_payload("Function.ResponseSizeTooLarge", &message),
        is_error: true,
    }
}

/// The error in a response's trailers, whose body is base64 of JSON.
fn error(trailers: &HeaderMap) -> Option<FunctionResponse> {
    let kind = trailers.get(ERROR_TYPE)?.to_str().unwrap_or("Unknown");
    let body = trailers.get(ERROR_BODY);
    let body = body.and_then(|body| STANDARD.decode(body.as_bytes()).ok());
    Some(FunctionResponse {
        payload: body.map_or_else(|| error_payload(kind, ""), Bytes::from),
        is_error: true,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    /// A request's body, frame by frame.
    struct Frames(VecDeque<Result<Frame<Bytes>, &'static str>>);

    impl HttpBody for Frames {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn data(bytes: &'static [u8]) -> Result<Frame<Bytes>, &'static str> {
        Ok(Frame::data(Bytes::from_static(bytes)))
    }

    fn trailers(pairs: &[(&'static str, &'static str)]) -> Result<Frame<Bytes>, &'static str> {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        Ok(Frame::trailers(pairs.collect()))
    }

    /// What the caller reads, and how the response ends.
    async fn passed_on(frames: Vec<Result<Frame<Bytes>, &'static str>>) -> (Vec<u8>, StreamEnd) {
        let (sink, head) = channel();
        let body = Body::new(Frames(frames.into()));
        let passing = tokio::spawn(pass_on(sink, None, body));
        let mut head = head.await.ok().unwrap();
        let mut read = Vec::new();
        while let Some(chunk) = head.chunks.recv().await {
            read.extend_from_slice(&chunk);
        }
        (read, passing.await.unwrap())
    }

    #[tokio::test]
    async fn a_complete_response_succeeds() {
        let (read, end) = passed_on(vec![data(b"a"), data(b"bc"), trailers(&[])]).await;
        assert_eq!(read, b"abc");
        assert!(matches!(end, StreamEnd::Response(response) if !response.is_error));
    }

    #[tokio::test]
    async fn trailers_report_an_error() {
        let error = "eyJlcnJvclR5cGUiOiJYIn0=";
        let frames = vec![
            data(b"a"),
            trailers(&[(ERROR_TYPE, "X"), (ERROR_BODY, error)]),
        ];
        let (read, end) = passed_on(frames).await;
        assert_eq!(read, b"a");
        let StreamEnd::Response(response) = end else {
            panic!("no response")
        };
        assert!(response.is_error);
        assert_eq!(response.payload, r#"{"errorType":"X"}"#);
        // Its body is optional, and may be nonsense.
        for body in [vec![], vec![(ERROR_BODY, "?")]] {
            let pairs = [vec![(ERROR_TYPE, "X")], body].concat();
            let (_, end) = passed_on(vec![trailers(&pairs)]).await;
            let payload = r#"{"errorMessage":"","errorType":"X"}"#;
            assert!(matches!(end, StreamEnd::Response(response) if response.payload == payload));
        }
    }

    #[tokio::test]
    async fn a_broken_request_is_incomplete() {
        let (read, end) = passed_on(vec![data(b"a"), Err("reset")]).await;
        assert_eq!(read, b"a");
        assert!(matches!(end, StreamEnd::Incomplete));
    }

    #[tokio::test]
    async fn a_caller_that_leaves_does_not_stop_the_response() {
        let frames: VecDeque<_> = (0..100).map(|_| data(b"x")).collect();
        let (sink, head) = channel();
        drop(head);
        let end = pass_on(sink, None, Body::new(Frames(frames))).await;
        assert!(matches!(end, StreamEnd::Response(response) if !response.is_error));
    }

    #[tokio::test]
    async fn a_slow_caller_stops_the_function() {
        let frames: VecDeque<_> = (0..100).map(|_| data(b"x")).collect();
        let (sink, head) = channel();
        let passing = pass_on(sink, None, Body::new(Frames(frames)));
        tokio::pin!(passing);
        assert!(futures_util::poll!(&mut passing).is_pending());
        let head = head.await.ok().unwrap();
        assert_eq!(head.chunks.len(), MAX_WAITING_CHUNKS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_response_is_slowed_down_and_finally_refused() {
        static MEGABYTE: [u8; 1024 * 1024] = [b'x'; 1024 * 1024];
        let started = tokio::time::Instant::now();
        let megabytes = |count| (0..count).map(|_| data(&MEGABYTE)).collect::<Vec<_>>();
        let (read, _) = passed_on(megabytes(6)).await;
        assert_eq!(read.len(), 6 * MEGABYTE.len());
        assert_eq!(started.elapsed(), Duration::ZERO);
        let (read, _) = passed_on(megabytes(10)).await;
        assert_eq!(read.len(), 10 * MEGABYTE.len());
        assert_eq!(started.elapsed().as_secs(), 2);
        let (_, end) = passed_on(megabytes(201)).await;
        assert!(matches!(end, StreamEnd::TooLarge(response) if response.is_error));
    }

    #[test]
    fn only_the_part_beyond_the_uncapped_bytes_takes_time() {
        let half = UNCAPPED_BYTES / 2;
        assert_eq!(pause(half, half), Duration::ZERO);
        assert_eq!(pause(UNCAPPED_BYTES, half), Duration::ZERO);
        let second = 2 * 1024 * 1024;
        assert_eq!(
            pause(UNCAPPED_BYTES + second, second + 5),
            Duration::from_secs(1)
        );
        assert_eq!(pause(9 * second, second), Duration::from_secs(1));
    }
}
