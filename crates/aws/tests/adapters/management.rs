use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use belfry_aws::apigateway::ManagementOutbox;
use belfry_core::ports::{Outbox, PostError};
use belfry_core::testing::{connection_id, outbox_contract};
use serde_json::json;

type Open = Arc<Mutex<HashSet<String>>>;

async fn serve(router: Router) -> ManagementOutbox {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/dev", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    ManagementOutbox::new(crate::clients(&endpoint).management(&endpoint))
}

/// As much of the management API as the contract needs. Like API Gateway it
/// answers an empty 410 for a connection that is not open.
fn management_api(open: Open) -> Router {
    async fn posted(State(open): State<Open>, Path(id): Path<String>) -> StatusCode {
        if open.lock().unwrap().contains(&id) {
            StatusCode::OK
        } else {
            StatusCode::GONE
        }
    }
    async fn found(State(open): State<Open>, Path(id): Path<String>) -> Response {
        if !open.lock().unwrap().contains(&id) {
            return StatusCode::GONE.into_response();
        }
        let found = json!({
            "connectedAt": "2026-02-09T18:11:43.822Z",
            "identity": {"sourceIp": "192.0.2.1"},
            "lastActiveAt": "2026-02-09T18:12:00Z",
        });
        Json(found).into_response()
    }
    async fn deleted(State(open): State<Open>, Path(id): Path<String>) -> StatusCode {
        if open.lock().unwrap().remove(&id) {
            StatusCode::NO_CONTENT
        } else {
            StatusCode::GONE
        }
    }
    Router::new()
        .route(
            "/dev/@connections/{id}",
            post(posted).get(found).delete(deleted),
        )
        .with_state(open)
}

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    let open = Open::default();
    open.lock().unwrap().insert("R0oXAdfD0kwCH6w=".into());
    let outbox = serve(management_api(open)).await;
    outbox_contract(&outbox, "R0oXAdfD0kwCH6w=", "Gone0dfD0kwCH6w=").await;
}

#[tokio::test]
async fn answers_are_told_apart_by_type_and_by_status() {
    async fn answer(Path(id): Path<String>) -> (StatusCode, [(&'static str, String); 1]) {
        let (status, name) = id.split_once('-').unwrap();
        let status = StatusCode::from_u16(status.parse().unwrap()).unwrap();
        (status, [("x-amzn-errortype", name.into())])
    }
    let outbox = serve(Router::new().route("/dev/@connections/{id}", post(answer))).await;
    for (id, expected) in [
        ("410-GoneException", PostError::Gone),
        ("410-none", PostError::Gone),
        ("429-LimitExceededException", PostError::Throttled),
        ("429-none", PostError::Throttled),
        ("413-PayloadTooLargeException", PostError::TooLarge),
        ("413-none", PostError::TooLarge),
    ] {
        let outcome = outbox
            .post(&connection_id(id), "x", Duration::from_secs(5))
            .await;
        assert_eq!(outcome, Err(expected), "{id}");
    }
    for id in ["500-InternalServerErrorException", "502-none", "503-none"] {
        let outcome = outbox
            .post(&connection_id(id), "x", Duration::from_secs(5))
            .await;
        assert!(
            matches!(outcome, Err(PostError::Unavailable(_))),
            "{id}: {outcome:?}"
        );
    }
    for id in ["403-ForbiddenException", "400-BadRequestException"] {
        let outcome = outbox
            .post(&connection_id(id), "x", Duration::from_secs(5))
            .await;
        assert!(
            matches!(outcome, Err(PostError::Failed(_))),
            "{id}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn nothing_is_retried_inside() {
    let calls = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&calls);
    let fail = move || {
        *counter.lock().unwrap() += 1;
        std::future::ready(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let outbox = serve(Router::new().route("/dev/@connections/{id}", post(fail))).await;
    let outcome = outbox
        .post(&connection_id("c1"), "x", Duration::from_secs(5))
        .await;
    assert!(matches!(outcome, Err(PostError::Unavailable(_))));
    assert_eq!(*calls.lock().unwrap(), 1);
}

#[tokio::test]
async fn an_api_that_cannot_be_reached_is_unavailable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/dev", listener.local_addr().unwrap());
    let outbox = ManagementOutbox::new(crate::clients(&endpoint).management(&endpoint));
    let post = async || {
        let timeout = Duration::from_secs(5);
        outbox.post(&connection_id("c1"), "x", timeout).await
    };
    let broken = async { drop(listener.accept().await.unwrap()) };
    let (outcome, ()) = tokio::join!(post(), broken);
    assert!(
        matches!(outcome, Err(PostError::Unavailable(_))),
        "broken: {outcome:?}"
    );
    drop(listener);
    let outcome = post().await;
    assert!(
        matches!(outcome, Err(PostError::Unavailable(_))),
        "refused: {outcome:?}"
    );
}

#[tokio::test]
async fn a_post_that_hangs_is_given_up() {
    let hang = || std::future::pending::<StatusCode>();
    let outbox =
        serve(Router::new().route("/dev/@connections/{id}", post(hang).delete(hang))).await;
    let outcome = outbox
        .post(&connection_id("c1"), "x", Duration::from_millis(50))
        .await;
    assert_eq!(outcome, Err(PostError::TimedOut));
    assert_eq!(
        outbox.close(&connection_id("c1")).await,
        Err(PostError::TimedOut)
    );
}
