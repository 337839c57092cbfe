//! The Runtime API: how a function's process asks for events and answers
//! them. Every environment has a path of its own, so that it is known who asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use bytes::Bytes;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::{Invocation, error_payload};
use crate::ids;

/// Lambda's limit for a response, in bytes. The number is the one in its error
/// message: 6 MB and 100 bytes.
const MAX_RESPONSE_BYTES: usize = 6_291_556;

/// An event on its way to a function.
pub(super) struct Event {
    pub(super) invocation: Invocation,
    pub(super) deadline: SystemTime,
    pub(super) arn: String,
}

/// What a function answered.
pub(super) struct Answer {
    /// What it returned, or its error as JSON.
    pub(super) payload: Bytes,
    pub(super) is_error: bool,
}

/// What a function's runtime says.
pub(super) enum FromRuntime {
    /// It asks for an event.
    Next,
    /// It has handled one.
    Answer { request_id: String, answer: Answer },
    /// It cannot start.
    InitError(String),
}

/// The environments that are running, by their id.
#[derive(Clone, Default)]
pub(super) struct Environments(Arc<Mutex<HashMap<String, RuntimeSide>>>);

/// What the handlers need to speak with one environment.
#[derive(Clone)]
struct RuntimeSide {
    events: Arc<tokio::sync::Mutex<UnboundedReceiver<Event>>>,
    said: UnboundedSender<FromRuntime>,
    process: Arc<OnceLock<Pid>>,
}

/// A group of processes that is stopped, as Lambda freezes an environment
/// between events: nothing runs in it, no timer and no thread. Dropping this
/// wakes it.
struct Frozen(Pid);

impl Frozen {
    fn freeze(group: Pid) -> Self {
        // It speaks with us right now; where it was killed meanwhile, there is
        // no such group for as long as ids are not used again.
        let _ = killpg(group, Signal::SIGSTOP);
        Self(group)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = killpg(self.0, Signal::SIGCONT);
    }
}

/// The gateway's end of an environment's Runtime API; gone when dropped.
pub(super) struct Link {
    id: String,
    environments: Environments,
    events: UnboundedSender<Event>,
    said: UnboundedReceiver<FromRuntime>,
    process: Arc<OnceLock<Pid>>,
}

impl Environments {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, RuntimeSide>> {
        self.0.lock().expect("no one panics while holding the map")
    }

    /// A new environment's link.
    pub(super) fn link(&self) -> Link {
        let id = ids::uuid();
        let (events, events_received) = mpsc::unbounded_channel();
        let (says, said) = mpsc::unbounded_channel();
        let process = Arc::new(OnceLock::new());
        let side = RuntimeSide {
            events: Arc::new(tokio::sync::Mutex::new(events_received)),
            said: says,
            process: Arc::clone(&process),
        };
        self.lock().insert(id.clone(), side);
        Link {
            id,
            environments: self.clone(),
            events,
            said,
            process,
        }
    }

    fn find(&self, id: &str) -> Result<RuntimeSide, StatusCode> {
        self.lock().get(id).cloned().ok_or(StatusCode::FORBIDDEN)
    }
}

impl Link {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Where this environment's Runtime API is, below the gateway's address.
    pub(super) fn path(&self) -> String {
        format!("/_runtime/{}", self.id)
    }

    /// Names the process group at the other end: from now on it is frozen while
    /// it waits.
    pub(super) fn of_process(&self, group: Pid) {
        // There is one for each link.
        let _ = self.process.set(group);
    }

    /// The process group at the other end, once it has been named.
    pub(super) fn process(&self) -> Option<Pid> {
        self.process.get().copied()
    }

    pub(super) fn send(&self, event: Event) {
        // The receiver lives in the map for as long as this link.
        let _ = self.events.send(event);
    }

    /// What the runtime says next.
    pub(super) async fn received(&mut self) -> FromRuntime {
        match self.said.recv().await {
            Some(message) => message,
            // Cannot come: the sender lives in the map for as long as this link.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.environments.lock().remove(&self.id);
    }
}

/// The Runtime API's routes.
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
        .with_state(lambda.environments.clone())
}

async fn next(
    State(environments): State<Environments>,
    Path(environment): Path<String>,
) -> Result<Response<Body>, StatusCode> {
    let side = environments.find(&environment)?;
    side.said
        .send(FromRuntime::Next)
        .map_err(|_| StatusCode::FORBIDDEN)?;
    let mut events = side.events.lock().await;
    let event = match events.try_recv() {
        Ok(event) => Some(event),
        Err(TryRecvError::Disconnected) => None,
        Err(TryRecvError::Empty) => {
            let _frozen = side.process.get().copied().map(Frozen::freeze);
            events.recv().await
        }
    };
    let event = event.ok_or(StatusCode::FORBIDDEN)?;
    let deadline = event
        .deadline
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Response::builder()
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
    environments: State<Environments>,
    path: Path<(String, String)>,
    payload: Result<Bytes, BytesRejection>,
) -> Answered {
    answered(&environments, path, payload, false)
}

async fn error(
    environments: State<Environments>,
    path: Path<(String, String)>,
    payload: Result<Bytes, BytesRejection>,
) -> Answered {
    answered(&environments, path, payload, true)
}

/// 202, or 403 for an environment that is not there.
type Answered = Result<StatusCode, StatusCode>;

fn answered(
    environments: &Environments,
    Path((environment, request_id)): Path<(String, String)>,
    payload: Result<Bytes, BytesRejection>,
    is_error: bool,
) -> Answered {
    let (payload, is_error, fits) = match payload {
        Ok(payload) => (payload, is_error, true),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            (too_large(), true, false)
        }
        // Broken off: the process has ended, and that is what will be told.
        Err(rejection) => return Err(rejection.status()),
    };
    say(
        environments,
        &environment,
        FromRuntime::Answer {
            request_id,
            answer: Answer { payload, is_error },
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
    environments: State<Environments>,
    Path(environment): Path<String>,
    payload: Bytes,
) -> Answered {
    let error = String::from_utf8_lossy(&payload).into_owned();
    say(&environments, &environment, FromRuntime::InitError(error))
}

fn say(environments: &Environments, environment: &str, message: FromRuntime) -> Answered {
    let side = environments.find(environment)?;
    side.said.send(message).map_err(|_| StatusCode::FORBIDDEN)?;
    Ok(StatusCode::ACCEPTED)
}
