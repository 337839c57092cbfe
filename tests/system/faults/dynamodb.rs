//! Faults of DynamoDB.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, TransactWriteItem, Update};
use belfry_tests::{Stack, few_at_a_time, until};
use serde_json::json;

use super::{PING, alice, connects};

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

/// DynamoDB remembers the token of a transaction for ten minutes.
#[tokio::test]
async fn a_transaction_is_executed_once_for_a_token() {
    let stack = Stack::start().await;
    let addition = |token: &str, number: u32| {
        let add = Update::builder()
            .table_name("Connections")
            .key("connectionId", AttributeValue::S("counted".into()))
            .update_expression("ADD refusals :number")
            .expression_attribute_values(":number", AttributeValue::N(number.to_string()));
        let add = TransactWriteItem::builder().update(add.build().unwrap());
        let transaction = stack.dynamodb().transact_write_items();
        let transaction = transaction.transact_items(add.build());
        transaction.client_request_token(token).send()
    };
    let (one, same) = tokio::join!(addition("t", 1), addition("t", 1));
    // One of them may come while the other is being executed.
    let refused = [one, same].into_iter().filter_map(Result::err);
    for error in refused {
        let error = error.into_service_error();
        assert!(error.is_transaction_in_progress_exception(), "{error:?}");
    }
    addition("t", 1).await.unwrap();
    addition("other", 1).await.unwrap();
    let different = addition("t", 5).await.unwrap_err().into_service_error();
    assert!(
        different.is_idempotent_parameter_mismatch_exception(),
        "{different:?}"
    );
    let row = stack.row("counted").await.unwrap();
    assert_eq!(row["refusals"], AttributeValue::N("2".into()));
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
    let mut sockets = few_at_a_time(users.iter().map(|user| stack.connect(user))).await;
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
async fn a_row_that_connect_cannot_read_again_is_due_when_the_handshake_is_over() {
    let stack = Stack::start().await;
    let fault = json!({"fault": "dynamodb-throttle", "operation": "BatchGetItem"});
    stack.fault(fault).await;
    assert_eq!(connects(&stack).await.err(), Some(503));
    let id = stack.connection_ids().await.remove(0);
    let row = stack.row(&id).await.unwrap();
    let time = |name: &str| row[name].as_n().unwrap().parse::<u64>().unwrap();
    assert_eq!(time("dueAt"), time("connectedAt") + 35_000);
}
