//! The tables, and a connection's row.

use belfry_tests::{Stack, few_at_a_time, open};

#[tokio::test]
async fn the_tables_have_their_index_and_ttl() {
    let stack = Stack::start().await;
    let client = stack.dynamodb();
    let table = client
        .describe_table()
        .table_name("Connections")
        .send()
        .await
        .unwrap()
        .table
        .unwrap();
    assert_eq!(table.key_schema()[0].attribute_name(), "connectionId");
    let index = &table.global_secondary_indexes()[0];
    assert_eq!(index.index_name(), Some("userId-index"));
    assert_eq!(index.key_schema()[0].attribute_name(), "userId");
    let mut projected = index.projection().unwrap().non_key_attributes().to_vec();
    projected.sort();
    assert_eq!(projected, ["connectedAt", "expiresAt", "tokenExpiresAt"]);
    for name in ["Connections", "State"] {
        let ttl = client
            .describe_time_to_live()
            .table_name(name)
            .send()
            .await
            .unwrap();
        let ttl = ttl.time_to_live_description.unwrap();
        assert_eq!(
            ttl.time_to_live_status().unwrap().as_str(),
            "ENABLED",
            "{name}"
        );
        assert_eq!(ttl.attribute_name(), Some("expiresAt"), "{name}");
    }
}

#[tokio::test]
async fn a_connection_has_a_row_until_it_closes() {
    let stack = Stack::builder()
        .parameter("AllowedOrigins", "https://app.example.com")
        .start()
        .await;
    let bearer = format!("Bearer {}", stack.token("alice").await);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Origin", "https://app.example.com"),
        ("User-Agent", "test/1"),
    ];
    let mut socket = open(&stack.ready.websocket, &headers).await;
    let id = socket.id().await;
    let row = stack.row(&id).await.unwrap();
    let text = |name: &str| row[name].as_s().unwrap().as_str();
    let number = |name: &str| row[name].as_n().unwrap().parse::<u64>().unwrap();
    assert_eq!(text("userId"), "alice");
    assert_eq!(text("origin"), "https://app.example.com");
    assert_eq!(text("sourceIp"), "127.0.0.1");
    assert_eq!(text("userAgent"), "test/1");
    assert_eq!(number("expiresAt"), number("connectedAt") / 1_000 + 7_500);
    assert!(
        number("lastSeenAt") >= number("connectedAt"),
        "the hello did not update lastSeenAt"
    );
    assert!(number("tokenExpiresAt") >= number("connectedAt") / 1_000 + 3_590);

    socket.close().await;
    stack.disconnected(&id).await;
    assert!(stack.row(&id).await.is_none());
}

#[tokio::test]
async fn a_lost_peer_leaves_no_row() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let id = socket.id().await;
    // The TCP connection ends without a close frame.
    drop(socket);
    let line = stack.disconnected(&id).await;
    assert!(line.contains("\"status\":1006"), "{line}");
    assert!(stack.row(&id).await.is_none());
}

#[tokio::test]
async fn there_are_as_many_rows_as_open_sockets() {
    let stack = Stack::builder()
        .parameter("MaxConnectionsPerUser", "100")
        .start()
        .await;
    let bearer = format!("Bearer {}", stack.token("alice").await);
    let headers = [("Authorization", bearer.as_str())];
    let connecting = (0..100).map(|_| open(&stack.ready.websocket, &headers));
    let mut sockets = few_at_a_time(connecting).await;
    assert_eq!(stack.rows().await, 100);
    for socket in sockets.drain(40..) {
        drop(socket);
    }
    let ended = |text: &str| {
        text.lines()
            .filter(|line| {
                line.contains("[Disconnect]") && line.contains("\"event\":\"connection.ended\"")
            })
            .count()
    };
    stack
        .logs
        .wait_until("60 ends", |text| ended(text) == 60)
        .await;
    assert_eq!(stack.rows().await, 40);
    for socket in &mut sockets {
        socket.expect_nothing().await;
    }
}
