//! Faults on demand, and their effect on a real client and a real function.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, TransactWriteItem};
use belfry_tests::{Socket, Stack, ended, open, try_open, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const PING: &str = r#"{"type":"ping","version":"1.0"}"#;

fn to(user: &str) -> Value {
    json!({
        "target": {"type": "user", "userId": user},
        "message": {"type": "notification", "data": {"kind": "k"}},
    })
}

/// Tries a handshake as alice.
async fn connects(stack: &Stack) -> Result<Socket, u16> {
    let bearer = format!("Bearer {}", stack.token("alice").await);
    try_open(&stack.ready.websocket, &[("Authorization", &bearer)]).await
}

async fn alice(stack: &Stack) -> (Socket, String) {
    let mut socket = stack.connect("alice").await;
    let id = socket.id().await;
    (socket, id)
}

fn disconnects(log: &str, id: &str) -> usize {
    let lines = log.lines().filter(|line| line.contains("[Disconnect]"));
    lines.filter(|line| line.contains(id)).count()
}

#[tokio::test]
async fn a_dropped_disconnect_leaves_its_row() {
    let stack = Stack::start().await;
    let (dropped, dropped_id) = alice(&stack).await;
    let (other, other_id) = alice(&stack).await;
    let fault = json!({"fault": "disconnect-drop", "connection": dropped_id});
    let fault = stack.fault(fault).await;
    dropped.close().await;
    stack.struck(&fault, 1).await;
    other.close().await;
    stack
        .logs
        .wait_for(&["[Disconnect]", "\"event\":\"connection.ended\"", &other_id])
        .await;
    assert!(stack.row(&dropped_id).await.is_some());
    assert_eq!(disconnects(&stack.logs.text(), &dropped_id), 0);
}

#[tokio::test]
async fn a_duplicate_disconnect_runs_twice() {
    let stack = Stack::start().await;
    stack.fault(json!({"fault": "disconnect-duplicate"})).await;
    let (socket, id) = alice(&stack).await;
    socket.close().await;
    stack
        .logs
        .wait_until("two runs of $disconnect", |log| disconnects(log, &id) == 2)
        .await;
    assert!(stack.row(&id).await.is_none());
}

#[tokio::test]
async fn a_delayed_disconnect_comes_late() {
    let stack = Stack::start().await;
    let fault = json!({"fault": "disconnect-delay", "delay": "5s"});
    let fault = stack.fault(fault).await;
    let (socket, id) = alice(&stack).await;
    let begun = Instant::now();
    socket.close().await;
    stack.struck(&fault, 1).await;
    assert!(stack.row(&id).await.is_some(), "$disconnect ran at once");
    stack
        .logs
        .wait_for(&["[Disconnect]", "\"event\":\"connection.ended\"", &id])
        .await;
    assert!(begun.elapsed() >= Duration::from_secs(5));
    assert!(stack.row(&id).await.is_none());
}

#[tokio::test]
async fn no_fault_outlives_ctrl_c() {
    let mut stack = Stack::start().await;
    let (socket, id) = alice(&stack).await;
    let fault = json!({"fault": "disconnect-delay", "delay": "1h", "connection": id});
    let fault = stack.fault(fault).await;
    stack.fault(json!({"fault": "disconnect-drop"})).await;
    let (_other, other_id) = alice(&stack).await;
    socket.close().await;
    stack.struck(&fault, 1).await;
    let ended = stack.stop(Signal::SIGINT, Duration::from_secs(10)).await;
    assert!(ended.success());
    for id in [id, other_id] {
        stack
            .logs
            .wait_for(&["[Disconnect]", "\"event\":\"connection.ended\"", &id])
            .await;
    }
}

#[tokio::test]
async fn posts_are_answered_as_the_fault_says() {
    let stack = Stack::builder()
        .parameter("PostTimeoutMs", "1000")
        .start()
        .await;
    let (mut socket, id) = alice(&stack).await;
    for (fault, times, outcome) in [
        ("post-429", 1_000, "throttled"),
        ("post-500", 1_000, "failed"),
        ("post-silence", 1_000, "failed"),
        // Retried until it succeeds.
        ("post-429", 2, "success"),
    ] {
        let description = json!({"fault": fault, "connection": id, "times": times});
        let active = stack.fault(description).await;
        let report = stack.broadcast(&to("alice")).await.unwrap();
        assert!(stack.strikes(&active).await >= 1, "{fault}");
        if outcome == "success" {
            assert_eq!(report["success"], 1, "{fault}: {report}");
            assert_eq!(socket.receive().await["type"], "notification");
        } else {
            assert_eq!(report["failures"][outcome], 1, "{fault}: {report}");
        }
        socket.expect_nothing().await;
        stack.end_fault(&active).await;
    }
    // While the handshake may be pending, a 410 proves nothing.
    socket.close().await;
    let (_socket, id) = alice(&stack).await;
    let fault = stack
        .fault(json!({"fault": "post-410", "connection": id}))
        .await;
    let report = stack.broadcast(&to("alice")).await.unwrap();
    assert_eq!(report["failures"]["gone"], 1, "{report}");
    assert_eq!(stack.strikes(&fault).await, 2);
    assert!(stack.row(&id).await.is_some());
    stack.age_rows().await;
    let report = stack.broadcast(&to("alice")).await.unwrap();
    assert_eq!(report["failures"]["gone"], 1, "{report}");
    assert_eq!(stack.strikes(&fault).await, 3);
    assert!(stack.row(&id).await.is_none());
}

#[tokio::test]
async fn a_share_of_the_connections_is_struck() {
    let stack = Stack::builder()
        .parameter("MaxConnectionsPerUser", "100")
        .start()
        .await;
    let mut sockets = Vec::new();
    for _ in 0..24 {
        sockets.push(stack.connect("alice").await);
    }
    let fault = stack
        .fault(json!({"fault": "post-500", "share": 0.5}))
        .await;
    let first = stack.broadcast(&to("alice")).await.unwrap();
    let failed = first["failures"]["failed"].as_u64().unwrap();
    assert!((1..24).contains(&failed), "{first}");
    assert_eq!(first["success"], 24 - failed);
    // The same connections again.
    let second = stack.broadcast(&to("alice")).await.unwrap();
    assert_eq!(first["failures"], second["failures"]);
    assert_eq!(stack.strikes(&fault).await, 2 * failed);
}

#[tokio::test]
async fn a_frozen_peer_stays_connected_and_hears_nothing() {
    let stack = Stack::start().await;
    let (mut socket, id) = alice(&stack).await;
    let fault = json!({"fault": "peer-freeze", "connection": id});
    let fault = stack.fault(fault).await;
    socket.send(PING).await;
    let report = stack.broadcast(&to("alice")).await.unwrap();
    assert_eq!(report["success"], 1, "API Gateway takes the post: {report}");
    let silence = tokio::time::timeout(Duration::from_millis(300), socket.next_text());
    assert!(silence.await.is_err(), "a frame came through");
    assert!(stack.row(&id).await.is_some());
    assert_eq!(stack.strikes(&fault).await, 1);
    stack.end_fault(&fault).await;
    let mut kinds = vec![
        socket.receive().await["type"].clone(),
        socket.receive().await["type"].clone(),
    ];
    kinds.sort_by_key(Value::to_string);
    assert_eq!(kinds, ["notification", "pong"]);
}

#[tokio::test]
async fn a_frozen_peer_can_be_deleted() {
    let stack = Stack::builder()
        .argument("--fault")
        .argument("peer-freeze")
        .start()
        .await;
    stack.logs.wait_for(&["FAULT active", "peer-freeze"]).await;
    let _socket = stack.connect("alice").await;
    let rows = stack
        .dynamodb()
        .scan()
        .table_name("Connections")
        .send()
        .await
        .unwrap();
    let id = rows.items()[0]["connectionId"].as_s().unwrap().clone();
    let management = stack.management();
    management
        .delete_connection()
        .connection_id(&id)
        .send()
        .await
        .unwrap();
    stack
        .logs
        .wait_for(&["[Disconnect]", "\"event\":\"connection.ended\"", &id])
        .await;
}

#[tokio::test]
async fn a_throttled_write_is_retried_and_finally_refused() {
    let stack = Stack::start().await;
    let fault = |times| json!({"fault": "dynamodb-throttle", "operation": "TransactWriteItems", "times": times});
    let passing = stack.fault(fault(1)).await;
    assert!(connects(&stack).await.is_ok());
    assert_eq!(stack.strikes(&passing).await, 1);
    stack.logs.wait_for(&["fault spent", &passing]).await;
    stack.fault(fault(1_000)).await;
    assert_eq!(connects(&stack).await.err(), Some(503));
    stack
        .logs
        .wait_for(&[
            "[Connect]",
            "TransactWriteItems failed",
            "provisioned throughput",
        ])
        .await;
}

#[tokio::test]
async fn a_conflict_is_an_internal_error_and_the_connection_stays() {
    let stack = Stack::start().await;
    let (mut socket, _) = alice(&stack).await;
    let fault = json!({"fault": "dynamodb-conflict", "operation": "UpdateItem"});
    let fault = stack.fault(fault).await;
    assert_eq!(socket.ask(PING).await["data"]["code"], "INTERNAL");
    stack
        .logs
        .wait_for(&["[Default]", "UpdateItem failed", "Transaction is ongoing"])
        .await;
    stack.end_fault(&fault).await;
    assert_eq!(socket.ask(PING).await["type"], "pong");
}

fn deletion(id: &str) -> TransactWriteItem {
    let delete = Delete::builder()
        .table_name("Connections")
        .key("connectionId", AttributeValue::S(id.to_owned()));
    TransactWriteItem::builder()
        .delete(delete.build().unwrap())
        .build()
}

fn cancellation_codes(error: &TransactWriteItemsError) -> Vec<&str> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else {
        panic!("{error:?}");
    };
    let reasons = cancelled.cancellation_reasons().iter();
    reasons.filter_map(|reason| reason.code()).collect()
}

