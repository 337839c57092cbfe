//! The management API, with Belfry's functions behind it.

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
    let line = stack.disconnected(&id).await;
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
