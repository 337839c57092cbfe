//! Subscribers that do not read.

use belfry_tests::Stack;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{ROOM, publish, subscribe};

/// Bytes of a message's data. API Gateway buffers about ten such messages.
const BYTES: usize = 24_000;

/// Posts that the function `Default` gave up, because clients did not read.
fn throttled(stack: &Stack) -> u64 {
    let lines = stack.logs.lines_with("[Default] {");
    let lines = lines.iter().map(|line| &line[line.find('{').unwrap()..]);
    let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter_map(|line| line["PostsThrottled"].as_u64())
        .sum()
}

#[tokio::test]
async fn subscribers_that_do_not_read_keep_nothing_from_the_others() {
    let stack = Stack::talkative();
    let stack = stack.parameter("MaxMessageBytes", "32768").start().await;
    let mut alice = stack.connect("alice").await;
    let mut readers = Vec::new();
    for n in 0..10 {
        readers.push(stack.connect(&format!("reader-{n}")).await);
    }
    let mut frozen = vec![
        stack.connect("frozen-1").await,
        stack.connect("frozen-2").await,
    ];
    for socket in readers.iter_mut().chain(&mut frozen) {
        subscribe(socket, json!([{"channel": ROOM}])).await;
    }
    let mut faults = Vec::new();
    for socket in &mut frozen {
        let id = socket.id().await;
        let fault = json!({"fault": "peer-freeze", "connection": id});
        faults.push(stack.fault(fault).await);
    }

    let text = "x".repeat(BYTES);
    let mut published = 0;
    // Until the buffers of both are full.
    while throttled(&stack) < 2 {
        assert!(published < 40, "nothing is throttled");
        let answer = publish(&mut alice, ROOM, json!(text)).await;
        published += 1;
        assert_eq!(answer["position"]["seq"], published);
        let received = readers
            .iter_mut()
            .map(async |reader| reader.receive().await);
        for message in join_all(received).await {
            assert_eq!(message["position"], answer["position"]);
        }
    }

    // When they read again, they get what was buffered, and recover the rest.
    for (mut socket, fault) in frozen.into_iter().zip(faults) {
        stack.end_fault(&fault).await;
        let first = socket.receive().await;
        assert_eq!(first["position"]["seq"], 1);
        let mut seen = first["position"].clone();
        let sync = json!({"channels": [{"channel": ROOM, "since": seen}]});
        let synced = socket.request("sync", sync).await;
        assert_eq!(synced["data"]["channels"][0]["missed"], true);
        assert_eq!(synced["data"]["channels"][0]["subscribed"], true);
        loop {
            let data = json!({"channel": ROOM, "after": seen});
            let page = socket.request("history", data).await["data"].clone();
            assert_eq!(page["recovered"], true);
            seen = page["messages"].as_array().unwrap().last().unwrap()["position"].clone();
            if page["more"] == false {
                break;
            }
        }
        assert_eq!(seen["seq"], published);
    }
}