#[tokio::test]
async fn a_conflicting_transaction_gives_a_reason_for_each_item() {
    let stack = Stack::start().await;
    stack.fault(json!({"fault": "dynamodb-conflict"})).await;
    let transaction = stack.dynamodb().transact_write_items();
    let error = transaction
        .transact_items(deletion("a"))
        .transact_items(deletion("b"))
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert_eq!(cancellation_codes(&error), ["TransactionConflict", "None"]);
}

#[tokio::test]
async fn a_transaction_holds_its_items_against_other_writers() {
    let stack = Stack::start().await;
    let fault = json!({"fault": "dynamodb-contention", "delay": "1h", "times": 1});
    let fault = stack.fault(fault).await;
    let database = stack.dynamodb();
    let transaction = |items: [&str; 2], token: &str| {
        let transaction = database.transact_write_items().client_request_token(token);
        let [first, second] = items.map(deletion);
        transaction
            .transact_items(first)
            .transact_items(second)
            .send()
    };
    let holding = tokio::spawn(transaction(["a", "b"], "first"));
    stack.struck(&fault, 1).await;

    let key = || AttributeValue::S("b".to_owned());
    let table = "Connections";
    let delete = database.delete_item().table_name(table);
    let error = delete.key("connectionId", key()).send().await.unwrap_err();
    let error = error.into_service_error();
    assert!(error.is_transaction_conflict_exception(), "{error:?}");
    assert_eq!(
        error.meta().message(),
        Some("Transaction is ongoing for the item")
    );
    let error = transaction(["c", "b"], "second").await.unwrap_err();
    let error = error.into_service_error();
    assert_eq!(cancellation_codes(&error), ["None", "TransactionConflict"]);
    let message = "Transaction cancelled, please refer cancellation reasons for specific reasons [None, TransactionConflict]";
    assert_eq!(error.meta().message(), Some(message));
    let error = transaction(["a", "b"], "first").await.unwrap_err();
    let error = error.into_service_error();
    assert!(error.is_transaction_in_progress_exception(), "{error:?}");
    let read = database.get_item().table_name(table);
    read.key("connectionId", key()).send().await.unwrap();

    // Without the fault, the transaction completes and its items are free.
    stack.end_fault(&fault).await;
    holding.await.unwrap().unwrap();
    let delete = database.delete_item().table_name(table);
    delete.key("connectionId", key()).send().await.unwrap();
}

