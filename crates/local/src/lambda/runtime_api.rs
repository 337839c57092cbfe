//! The Runtime API, through which a function's process asks for events and
//! responds to them. Each environment has its own path, which identifies it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::{get, post};
use bytes::Bytes;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::response_stream::{StreamEnd, StreamSink, pass_on};
use super::{Invocation, error_payload};
use crate::ids;

/// Lambda's limit for a response, in bytes: 6 MB and 100 bytes, as in its error
/// message.
const MAX_RESPONSE_BYTES: usize = 6_291_556;

/// The header by which a runtime announces a streamed response.
const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";

/// An event for a function's runtime.
pub(super) struct RuntimeEvent {
    pub(super) invocation: Invocation,
    /// Takes the response if it is streamed.
    pub(super) sink: Option<StreamSink>,
    pub(super) deadline: SystemTime,
    pub(super) arn: String,
}

pub(super) struct FunctionResponse {
    /// The function's return value, or its error as JSON.
    pub(super) payload: Bytes,
    pub(super) is_error: bool,
}

/// A call that a function's runtime made.
pub(super) enum RuntimeMessage {
    Next,
    Response {
        request_id: String,
        response: FunctionResponse,
    },
    /// A streamed response broke off.
    Incomplete {
        request_id: String,
    },
    InitError(String),
}

/// The running environments by id.
#[derive(Clone, Default)]
pub(super) struct RuntimeRegistry(Arc<Mutex<HashMap<String, RuntimeHandle>>>);

/// The HTTP handlers' end of a [`RuntimeLink`].
#[derive(Clone)]
struct RuntimeHandle {
    events: Arc<tokio::sync::Mutex<UnboundedReceiver<RuntimeEvent>>>,
    messages: UnboundedSender<RuntimeMessage>,
    pending: Arc<Mutex<Option<PendingEvent>>>,
    process_group: Arc<OnceLock<Pid>>,
}

/// The event that has no response yet.
struct PendingEvent {
    request_id: String,
    sink: Option<StreamSink>,
}

impl RuntimeHandle {
    fn pending(&self) -> MutexGuard<'_, Option<PendingEvent>> {
        self.pending
            .lock()
            .expect("no code panics while holding the lock")
    }

    /// Begins the only response to an event. 403 if that has begun already, or for
    /// an earlier event.
    fn begin_response(&self, request_id: &str) -> Result<PendingEvent, StatusCode> {
        let is_this = |event: &mut PendingEvent| event.request_id == request_id;
        let event = self.pending().take_if(is_this);
        event.ok_or(StatusCode::FORBIDDEN)
    }
}

/// A stopped process group. Lambda freezes an environment between events: no
/// thread and no timer runs in it. Dropping this resumes the group.
struct Frozen(Pid);

impl Frozen {
    fn freeze(group: Pid) -> Self {
        // The process has just made a call. If it was killed since, the group
        // does not exist, unless the kernel has already reused its id.
        let _ = killpg(group, Signal::SIGSTOP);
        Self(group)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = killpg(self.0, Signal::SIGCONT);
    }
}

/// An environment's channel to its runtime. Dropping this closes the
/// environment's Runtime API.
pub(super) struct RuntimeLink {
    id: String,
    registry: RuntimeRegistry,
    events: UnboundedSender<RuntimeEvent>,
    messages: UnboundedReceiver<RuntimeMessage>,
    process_group: Arc<OnceLock<Pid>>,
}

impl RuntimeRegistry {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, RuntimeHandle>> {
        self.0
            .lock()
            .expect("no code panics while holding the lock")
    }

    pub(super) fn register(&self) -> RuntimeLink {
        let id = ids::uuid();
        let (events, events_receiver) = mpsc::unbounded_channel();
        let (messages_sender, messages) = mpsc::unbounded_channel();
        let process_group = Arc::new(OnceLock::new());
        let handle = RuntimeHandle {
            events: Arc::new(tokio::sync::Mutex::new(events_receiver)),
            messages: messages_sender,
            pending: Arc::default(),
            process_group: Arc::clone(&process_group),
        };
        self.lock().insert(id.clone(), handle);
        RuntimeLink {
            id,
            registry: self.clone(),
            events,
            messages,
            process_group,
        }
    }

    fn find(&self, id: &str) -> Result<RuntimeHandle, StatusCode> {
        self.lock().get(id).cloned().ok_or(StatusCode::FORBIDDEN)
    }
}

impl RuntimeLink {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The path of this environment's Runtime API on the local stack.
    pub(super) fn path(&self) -> String {
        format!("/_runtime/{}", self.id)
    }

    /// From now on the process group is frozen while it waits for an event.
    pub(super) fn set_process_group(&self, group: Pid) {
        // Called once for each link.
        let _ = self.process_group.set(group);
    }

    pub(super) fn process_group(&self) -> Option<Pid> {
        self.process_group.get().copied()
    }

    pub(super) fn send(&self, event: RuntimeEvent) {
        // The registry keeps the receiver for as long as this link lives.
        let _ = self.events.send(event);
    }

    pub(super) async fn next_message(&mut self) -> RuntimeMessage {
        match self.messages.recv().await {
            Some(message) => message,
            // Unreachable: the registry keeps a sender for as long as this link lives.
            None => std::future::pending().await,
        }
    }
}

impl Drop for RuntimeLink {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.id);
    }
}

