//! Sits in front of the database and does to one of the calls what a test wants.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::database::SUBSCRIPTIONS;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It waits in front of the database until it may continue.
    Pause,
    /// It conflicts with another transaction.
    Conflict,
    /// It is throttled.
    Throttle,
    /// It fails, and the SDK does not retry it.
    Fail,
    /// The database executes it, and the answer is lost.
    LostAnswer,
    /// The same for each later call of its operation.
    LostAnswers,
}

/// A path to the database with trouble at one call, counted from zero.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    shared: Arc<Shared>,
}

struct Shared {
    database: String,
    client: reqwest::Client,
    trouble: Trouble,
    at: usize,
    calls: AtomicUsize,
    reached: Semaphore,
    may_go_on: Semaphore,
    /// The operation of the call.
    struck: OnceLock<String>,
    /// Whether each call of that operation fails from now on.
    fails: AtomicBool,
}

impl Proxy {
    pub(crate) async fn start(database: &str, trouble: Trouble, at: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            database: database.to_owned(),
            client: crate::plain_http(),
            trouble,
            at,
            calls: AtomicUsize::new(0),
            reached: Semaphore::new(0),
            may_go_on: Semaphore::new(0),
            struck: OnceLock::new(),
            fails: AtomicBool::new(false),
        });
        let app = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&shared));
        tokio::spawn(async { axum::serve(listener, app).await });
        Self { endpoint, shared }
    }

    /// Waits until the call arrives.
    pub(crate) async fn reached(&self) {
        self.shared.reached.acquire().await.unwrap().forget();
    }

    /// Lets the waiting call continue.
    pub(crate) fn go_on(&self) {
        self.shared.may_go_on.add_permits(1);
    }

    /// Lets the call that waits fail, and each later one of its operation.
    pub(crate) fn fail_from_now_on(&self) {
        self.shared.fails.store(true, Ordering::SeqCst);
        self.go_on();
    }

    /// Whether there was trouble.
    pub(crate) fn was_reached(&self) -> bool {
        self.shared.calls.load(Ordering::SeqCst) > self.shared.at
    }
}

async fn handle(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let call = shared.calls.fetch_add(1, Ordering::SeqCst);
    let operation = operation(&headers).to_owned();
    let pass = async |headers, body| {
        let answer = forward(&shared.client, &shared.database, headers, body).await;
        answer.into_response()
    };
    let failed = || refused("AccessDeniedException", &Value::Null);
    if call == shared.at {
        shared.struck.get_or_init(|| operation.clone());
        shared.reached.add_permits(1);
    }
    let is_same = shared.struck.get() == Some(&operation);
    if is_same && shared.fails.load(Ordering::SeqCst) {
        return failed();
    }
    let is_struck = call == shared.at || is_same && shared.trouble == Trouble::LostAnswers;
    if !is_struck {
        return pass(headers, body).await;
    }
    match shared.trouble {
        Trouble::Pause => {
            shared.may_go_on.acquire().await.unwrap().forget();
            if shared.fails.load(Ordering::SeqCst) {
                return failed();
            }
            pass(headers, body).await
        }
        Trouble::Conflict if operation == "TransactWriteItems" => {
            let request: Value = serde_json::from_slice(&body).unwrap();
            let items = request["TransactItems"].as_array().unwrap().len();
            let mut reasons = vec![json!({"Code": "None"}); items];
            reasons[items - 1] = json!({"Code": "TransactionConflict"});
            refused("TransactionCanceledException", &reasons.into())
        }
        Trouble::Conflict if is_in_transactions(&operation, &body) => {
            refused("TransactionConflictException", &Value::Null)
        }
        // None of our other calls can fail because of another transaction.
        Trouble::Conflict => pass(headers, body).await,
        Trouble::Fail => failed(),
        Trouble::Throttle => refused("ProvisionedThroughputExceededException", &Value::Null),
        Trouble::LostAnswer | Trouble::LostAnswers => {
            pass(headers, body).await;
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Whether a request writes an item that transactions write, too: the others
/// meet no conflict.
fn is_in_transactions(operation: &str, body: &[u8]) -> bool {
    let request: Value = serde_json::from_slice(body).unwrap();
    match operation {
        "UpdateItem" => request["TableName"] != SUBSCRIPTIONS,
        "PutItem" => request["Item"]["position"]["S"] == "head",
        _ => false,
    }
}

fn operation(headers: &HeaderMap) -> &str {
    let target = headers["x-amz-target"].to_str().unwrap();
    target.rsplit('.').next().unwrap()
}

fn refused(name: &str, reasons: &Value) -> Response {
    let name = format!("com.amazonaws.dynamodb.v20120810#{name}");
    let body = json!({"__type": name, "message": "told to", "CancellationReasons": reasons});
    (StatusCode::BAD_REQUEST, body.to_string()).into_response()
}

/// Passes a call on.
pub(crate) async fn forward(
    client: &reqwest::Client,
    database: &str,
    mut headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Bytes) {
    for name in ["host", "content-length"] {
        headers.remove(name);
    }
    let request = client.post(database).headers(headers).body(body);
    let answer = request.send().await.unwrap();
    (answer.status(), answer.bytes().await.unwrap())
}