#[tokio::test]
async fn a_transaction_whose_client_has_gone_releases_its_items() {
    let stack = Stack::start().await;
    let fault = json!({"fault": "dynamodb-contention", "delay": "1h", "times": 1});
    let fault = stack.fault(fault).await;
    let transaction = stack.dynamodb().transact_write_items();
    let holding = tokio::spawn(transaction.transact_items(deletion("a")).send());
    stack.struck(&fault, 1).await;
    holding.abort();
    assert!(holding.await.unwrap_err().is_cancelled());
    stack.end_fault(&fault).await;
    let is_free = async || {
        let delete = stack.dynamodb().delete_item().table_name("Connections");
        let key = AttributeValue::S("a".to_owned());
        delete.key("connectionId", key).send().await.is_ok()
    };
    until("the item is free", is_free).await;
}

#[tokio::test]
async fn transactions_that_contend_all_succeed_in_the_end() {
    let stack = Stack::builder()
        .argument("--fault")
        .argument("dynamodb-contention,delay=20ms")
        .start()
        .await;
    let users: Vec<_> = (0..50).map(|n| format!("user-{n}")).collect();
    let mut sockets = futures_util::future::join_all(users.iter().map(|u| stack.connect(u))).await;
    for socket in &mut sockets {
        assert_eq!(socket.ask(PING).await["type"], "pong");
    }
    assert_eq!(stack.rows().await, 50);
    assert!(stack.strikes("f1").await >= 50);
}

