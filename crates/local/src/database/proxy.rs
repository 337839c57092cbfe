//! A proxy in front of the embedded DynamoDB. It passes every call on, except
//! those that a fault strikes. The embedded DynamoDB never throttles, conflicts
//! or loses a response; clients of the real one must handle all three.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::contention::{Conflict, Contention};
use super::request_tokens::{Repeated, RequestTokens, WithToken};
use crate::fault::{DatabaseFault, Faults};
use crate::template::TableSpec;

/// DynamoDB's request limit, in bytes.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// The namespace of DynamoDB's error types.
const NAMESPACE: &str = "com.amazonaws.dynamodb.v20120810";

const TRANSACTION: &str = "TransactWriteItems";

const ONGOING: &str = "Transaction is ongoing for the item";

#[derive(Clone)]
struct Proxy {
    database: Authority,
    client: Client<HttpConnector, Body>,
    faults: Faults,
    contention: Arc<Contention>,
    tokens: Arc<RequestTokens>,
}

/// Serves every path; `database` is the embedded DynamoDB's address.
pub(super) fn router(database: SocketAddr, tables: &[TableSpec], faults: Faults) -> Router {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let proxy = Proxy {
        database: Authority::try_from(database.to_string()).expect("an address is an authority"),
        client: Client::builder(TokioExecutor::new()).build(connector),
        faults,
        contention: Arc::new(Contention::new(tables)),
        tokens: Arc::default(),
    };
    Router::new()
        .fallback(call)
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(proxy)
}