pub(crate) fn router(lambda: &super::Lambda) -> Router {
    Router::new()
        .route(
            "/_runtime/{environment}/2018-06-01/runtime/invocation/next",
            get(next),
        )
        .route(
            "/_runtime/{environment}/2018-06-01/runtime/invocation/{request}/response",
            post(response),
        )
        .route(
            "/_runtime/{environment}/2018-06-01/runtime/invocation/{request}/error",
            post(error),
        )
        .route(
            "/_runtime/{environment}/2018-06-01/runtime/init/error",
            post(init_error),
        )
        .layer(DefaultBodyLimit::max(MAX_RESPONSE_BYTES))
        .with_state(lambda.runtimes.clone())
}

async fn next(
    State(registry): State<RuntimeRegistry>,
    Path(environment): Path<String>,
) -> Result<Response<Body>, StatusCode> {
    let runtime = registry.find(&environment)?;
    runtime
        .messages
        .send(RuntimeMessage::Next)
        .map_err(|_| StatusCode::FORBIDDEN)?;
    let mut events = runtime.events.lock().await;
    let event = match events.try_recv() {
        Ok(event) => Some(event),
        Err(TryRecvError::Disconnected) => None,
        Err(TryRecvError::Empty) => {
            let _frozen = runtime.process_group.get().copied().map(Frozen::freeze);
            events.recv().await
        }
    };
    let event = event.ok_or(StatusCode::FORBIDDEN)?;
    *runtime.pending() = Some(PendingEvent {
        request_id: event.invocation.request_id.clone(),
        sink: event.sink,
    });
    let deadline = event
        .deadline
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let mut response = Response::builder();
    if let Some(context) = &event.invocation.client_context {
        response = response.header("Lambda-Runtime-Client-Context", context.header());
    }
    response
        .header("Content-Type", "application/json")
        .header(
            "Lambda-Runtime-Aws-Request-Id",
            &event.invocation.request_id,
        )
        .header(
            "Lambda-Runtime-Deadline-Ms",
            deadline.as_millis().to_string(),
        )
        .header("Lambda-Runtime-Invoked-Function-Arn", event.arn)
        .header("Lambda-Runtime-Trace-Id", event.invocation.trace)
        .body(Body::from(event.invocation.payload))
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn response(
    registry: State<RuntimeRegistry>,
    path: Path<(String, String)>,
    request: Request,
) -> Reply {
    let (environment, request_id) = &*path;
    let event = registry.find(environment)?.begin_response(request_id)?;
    if let Some(sink) = event.sink
        && is_streaming(request.headers())
    {
        return stream(&registry, path, request, sink).await;
    }
    let payload = Bytes::from_request(request, &()).await;
    respond(&registry, path, payload, false)
}

fn is_streaming(headers: &HeaderMap) -> bool {
    let mode = headers.get(RESPONSE_MODE);
    mode.is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"streaming"))
}

async fn stream(
    registry: &RuntimeRegistry,
    Path((environment, request_id)): Path<(String, String)>,
    request: Request,
    sink: StreamSink,
) -> Reply {
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    let (response, reply) = match pass_on(sink, content_type, request.into_body()).await {
        StreamEnd::Response(response) => (response, Ok(StatusCode::ACCEPTED)),
        StreamEnd::TooLarge(response) => (response, Err(StatusCode::PAYLOAD_TOO_LARGE)),
        StreamEnd::Incomplete => {
            send(
                registry,
                &environment,
                RuntimeMessage::Incomplete { request_id },
            )?;
            return Err(StatusCode::BAD_REQUEST);
        }
    };
    send(
        registry,
        &environment,
        RuntimeMessage::Response {
            request_id,
            response,
        },
    )?;
    reply
}

async fn error(
    registry: State<RuntimeRegistry>,
    path: Path<(String, String)>,
    payload: Result<Bytes, BytesRejection>,
) -> Reply {
    let (environment, request_id) = &*path;
    registry.find(environment)?.begin_response(request_id)?;
    respond(&registry, path, payload, true)
}

/// 202, or 403 for an unknown environment.
type Reply = Result<StatusCode, StatusCode>;

fn respond(
    registry: &RuntimeRegistry,
    Path((environment, request_id)): Path<(String, String)>,
    payload: Result<Bytes, BytesRejection>,
    is_error: bool,
) -> Reply {
    let (payload, is_error, fits) = match payload {
        Ok(payload) => (payload, is_error, true),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            (too_large(), true, false)
        }
        // The process ended while it sent this; its exit is reported instead.
        Err(rejection) => return Err(rejection.status()),
    };
    send(
        registry,
        &environment,
        RuntimeMessage::Response {
            request_id,
            response: FunctionResponse { payload, is_error },
        },
    )?;
    if fits {
        Ok(StatusCode::ACCEPTED)
    } else {
        Err(StatusCode::PAYLOAD_TOO_LARGE)
    }
}

fn too_large() -> Bytes {
    let message = format!(
        "Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
    );
    error_payload("Function.ResponseSizeTooLarge", &message)
}

async fn init_error(
    registry: State<RuntimeRegistry>,
    Path(environment): Path<String>,
    payload: Bytes,
) -> Reply {
    let error = String::from_utf8_lossy(&payload).into_owned();
    send(&registry, &environment, RuntimeMessage::InitError(error))
}

fn send(registry: &RuntimeRegistry, environment: &str, message: RuntimeMessage) -> Reply {
    let runtime = registry.find(environment)?;
    runtime
        .messages
        .send(message)
        .map_err(|_| StatusCode::FORBIDDEN)?;
    Ok(StatusCode::ACCEPTED)
}