#[tokio::test]
async fn an_unanswered_call_times_out() {
    let stack = Stack::start().await;
    let fault = json!({"fault": "dynamodb-timeout", "operation": "TransactWriteItems"});
    stack.fault(fault).await;
    assert_eq!(connects(&stack).await.err(), Some(503));
    assert_eq!(stack.rows().await, 0);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_recognised() {
    let stack = Stack::start().await;
    let fault =
        json!({"fault": "dynamodb-lose-answer", "operation": "TransactWriteItems", "times": 1});
    let fault = stack.fault(fault).await;
    // The retry of the unanswered write finds its own row.
    let mut socket = connects(&stack).await.ok().unwrap();
    assert_eq!(socket.ask(PING).await["type"], "pong");
    assert_eq!(stack.strikes(&fault).await, 1);
    assert_eq!(stack.rows().await, 1);
}

#[tokio::test]
async fn a_slow_table_makes_slow_replies() {
    let stack = Stack::start().await;
    let (mut socket, _) = alice(&stack).await;
    let fault = json!({"fault": "dynamodb-slow", "operation": "UpdateItem", "delay": "500ms"});
    stack.fault(fault).await;
    let begun = Instant::now();
    assert_eq!(socket.ask(PING).await["type"], "pong");
    assert!(begun.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn a_share_of_the_calls_is_struck() {
    let stack = Stack::start().await;
    let fault = json!({"fault": "dynamodb-throttle", "operation": "Scan", "share": 0.25});
    let fault = stack.fault(fault).await;
    let mut failed = 0;
    for _ in 0..8 {
        let scan = stack.dynamodb().scan().table_name("Connections");
        if scan.send().await.is_err() {
            failed += 1;
        }
    }
    assert_eq!(failed, 2);
    assert_eq!(stack.strikes(&fault).await, 2);
}

#[tokio::test]
async fn a_function_killed_in_mid_event_fails_that_event_alone() {
    let stack = Stack::misbehaving().start().await;
    let mut socket = open(&stack.ready.websocket, &[]).await;
    let fault =
        json!({"fault": "function-kill", "function": "Misbehave", "delay": "100ms", "times": 1});
    stack.fault(fault).await;
    let begun = Instant::now();
    let frame = socket.ask_text("hang").await;
    assert!(frame.contains("Internal server error"), "{frame}");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    stack
        .logs
        .wait_for(&["Misbehave", "Runtime exited with error: signal: 9"])
        .await;
    assert_eq!(socket.ask_text("hello").await, "hello");
}

#[tokio::test]
async fn a_connect_that_dies_after_its_write_leaves_a_row_and_no_connection() {
    let stack = Stack::start().await;
    let fault = json!({"fault": "function-lose-answer", "function": "Connect", "times": 1});
    stack.fault(fault).await;
    assert_eq!(connects(&stack).await.err(), Some(502));
    assert_eq!(stack.rows().await, 1, "the work was done");
    // A later broadcast finds that nobody is there.
    stack.age_rows().await;
    let report = stack.broadcast(&to("alice")).await.unwrap();
    assert_eq!(report["failures"]["gone"], 1, "{report}");
    assert_eq!(stack.rows().await, 0);
    assert!(connects(&stack).await.is_ok());
}

#[tokio::test]
async fn faults_are_listed_ended_and_named() {
    let stack = Stack::builder()
        .argument("--fault")
        .argument("post-410,share=0.1")
        .start()
        .await;
    stack
        .logs
        .wait_for(&["FAULT active: post-410,share=0.1"])
        .await;
    let id = stack
        .fault(json!({"fault": "function-kill", "delay": "50ms"}))
        .await;
    stack
        .logs
        .wait_for(&["FAULT active: function-kill,delay=50ms", &id])
        .await;
    let (_, list) = stack.local("GET", "faults", None).await;
    assert_eq!(
        list,
        json!([
            {"id": "f1", "fault": "post-410", "share": 0.1, "struck": 0},
            {"id": id, "fault": "function-kill", "delay": "50ms", "struck": 0},
        ])
    );
    stack.end_fault(&id).await;
    stack
        .logs
        .wait_for(&["fault ended: function-kill,delay=50ms"])
        .await;
    assert_eq!(stack.local("DELETE", "faults", None).await.0, 204);
    stack.logs.wait_for(&["fault ended: post-410"]).await;
    assert_eq!(stack.local("GET", "faults", None).await.1, json!([]));

    let (status, answer) = stack.local("DELETE", "faults/f9", None).await;
    assert_eq!(status, 404);
    assert!(
        answer["message"].as_str().unwrap().contains("f9"),
        "{answer}"
    );
    for (wrong, part) in [
        (
            json!({"fault": "post-404"}),
            "is not one of the faults disconnect-drop",
        ),
        (
            json!({"fault": "post-410", "share": 2}),
            "share must be above 0",
        ),
        (json!({"fault": "post-410", "shares": 2}), "shares"),
        (
            json!({"fault": "function-kill", "function": "Conect"}),
            "did you mean Connect",
        ),
        (
            json!({"fault": "dynamodb-throttle", "operation": "PutIem"}),
            "did you mean PutItem",
        ),
        (json!({}), "fault"),
    ] {
        let (status, answer) = stack.local("POST", "faults", Some(&wrong)).await;
        assert_eq!(status, 400, "{wrong}: {answer}");
        assert!(
            answer["message"].as_str().unwrap().contains(part),
            "{wrong}: {answer}"
        );
    }
}

#[tokio::test]
async fn an_unknown_name_on_the_command_line_is_refused_with_the_known_ones() {
    for (fault, part) in [
        ("post-404", "disconnect-drop"),
        ("function-kill,function=Conect", "did you mean Connect"),
        (
            "dynamodb-slow,delay=1s,operation=PutIem",
            "did you mean PutItem",
        ),
    ] {
        let mut command = Stack::builder()
            .argument("--fault")
            .argument(fault)
            .command();
        let output = ended(&mut command).await;
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("--fault") && said.contains(part), "{said}");
    }
}