async fn call(State(proxy): State<Proxy>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    // Always read the whole request: a response before its end would reach the
    // client as a connection reset.
    let Ok(body) = to_bytes(body, MAX_REQUEST_BYTES).await else {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let operation = operation(&head.headers);
    match proxy.faults.on_call(&operation) {
        None => proxy.execute(&operation, head, body).await,
        Some(DatabaseFault::Throttle) => refuse(
            "ProvisionedThroughputExceededException",
            "The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning level with the UpdateTable API.",
            json!({}),
        ),
        Some(DatabaseFault::Conflict) => conflict(&operation, &body),
        Some(DatabaseFault::Timeout) => std::future::pending().await,
        Some(DatabaseFault::LoseResponse) => {
            drop(proxy.execute(&operation, head, body).await);
            std::future::pending().await
        }
        Some(DatabaseFault::Slow(delay)) => {
            tokio::time::sleep(delay).await;
            proxy.execute(&operation, head, body).await
        }
    }
}

/// `PutItem` of `X-Amz-Target: DynamoDB_20120810.PutItem`.
fn operation(headers: &HeaderMap) -> String {
    let target = headers.get("X-Amz-Target");
    let target = target.and_then(|target| target.to_str().ok());
    let operation = target.and_then(|target| target.split_once('.'));
    operation.map_or("", |(_, operation)| operation).to_owned()
}

impl Proxy {
    /// Passes a call on, unless a transaction holds one of its items.
    async fn execute(&self, operation: &str, head: Parts, body: Bytes) -> Response<Body> {
        if operation == TRANSACTION {
            // DynamoDB completes a transaction whose client has gone.
            return tokio::spawn(self.clone().transact(head, body))
                .await
                .unwrap_or_else(|_| status(StatusCode::SERVICE_UNAVAILABLE));
        }
        if self.contention.holds_items() {
            let request = serde_json::from_slice(&body).unwrap_or_default();
            if let Err(conflict) = self.contention.admit(operation, &request, || false) {
                return refuse_conflict(&conflict);
            }
        }
        self.forward(head, body).await
    }

    /// Executes a transaction, or answers as to the first one with its token.
    async fn transact(self, mut head: Parts, body: Bytes) -> Response<Body> {
        let Some(request) = WithToken::take(&body) else {
            return self.hold_and_forward(head, body).await;
        };
        let first = match self.tokens.begin(&request) {
            Ok(first) => first,
            Err(repeated) => return answer_repeated(repeated),
        };
        // The body is shorter than the client's.
        head.headers.remove(CONTENT_LENGTH);
        let response = self.hold_and_forward(head, request.body).await;
        if !response.status().is_success() {
            return response;
        }
        let Ok(answer) = to_bytes(response.into_body(), MAX_REQUEST_BYTES).await else {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        };
        first.executed(&answer);
        answered(StatusCode::OK, answer.into())
    }

    /// A struck transaction holds its items for a while before it is executed.
    async fn hold_and_forward(&self, head: Parts, body: Bytes) -> Response<Body> {
        if !self.faults.contends() && !self.contention.holds_items() {
            return self.forward(head, body).await;
        }
        let request = serde_json::from_slice(&body).unwrap_or_default();
        let mut delay = None;
        let holds = || {
            delay = self.faults.on_transaction();
            delay.is_some()
        };
        let held = match self.contention.admit(TRANSACTION, &request, holds) {
            Ok(held) => held,
            Err(conflict) => return refuse_conflict(&conflict),
        };
        if let Some(delay) = delay {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.faults.contention_ended() => {}
            }
        }
        let response = self.forward(head, body).await;
        drop(held);
        response
    }

    async fn forward(&self, mut head: Parts, body: Bytes) -> Response<Body> {
        let mut uri = std::mem::take(&mut head.uri).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.database.clone());
        head.uri = Uri::from_parts(uri).unwrap_or_default();
        let request = Request::from_parts(head, Body::from(body));
        match self.client.request(request).await {
            Ok(response) => response.map(Body::new),
            Err(error) => {
                tracing::error!(reason = %error, "the embedded DynamoDB does not respond");
                status(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The conflict of the fault that needs no other transaction: at the first item.
fn conflict(operation: &str, body: &[u8]) -> Response<Body> {
    if !operation.starts_with("Transact") {
        return refuse_conflict(&Conflict::Item);
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let items = body["TransactItems"].as_array().map_or(1, Vec::len);
    let mut held = vec![false; items.max(1)];
    held[0] = true;
    refuse_conflict(&Conflict::Items(held))
}

/// A single write has its own error. A cancelled transaction lists a reason for
/// each of its items.
fn refuse_conflict(conflict: &Conflict) -> Response<Body> {
    let held = match conflict {
        Conflict::Items(held) => held,
        Conflict::Item => {
            return refuse("TransactionConflictException", ONGOING, json!({}));
        }
    };
    let reason = |is_held: &bool| match is_held {
        true => json!({"Code": "TransactionConflict", "Message": ONGOING}),
        false => json!({"Code": "None"}),
    };
    let reasons: Vec<_> = held.iter().map(reason).collect();
    let codes: Vec<_> = reasons
        .iter()
        .filter_map(|reason| reason["Code"].as_str())
        .collect();
    let message = format!(
        "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
        codes.join(", ")
    );
    refuse(
        "TransactionCanceledException",
        &message,
        json!({"CancellationReasons": reasons}),
    )
}

fn answer_repeated(repeated: Repeated) -> Response<Body> {
    match repeated {
        Repeated::Executed(answer) => answered(StatusCode::OK, answer.into()),
        Repeated::InProgress => refuse(
            "TransactionInProgressException",
            "The transaction with the given request token is already in progress.",
            json!({}),
        ),
        Repeated::Mismatch => refuse(
            "IdempotentParameterMismatchException",
            "The request uses the same client token as a previous, but non-identical request.",
            json!({}),
        ),
    }
}

fn refuse(error_type: &str, message: &str, fields: Value) -> Response<Body> {
    let mut body = fields;
    body["__type"] = format!("{NAMESPACE}#{error_type}").into();
    let name = match error_type {
        "TransactionCanceledException"
        | "TransactionInProgressException"
        | "IdempotentParameterMismatchException" => "Message",
        _ => "message",
    };
    body[name] = message.into();
    answered(StatusCode::BAD_REQUEST, Body::from(body.to_string()))
}

fn answered(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-amz-json-1.0"),
    );
    response
}
