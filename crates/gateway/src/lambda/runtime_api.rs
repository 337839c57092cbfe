//! The Runtime API: how a function's process asks for events and answers
//! them. Every environment has a path of its own, so that it is known who asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::Outcome;
use crate::ids;

/// Lambda's limit for a response, in bytes, and a little for JSON around it.
const MAX_RESPONSE_BYTES: usize = 6 * 1024 * 1024 + 64 * 1024;

/// An event on its way to a function.
pub(super) struct Event {
    pub(super) request_id: String,
    pub(super) deadline: SystemTime,
    pub(super) arn: String,
    pub(super) payload: Bytes,
}

/// What a function's runtime says.
pub(super) enum FromRuntime {
    /// It asks for an event.
    Next,
    /// It has handled one.
    Answer {
        request_id: String,
        outcome: Outcome,
    },
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
}

/// The gateway's end of an environment's Runtime API; gone when dropped.
pub(super) struct Link {
    id: String,
    environments: Environments,
    events: UnboundedSender<Event>,
    said: UnboundedReceiver<FromRuntime>,
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
        let side = RuntimeSide {
            events: Arc::new(tokio::sync::Mutex::new(events_received)),
            said: says,
        };
        self.lock().insert(id.clone(), side);
        Link {
            id,
            environments: self.clone(),
            events,
            said,
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
    let event = side.events.lock().await.recv().await;
    let event = event.ok_or(StatusCode::FORBIDDEN)?;
    let deadline = event
        .deadline
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Response::builder()
        .header("Content-Type", "application/json")
        .header("Lambda-Runtime-Aws-Request-Id", &event.request_id)
        .header(
            "Lambda-Runtime-Deadline-Ms",
            deadline.as_millis().to_string(),
        )
        .header("Lambda-Runtime-Invoked-Function-Arn", event.arn)
        .header("Lambda-Runtime-Trace-Id", ids::trace())
        .body(Body::from(event.payload))
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn response(
    environments: State<Environments>,
    path: Path<(String, String)>,
    payload: Bytes,
) -> Answered {
    answered(
        &environments,
        path,
        Outcome {
            payload,
            is_error: false,
        },
    )
}

async fn error(
    environments: State<Environments>,
    path: Path<(String, String)>,
    payload: Bytes,
) -> Answered {
    answered(
        &environments,
        path,
        Outcome {
            payload,
            is_error: true,
        },
    )
}

/// 202, or 403 for an environment that is not there.
type Answered = Result<StatusCode, StatusCode>;

fn answered(
    environments: &Environments,
    Path((environment, request_id)): Path<(String, String)>,
    outcome: Outcome,
) -> Answered {
    say(
        environments,
        &environment,
        FromRuntime::Answer {
            request_id,
            outcome,
        },
    )
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
