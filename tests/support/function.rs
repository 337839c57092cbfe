//! A function as Lambda runs it: one process that asks a Runtime API for
//! events.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::patience::PATIENCE;
use crate::process::memory_kb;

/// Lambda's longest timeout.
const TIMEOUT: Duration = Duration::from_secs(900);

/// Lambda allots processor time in periods of 20 ms. (Measured by others; AWS
/// documents only the share.)
const PERIOD: Duration = Duration::from_millis(20);

static EVENTS: AtomicU64 = AtomicU64::new(0);

type Answer = Result<Value, Value>;

#[derive(Debug)]
struct Event {
    payload: String,
    answer: oneshot::Sender<Answer>,
}

#[derive(Clone)]
struct RuntimeApi {
    events: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>>,
    answers: Arc<Mutex<HashMap<String, oneshot::Sender<Answer>>>>,
    asked: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

/// A running function; it is killed when dropped.
pub struct Function {
    /// From the start of the process until it asks for its first event.
    pub started_after: Duration,
    events: mpsc::UnboundedSender<Event>,
    process: Child,
    serving: JoinHandle<()>,
}

impl Drop for Function {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Function {
    /// Starts a function with these environment variables and Lambda's own,
    /// and waits until it asks for an event.
    ///
    /// # Panics
    /// If it ends first, or does not ask in time.
    pub async fn start(command: Command, variables: &[(&str, String)]) -> Self {
        Self::spawn(command, variables, Stdio::null()).await
    }

    /// Starts a function whose log [`Self::stop`] returns. It must be short:
    /// nothing reads it before.
    ///
    /// # Panics
    /// If it ends first, or does not ask in time.
    pub async fn start_logged(command: Command, variables: &[(&str, String)]) -> Self {
        Self::spawn(command, variables, Stdio::piped()).await
    }

    async fn spawn(mut command: Command, variables: &[(&str, String)], output: Stdio) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (events, waiting) = mpsc::unbounded_channel();
        let (asked, asks) = oneshot::channel();
        let api = RuntimeApi {
            events: Arc::new(waiting.into()),
            answers: Arc::default(),
            asked: Arc::new(Some(asked).into()),
        };
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(answer))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .with_state(api);
        let serving = tokio::spawn(async { axum::serve(listener, router).await.expect("serves") });
        command
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "Function")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "group")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output)
            .kill_on_drop(true);
        let begun = Instant::now();
        let mut process = command.spawn().expect("the function starts");
        let asking = async {
            tokio::select! {
                asked = asks => asked.expect("the API serves"),
                status = process.wait() => panic!("the function ended: {status:?}"),
            }
        };
        let asked = tokio::time::timeout(PATIENCE, asking).await;
        asked.expect("the function asks for an event in time");
        Self {
            started_after: begun.elapsed(),
            events,
            process,
            serving,
        }
    }

    /// Sends the function an event.
    ///
    /// # Errors
    /// The function's own error.
    ///
    /// # Panics
    /// If the function ends, or does not answer within Lambda's timeout.
    pub async fn invoke(&mut self, payload: &Value) -> Answer {
        let (answer, answered) = oneshot::channel();
        let payload = payload.to_string();
        let event = Event { payload, answer };
        self.events.send(event).expect("the API serves");
        tokio::select! {
            answer = answered => answer.expect("an answer"),
            status = self.process.wait() => panic!("the function ended: {status:?}"),
            () = tokio::time::sleep(TIMEOUT) => panic!("the function timed out"),
        }
    }

    /// Ends the function, and returns what it has logged.
    ///
    /// # Panics
    /// If it was not started with [`Self::start_logged`].
    pub async fn stop(mut self) -> String {
        self.process.kill().await.expect("the function ends");
        let mut output = self.process.stdout.take().expect("a log");
        let mut text = String::new();
        let read = output.read_to_string(&mut text).await;
        read.expect("text");
        text
    }

    /// Processor time used so far, in steps of 10 ms.
    ///
    /// # Panics
    /// On systems without /proc.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        // The name is the only field that may hold a space, and ends in ")".
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let stat = stat.expect("the function runs");
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u64 = ticks
            .map(|field| field.parse::<u64>().expect("ticks"))
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// # Panics
    /// On systems without /proc.
    #[must_use]
    pub fn peak_memory_kb(&self) -> u64 {
        memory_kb(self.pid(), "VmHWM")
    }

    /// Lets the function run for this share of the time only, as Lambda does
    /// if its memory buys less than a whole processor.
    ///
    /// # Panics
    /// If the function has ended.
    pub fn limit_to(&self, share: f64) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process id"));
        // The loop ends with the process.
        std::thread::spawn(move || {
            while kill(pid, Signal::SIGCONT).is_ok() {
                std::thread::sleep(PERIOD.mul_f64(share));
                let _ = kill(pid, Signal::SIGSTOP);
                std::thread::sleep(PERIOD.mul_f64(1.0 - share));
            }
        });
    }

    fn pid(&self) -> u32 {
        self.process.id().expect("the function runs")
    }
}

async fn next(State(api): State<RuntimeApi>) -> Response {
    if let Some(asked) = api.asked.lock().expect("nobody panics with it").take() {
        let _ = asked.send(());
    }
    let Some(event) = api.events.lock().await.recv().await else {
        // The function has been dropped; its process is about to be killed.
        std::future::pending().await
    };
    let number = EVENTS.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:08x}-0000-4000-8000-{number:012x}", std::process::id());
    let deadline = SystemTime::now() + TIMEOUT;
    let deadline = deadline.duration_since(UNIX_EPOCH).expect("after 1970");
    let mut answers = api.answers.lock().expect("nobody panics with it");
    answers.insert(id.clone(), event.answer);
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:Function";
    let headers = [
        ("lambda-runtime-aws-request-id", id),
        (
            "lambda-runtime-deadline-ms",
            deadline.as_millis().to_string(),
        ),
        ("lambda-runtime-invoked-function-arn", arn.into()),
        ("content-type", "application/json".into()),
    ];
    (headers, event.payload).into_response()
}

async fn answer(State(api): State<RuntimeApi>, Path(id): Path<String>, body: Bytes) -> Response {
    api.answer(&id, Ok(json(&body)))
}

async fn error(State(api): State<RuntimeApi>, Path(id): Path<String>, body: Bytes) -> Response {
    api.answer(&id, Err(json(&body)))
}

/// An answer, or the prelude of a streamed one, which ends with NUL bytes.
fn json(body: &[u8]) -> Value {
    let mut parts = body.split(|byte| *byte == 0);
    let first = parts.next().unwrap_or_default();
    serde_json::from_slice(first).unwrap_or_default()
}

impl RuntimeApi {
    fn answer(&self, id: &str, answer: Answer) -> Response {
        let mut answers = self.answers.lock().expect("nobody panics with it");
        let waiting = answers.remove(id).expect("the id of a pending event");
        let _ = waiting.send(answer);
        axum::http::StatusCode::ACCEPTED.into_response()
    }
}
