//! Broadcasts that are more than one invocation does.

use std::collections::BTreeMap;

use belfry_tests::{Socket, Stack, StackBuilder, soon};
use futures_util::future::join_all;
use serde_json::{Value, json};

const PEOPLE: usize = 60;

/// A stack whose workers take on ten connections each, five at a time.
fn splitting() -> StackBuilder {
    Stack::talkative()
        .parameter("ConnectionsPerWorker", "10")
        .parameter("MaxWorkers", "5")
        .parameter("PostsPerSecond", "5000")
        .argument("--retry-delay")
        .argument("20ms,40ms")
}

async fn people(stack: &Stack) -> Vec<Socket> {
    let names: Vec<_> = (0..PEOPLE).map(|n| format!("user-{n}")).collect();
    join_all(names.iter().map(|name| stack.connect(name))).await
}

fn to_all(id: &str) -> Value {
    json!({
        "messageId": id,
        "target": {"type": "all"},
        "message": {"type": "notification", "data": {"kind": "k"}},
        "waitSeconds": 20,
    })
}

/// Every message that a client has got until now: how often, by its id.
async fn got(socket: &mut Socket) -> BTreeMap<String, u32> {
    // What was posted before comes before the answer.
    socket.send(r#"{"type":"hello","version":"1.0"}"#).await;
    let mut got = BTreeMap::new();
    loop {
        let frame = socket.receive().await;
        match frame["type"].as_str() {
            Some("welcome") => return got,
            Some("notification") => {
                let id = frame["id"].as_str().expect("an id").to_owned();
                *got.entry(id).or_insert(0) += 1;
            }
            _ => panic!("{frame}"),
        }
    }
}

async fn expect_once(people: &mut [Socket], id: &str) {
    for got in join_all(people.iter_mut().map(got)).await {
        assert_eq!(got, BTreeMap::from([(id.to_owned(), 1)]));
    }
}

#[tokio::test]
async fn a_large_broadcast_is_done_by_workers_and_reported_as_one() {
    let stack = splitting().start().await;
    let mut people = people(&stack).await;
    let mut request = to_all("large");
    request["waitSeconds"] = 0.into();
    let begun = stack.broadcast(&request).await.unwrap();
    assert_eq!(begun["status"], "running", "{begun}");
    assert_eq!(begun["complete"], false);
    let ask = json!({"action": "report", "messageId": "large", "waitSeconds": 20});
    let report = stack.broadcast(&ask).await.unwrap();
    let expected = json!({
        "messageId": "large", "status": "done", "success": PEOPLE, "failure": 0,
        "failures": {"gone": 0, "throttled": 0, "tooLarge": 0, "failed": 0, "notAttempted": 0},
    });
    assert_eq!(report, expected);
    expect_once(&mut people, "large").await;

    // The same once more is the same report, and nothing else.
    let again = stack.broadcast(&to_all("large")).await.unwrap();
    assert_eq!(again, expected);
    for got in join_all(people.iter_mut().map(got)).await {
        assert!(got.is_empty(), "{got:?}");
    }
    let other = json!({
        "messageId": "large",
        "target": {"type": "user", "userId": "user-1"},
        "message": {"type": "notification", "data": {"kind": "k"}},
    });
    let refused = stack.broadcast(&other).await.unwrap_err();
    assert_eq!(refused["errorType"], "InvalidRequest", "{refused}");
    let message = refused["errorMessage"].as_str().unwrap();
    assert!(message.contains("messageId"), "{message}");
}

#[tokio::test]
async fn everyone_can_be_told_once_in_a_while() {
    let stack = StackBuilder::default().start().await;
    stack.broadcast(&to_all("first")).await.unwrap();
    let refused = stack.broadcast(&to_all("second")).await.unwrap_err();
    assert_eq!(refused["errorType"], "RateLimited", "{refused}");
    let message = refused["errorMessage"].as_str().unwrap();
    assert!(message.contains("wait 59"), "{message}");
    let again = stack.broadcast(&to_all("first")).await.unwrap();
    assert_eq!(again["status"], "done");
}

/// A worker is killed at some point of each of fifty broadcasts: everybody is
/// reached, nobody is counted twice, and what comes twice has the same id.
#[tokio::test]
async fn a_worker_that_is_killed_costs_nobody_a_message() {
    let stack = splitting().start().await;
    let mut people = people(&stack).await;
    let mut duplicates = 0;
    for round in 0..50 {
        let delay = format!("{}ms", round % 25);
        let kill =
            json!({"fault": "function-kill", "function": "Worker", "times": 1, "delay": delay});
        let fault = stack.fault(kill).await;
        let id = format!("round-{round}");
        let report = stack.broadcast(&to_all(&id)).await.unwrap();
        assert_eq!(report["status"], "done", "after {delay}: {report}");
        assert_eq!(report["success"], PEOPLE, "after {delay}: {report}");
        assert_eq!(report["failure"], 0, "{report}");
        for mut got in join_all(people.iter_mut().map(got)).await {
            let times = got.remove(&id).expect("everybody has it");
            assert!(got.is_empty(), "{got:?}");
            duplicates += times - 1;
        }
        stack.end_fault(&fault).await;
    }
    println!("{duplicates} of {} messages came twice", 50 * PEOPLE);
    // A segment has twelve connections, so a worker's death repeats no more.
    assert!(duplicates <= 50 * 13, "{duplicates}");
}

#[tokio::test]
async fn a_broadcast_whose_worker_failed_for_good_is_resumed() {
    let stack = splitting().start().await;
    let mut people = people(&stack).await;
    // Three tries of one segment, and it is a dead letter.
    let kill = json!({"fault": "function-kill", "function": "Worker", "times": 15});
    stack.fault(kill).await;
    let mut request = to_all("unlucky");
    request["waitSeconds"] = 0.into();
    stack.broadcast(&request).await.unwrap();
    let dead = ["DEAD LETTER", "Worker"];
    stack.logs.wait_for_count(5, &dead).await;
    let resume = json!({"action": "resume", "messageId": "unlucky", "waitSeconds": 20});
    let report = stack.broadcast(&resume).await.unwrap();
    assert_eq!(
        (&report["status"], &report["success"]),
        (&json!("done"), &json!(PEOPLE)),
        "{report}"
    );
    expect_once(&mut people, "unlucky").await;
}

#[tokio::test]
async fn a_storm_of_throttles_costs_time_and_no_rows() {
    let stack = splitting().start().await;
    let mut people = people(&stack).await;
    // Of half of the connections every post, until many were refused.
    let fault = stack
        .fault(json!({"fault": "post-429", "share": 0.5}))
        .await;
    let storm = async {
        while stack.strikes(&fault).await < 100 {}
        stack.end_fault(&fault).await;
    };
    let request = to_all("storm");
    let (report, ()) = futures_util::future::join(stack.broadcast(&request), storm).await;
    let report = report.unwrap();
    assert_eq!(
        (&report["status"], &report["success"]),
        (&json!("done"), &json!(PEOPLE)),
        "{report}"
    );
    assert_eq!(stack.rows().await, PEOPLE);
    expect_once(&mut people, "storm").await;
}

#[tokio::test]
async fn a_third_that_has_gone_is_counted_and_removed_in_one_pass() {
    // Nobody tells of those who leave.
    let stack = splitting()
        .argument("--fault")
        .argument("disconnect-drop")
        .start()
        .await;
    let mut people = people(&stack).await;
    for socket in people.drain(..PEOPLE / 3) {
        socket.close().await;
    }
    let report = stack.broadcast(&to_all("thinned")).await.unwrap();
    assert_eq!(report["success"], PEOPLE - PEOPLE / 3, "{report}");
    assert_eq!(report["failures"]["gone"], PEOPLE / 3, "{report}");
    // A worker counts first and removes afterwards.
    soon(async { while stack.rows().await > PEOPLE - PEOPLE / 3 {} }).await;
    assert_eq!(stack.rows().await, PEOPLE - PEOPLE / 3);
    expect_once(&mut people, "thinned").await;
    let lines = stack.logs.lines_with("[Worker]");
    let said = lines
        .iter()
        .filter(|line| line.contains("\"level\""))
        .count();
    assert!(
        said <= 10,
        "a line for each worker, not for each connection: {said}"
    );
}
