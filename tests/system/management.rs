//! The management API, through its SDK.

use aws_sdk_apigatewaymanagement::error::SdkError;
use aws_sdk_apigatewaymanagement::primitives::Blob;
use belfry_tests::Stack;

#[tokio::test]
async fn post_get_and_delete_an_open_connection() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let id = socket.id().await;
    let client = stack.management();

    client
        .post_to_connection()
        .connection_id(&id)
        .data(Blob::new("{\"a\":1}"))
        .send()
        .await
        .unwrap();
    assert_eq!(socket.receive_text().await, "{\"a\":1}");

    let info = client
        .get_connection()
        .connection_id(&id)
        .send()
        .await
        .unwrap();
    assert_eq!(info.identity().unwrap().source_ip(), Some("127.0.0.1"));
    assert!(info.last_active_at().unwrap() >= info.connected_at().unwrap());

    client
        .delete_connection()
        .connection_id(&id)
        .send()
        .await
        .unwrap();
    assert_eq!(
        socket.closed().await,
        (1000, "Connection Closed Normally".into())
    );
    let line = stack
        .logs
        .wait_for(&["[Disconnect]", "disconnected", &id])
        .await;
    assert!(line.contains("\"status\":1000"), "{line}");
    assert!(stack.row(&id).await.is_none());

    let again = client
        .delete_connection()
        .connection_id(&id)
        .send()
        .await
        .unwrap_err();
    assert!(again.as_service_error().unwrap().is_gone_exception());
}

#[tokio::test]
async fn what_cannot_be_posted_is_told_apart() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let id = socket.id().await;
    let client = stack.management();
    let post = |id: &str, bytes: usize| {
        client
            .post_to_connection()
            .connection_id(id)
            .data(Blob::new("x".repeat(bytes)))
            .send()
    };

    let gone = post("R0oXAdfD0kwCH6w=", 1).await.unwrap_err();
    assert!(gone.as_service_error().unwrap().is_gone_exception());
    assert_eq!(gone.raw_response().unwrap().body().bytes(), Some(&b""[..]));

    let large = post(&id, 128 * 1024 + 1).await.unwrap_err();
    assert!(
        large
            .as_service_error()
            .unwrap()
            .is_payload_too_large_exception()
    );
    post(&id, 128 * 1024).await.unwrap();
    assert_eq!(socket.receive_text().await.len(), 128 * 1024);

    let malformed = post("nonsense", 1).await.unwrap_err();
    let SdkError::ServiceError(malformed) = malformed else {
        panic!("no service error")
    };
    assert_eq!(malformed.raw().status().as_u16(), 400);
    let body = String::from_utf8_lossy(malformed.raw().body().bytes().unwrap()).into_owned();
    assert_eq!(body, r#"{"message":"Invalid connectionId: nonsense"}"#);

    let escaped = format!(
        "{}/%40connections/{}",
        stack.ready.management,
        id.replace('=', "%3D")
    );
    let posted = reqwest::Client::new()
        .post(escaped)
        .body("escaped")
        .send()
        .await
        .unwrap();
    assert_eq!(posted.status(), 200);
    assert_eq!(socket.receive_text().await, "escaped");

    let url = stack.ready.management.replace("/dev", "/prod");
    let elsewhere = reqwest::Client::new()
        .post(format!("{url}/@connections/{id}"))
        .send()
        .await
        .unwrap();
    assert_eq!(elsewhere.status(), 403);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_throttled_and_can_be_closed() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let id = socket.id().await;
    let client = stack.management();
    // The client reads nothing from here on: its buffer and the network's fill up.
    let refused = loop {
        let post = client
            .post_to_connection()
            .connection_id(&id)
            .data(Blob::new("x".repeat(128 * 1024)));
        if let Err(error) = post.send().await {
            break error;
        }
    };
    assert!(
        refused
            .as_service_error()
            .unwrap()
            .is_limit_exceeded_exception()
    );
    assert!(stack.row(&id).await.is_some(), "throttled is not gone");
    client
        .delete_connection()
        .connection_id(&id)
        .send()
        .await
        .unwrap();
    let line = stack
        .logs
        .wait_for(&["[Disconnect]", "disconnected", &id])
        .await;
    assert!(line.contains("\"status\":1000"), "{line}");
}
