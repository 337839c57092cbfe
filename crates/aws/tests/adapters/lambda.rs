use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use belfry_aws::{Clients, LambdaAuthorizer, LambdaCallee, LambdaWorkers, SegmentTask};
use belfry_core::ports::{Authorizer, Question, Workers};
use belfry_core::testing::{CallBehaviour, callee_contract, tenant, user_id, workers_contract};
use belfry_protocol::{Action, ChannelName, MessageId};
use serde_json::{Value, json};

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
    crate::clients(&endpoint)
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

/// Answers with the question and what the test wants.
async fn authorize(
    Path(function): Path<String>,
    payload: Bytes,
) -> Result<(HeaderMap, String), StatusCode> {
    let question: Value = serde_json::from_slice(&payload).unwrap();
    let expected = json!({"userId": "alice", "claims": {"tenant": "acme"},
        "channel": "doc:7", "action": "publish"});
    assert_eq!(question, expected);
    let mut headers = HeaderMap::new();
    match function.as_str() {
        "Allows" => Ok((headers, r#"{"allow":["publish"],"seconds":60}"#.into())),
        "Fails" => {
            let unhandled = HeaderValue::from_static("Unhandled");
            headers.insert("x-amz-function-error", unhandled);
            // Even if the text looks like an answer.
            Ok((headers, r#"{"allow":["publish"],"seconds":60}"#.into()))
        }
        "Hangs" => std::future::pending().await,
        _ => Err(StatusCode::NOT_FOUND),
    }
}

#[tokio::test]
async fn only_a_function_that_answers_in_time_allows_something() {
    let router = Router::new().route("/2015-03-31/functions/{name}/invocations", post(authorize));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let clients = crate::clients(&endpoint);
    let (user, claims) = (user_id("alice"), tenant("acme"));
    let channel = ChannelName::parse("doc:7").unwrap();
    let question = Question {
        user_id: &user,
        claims: &claims,
        channel: &channel,
        action: Action::Publish,
    };
    let ask = async |function: Option<&str>| {
        let function = function.map(Into::into);
        LambdaAuthorizer::new(clients.lambda(), function)
            .ask(question)
            .await
    };
    let allowed = ask(Some("Allows")).await.unwrap();
    assert!(allowed.actions.contains(Action::Publish));
    for (function, reason) in [
        (None, "AuthorizeFunction"),
        (Some("Fails"), "failed: Unhandled"),
        (Some("Hangs"), "did not answer within 3s"),
        (Some("Elsewhere"), "404"),
    ] {
        let error = ask(function).await.unwrap_err();
        assert!(error.contains(reason), "{function:?}: {error}");
    }
}

#[derive(Default)]
struct Called {
    behaviour: CallBehaviour,
    events: Vec<Value>,
}

/// A function that behaves as the contract says.
async fn called(State(called): State<Arc<Mutex<Called>>>, payload: Bytes) -> Response {
    let behaviour = {
        let mut called = called.lock().unwrap();
        called
            .events
            .push(serde_json::from_slice(&payload).unwrap());
        called.behaviour.clone()
    };
    match behaviour {
        CallBehaviour::Answers(text) => text.into_response(),
        // Even if the text looks like an answer.
        CallBehaviour::Fails => ([("x-amz-function-error", "Unhandled")], "{}").into_response(),
        CallBehaviour::NeverAnswers => std::future::pending().await,
        CallBehaviour::Throttled => (
            StatusCode::TOO_MANY_REQUESTS,
            [("x-amzn-errortype", "TooManyRequestsException")],
            r#"{"message":"Rate Exceeded."}"#,
        )
            .into_response(),
        CallBehaviour::Absent | CallBehaviour::Unavailable => {
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[tokio::test]
async fn the_callee_keeps_the_contract() {
    let state = Arc::new(Mutex::new(Called::default()));
    let router = Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(called))
        .with_state(Arc::clone(&state));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let clients = crate::clients(&endpoint);
    let limit = Duration::from_secs(2);
    let callee = LambdaCallee::new(clients.lambda_once(), Some("call".into()), limit);
    let behave = |behaviour| state.lock().unwrap().behaviour = behaviour;
    let arrived = || std::mem::take(&mut state.lock().unwrap().events);
    callee_contract(&callee, behave, arrived).await;
}
