use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use belfry_aws::{Clients, LambdaWorkers, SegmentTask};
use belfry_core::ports::Workers;
use belfry_core::testing::workers_contract;
use belfry_protocol::MessageId;

type Invocations = Arc<Mutex<Vec<(String, u32)>>>;

/// As much of Lambda's Invoke as the contract needs.
async fn invoked(
    State(invocations): State<Invocations>,
    Path(function): Path<String>,
    headers: HeaderMap,
    payload: Bytes,
) -> StatusCode {
    if function != "belfry-Worker" {
        return StatusCode::NOT_FOUND;
    }
    assert_eq!(headers["x-amz-invocation-type"], "Event");
    let task: SegmentTask = serde_json::from_slice(&payload).unwrap();
    let task = (task.message_id.to_string(), task.segment);
    invocations.lock().unwrap().push(task);
    StatusCode::ACCEPTED
}

async fn clients(invocations: Invocations) -> Clients {
    let router = Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoked))
        .with_state(invocations);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Clients::from(crate::sdk_config(&endpoint))
}

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    let invocations = Invocations::default();
    let clients = clients(Arc::clone(&invocations)).await;
    let workers = LambdaWorkers::new(clients.lambda(), "belfry-Worker".into());
    let tasks = async || std::mem::take(&mut *invocations.lock().unwrap());
    workers_contract(&workers, tasks).await;
}

#[tokio::test]
async fn a_function_that_does_not_exist_is_an_error() {
    let clients = clients(Invocations::default()).await;
    let workers = LambdaWorkers::new(clients.lambda(), "Elsewhere".into());
    let id = MessageId::parse("m").unwrap();
    assert!(workers.start(&id, 0).await.is_err());
}
