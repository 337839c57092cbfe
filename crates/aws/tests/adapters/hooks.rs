use std::sync::{Arc, LazyLock, Mutex};

use aws_sdk_dynamodb::Client;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use belfry_aws::{DynamoDb, EmfMetrics, HooksTask, LambdaHooks, LambdaListener, SystemClock};
use belfry_core::hooks::PendingEvent;
use belfry_core::ports::{DeadLetters, Disconnections, HookEvents, Listener};
use belfry_core::testing::{START, connection, hooks_contract, store_contract};
use serde_json::{Value, json};

use crate::database::{database, tables};
use crate::dynamodb::put;

/// Where Lambda's Invoke accepts everything. It runs as long as the tests.
static SINK: LazyLock<String> = LazyLock::new(|| {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let router = Router::new().fallback(async || StatusCode::ACCEPTED);
            axum::serve(listener, router).await.unwrap();
        });
    });
    endpoint
});

fn function(endpoint: &str) -> LambdaHooks {
    let clients = crate::clients(endpoint);
    LambdaHooks::new(clients.lambda(), "belfry-Hooks".into())
}

fn metrics() -> EmfMetrics<SystemClock> {
    EmfMetrics::new("belfry-test".into(), SystemClock)
}

/// Makes stores those of an application with a hook. Nobody delivers their
/// events.
pub(crate) fn hooked() -> impl Fn(DynamoDb) -> DynamoDb {
    let function = function(&SINK);
    move |store| store.with_hooks(function.clone(), metrics())
}

fn with_hooks(client: Client) -> DynamoDb {
    hooked()(DynamoDb::new(client, tables()))
}

#[tokio::test]
async fn the_store_keeps_the_contract() {
    hooks_contract(async || with_hooks(database().await)).await;
}

#[tokio::test]
async fn with_a_hook_the_store_keeps_its_other_promises() {
    store_contract(async || with_hooks(database().await)).await;
}

#[tokio::test]
async fn without_a_hook_nothing_is_written() {
    let client = database().await;
    let store = DynamoDb::new(client.clone(), tables());
    let row = connection("c1", "alice");
    put(&store, &row).await;
    store.disconnect(&row.id, START).await.unwrap();
    assert_eq!(store.waiting().await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_long_list_of_waiting_events_is_read_page_by_page() {
    let client = database().await;
    let store = with_hooks(client.clone());
    let row = connection("c1", "alice");
    put(&store, &row).await;
    // More than a page of one subject stands between others of its shard.
    let item = client.scan().table_name("State").send().await.unwrap();
    let item = item.items().iter().find(|item| item.contains_key("event"));
    let item = item.unwrap();
    let (pk, sk) = (item["pk"].as_s().unwrap(), item["sk"].as_s().unwrap());
    let (subject, _) = sk.split_once('#').unwrap();
    let first = format!("{:0>32}", 1);
    let last = "f".repeat(32);
    for (subject, number) in [(first.as_str(), 2), (subject, 3_000), (last.as_str(), 2)] {
        for n in 0..number {
            let at = START.0 + 1 + n;
            let sk = format!("{subject}#{at:013}#connection.closed");
            let put = client.put_item().table_name("State");
            let put = put.set_item(Some(item.clone()));
            let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.into());
            let put = put.item("pk", text(pk)).item("sk", text(&sk));
            let put = put.item("padding", text(&"x".repeat(400)));
            put.send().await.unwrap();
        }
    }
    assert_eq!(store.waiting().await.unwrap().len(), 3);
    let subject = PendingEvent::opened(&row).subject();
    let listed = store.events_of(&subject).await.unwrap();
    assert!(listed.more);
    assert_eq!(listed.events[0].at, START);
}

type Invocations = Arc<Mutex<Vec<(String, String, Value)>>>;

async fn invoked(
    State(invocations): State<Invocations>,
    Path(function): Path<String>,
    headers: HeaderMap,
    payload: Bytes,
) -> Response {
    let kind = headers.get("x-amz-invocation-type");
    let kind = kind.map_or("RequestResponse", |kind| kind.to_str().unwrap());
    let event = serde_json::from_slice(&payload).unwrap();
    let invocation = (function.clone(), kind.into(), event);
    invocations.lock().unwrap().push(invocation);
    match function.as_str() {
        "belfry-Hooks" => StatusCode::ACCEPTED.into_response(),
        "Listens" => "null".into_response(),
        "Fails" => ([("x-amz-function-error", "Unhandled")], "null").into_response(),
        "Throttled" => (
            StatusCode::TOO_MANY_REQUESTS,
            [("x-amzn-errortype", "TooManyRequestsException")],
            r#"{"message":"Rate Exceeded."}"#,
        )
            .into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn lambda() -> (Invocations, String) {
    let invocations = Invocations::default();
    let router = Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoked))
        .with_state(Arc::clone(&invocations));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (invocations, endpoint)
}

#[tokio::test]
async fn each_event_starts_its_delivery() {
    let (invocations, endpoint) = lambda().await;
    let store = DynamoDb::new(database().await, tables());
    let store = store.with_hooks(function(&endpoint), metrics());
    let row = connection("c1", "alice");
    put(&store, &row).await;
    store.disconnect(&row.id, START).await.unwrap();
    // Nothing is written, so nothing is to be delivered.
    store.disconnect(&row.id, START).await.unwrap();
    let task = json!({"action": "deliver", "subject": {"connectionId": "c1"}});
    let started = ("belfry-Hooks".to_owned(), "Event".to_owned(), task);
    assert_eq!(*invocations.lock().unwrap(), vec![started; 2]);
}

#[tokio::test]
async fn a_delivery_that_cannot_be_started_is_no_error() {
    let store = DynamoDb::new(database().await, tables());
    // Nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let store = store.with_hooks(function(&endpoint), metrics());
    let row = connection("c1", "alice");
    put(&store, &row).await;
    assert_eq!(store.waiting().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_dead_letter_is_an_invocation_that_fails() {
    let (invocations, endpoint) = lambda().await;
    let event = PendingEvent::opened(&connection("c1", "alice")).event;
    function(&endpoint).keep(&event).await.unwrap();
    let (name, kind, task) = invocations.lock().unwrap()[0].clone();
    assert_eq!((name.as_str(), kind.as_str()), ("belfry-Hooks", "Event"));
    let task: HooksTask = serde_json::from_value(task).unwrap();
    assert_eq!(task, HooksTask::GiveUp { event });
}

#[tokio::test]
async fn a_function_was_told_only_if_it_returned() {
    let (invocations, endpoint) = lambda().await;
    let clients = crate::clients(&endpoint);
    let event = PendingEvent::opened(&connection("c1", "alice")).event;
    for (function, error) in [
        ("Listens", None),
        ("Fails", Some("failed: Unhandled")),
        ("Throttled", Some("Rate Exceeded")),
        ("Elsewhere", Some("404")),
    ] {
        let listener = LambdaListener::new(clients.lambda_once(), function.into());
        let told = listener.tell(&event).await;
        match error {
            None => assert_eq!(told, Ok(())),
            Some(error) => assert!(told.unwrap_err().contains(error), "{function}"),
        }
        let sent = serde_json::to_value(&event).unwrap();
        let arrived = (function.to_owned(), "RequestResponse".to_owned(), sent);
        let told = std::mem::take(&mut *invocations.lock().unwrap());
        assert_eq!(told, [arrived], "it is not repeated");
    }
}
