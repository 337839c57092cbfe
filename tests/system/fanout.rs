//! Broadcasts that are split over several workers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use belfry_tests::{Socket, Stack, StackBuilder, soon, until};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};

/// Connected users in each test.
const PEOPLE: usize = 60;

/// A stack with ten connections per worker and five workers at a time.
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

/// How often a client has received each message so far, by message id.
async fn received(socket: &mut Socket) -> BTreeMap<String, u32> {
    // Everything posted earlier arrives before the answer.
    socket.send(r#"{"type":"hello","version":"1.0"}"#).await;
    let mut times = BTreeMap::new();
    let receiving = async {
        loop {
            let frame = socket.receive().await;
            match frame["type"].as_str() {
                Some("welcome") => return times,
                Some("notification") => {
                    let id = frame["id"].as_str().expect("an id").to_owned();
                    *times.entry(id).or_insert(0) += 1;
                }
                _ => panic!("{frame}"),
            }
        }
    };
    soon("a welcome follows the notifications", receiving).await
}

async fn expect_once(people: &mut [Socket], id: &str) {
    for received in join_all(people.iter_mut().map(received)).await {
        assert_eq!(received, BTreeMap::from([(id.to_owned(), 1)]));
    }
}

#[tokio::test]
async fn a_large_broadcast_is_split_over_workers_and_reported_as_one() {
    let stack = splitting().start().await;
    let mut people = people(&stack).await;
    let mut request = to_all("large");
    request["waitSeconds"] = 0.into();
    let started = stack.broadcast(&request).await.unwrap();
    assert_eq!(started["status"], "running", "{started}");
    assert_eq!(started["complete"], false);
    let ask = json!({"action": "report", "messageId": "large", "waitSeconds": 20});
    let report = stack.broadcast(&ask).await.unwrap();
    let expected = json!({
        "messageId": "large", "status": "done", "success": PEOPLE, "failure": 0,
        "failures": {"gone": 0, "throttled": 0, "tooLarge": 0, "failed": 0, "notAttempted": 0},
    });
    assert_eq!(report, expected);
    expect_once(&mut people, "large").await;

    // Repeating the request returns the same report and sends nothing.
    let again = stack.broadcast(&to_all("large")).await.unwrap();
    assert_eq!(again, expected);
    for received in join_all(people.iter_mut().map(received)).await {
        assert!(received.is_empty(), "{received:?}");
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

    // A worker refuses a segment that the broadcast does not have.
    let task = json!({"messageId": "large", "segment": 99});
    let refused = stack.invoke("Worker", &task).await.unwrap_err();
    assert_eq!(refused["errorType"], "InvalidRequest", "{refused}");
    assert_eq!(stack.broadcast(&ask).await.unwrap(), expected);
}

/// `BroadcastAllIntervalSeconds`, by default.
const INTERVAL: Duration = Duration::from_secs(60);

#[tokio::test]
async fn broadcasts_to_everyone_are_rate_limited() {
    let stack = StackBuilder::default().start().await;
    let begun = Instant::now();
    stack.broadcast(&to_all("first")).await.unwrap();
    let refused = stack.broadcast(&to_all("second")).await.unwrap_err();
    assert_eq!(refused["errorType"], "RateLimited", "{refused}");
    let message = refused["errorMessage"].as_str().unwrap();
    let (_, wait) = message.split_once("wait ").unwrap();
    let (seconds, _) = wait.split_once('s').unwrap();
    let wait = Duration::from_secs_f64(seconds.parse().unwrap());
    // The interval began with the first broadcast, after `begun`.
    let least = INTERVAL.saturating_sub(begun.elapsed());
    assert!((least..=INTERVAL).contains(&wait), "{message}");
    let again = stack.broadcast(&to_all("first")).await.unwrap();
    assert_eq!(again["status"], "done");
}

/// Kills a worker at some point of each of fifty broadcasts. Everybody is
/// reached, nobody is counted twice, and duplicates have the same id.
#[tokio::test]
async fn a_killed_worker_costs_nobody_a_message() {
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
        for mut received in join_all(people.iter_mut().map(received)).await {
            let times = received.remove(&id).expect("everybody has it");
            assert!(received.is_empty(), "{received:?}");
            duplicates += times - 1;
        }
        stack.end_fault(&fault).await;
    }
    println!("{duplicates} of {} messages came twice", 50 * PEOPLE);
    // A segment has twelve connections, so one death repeats no more posts.
    assert!(duplicates <= 50 * 13, "{duplicates}");
}

#[tokio::test]
async fn a_broadcast_whose_worker_failed_for_good_is_resumed() {
    let stack = splitting().start().await;
    let mut people = people(&stack).await;
    // After three attempts at a segment, the event is a dead letter.
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
    // Refuses every post to half of the connections, a hundred times in all.
    let fault = stack
        .fault(json!({"fault": "post-429", "share": 0.5}))
        .await;
    let storm = async {
        stack.struck(&fault, 100).await;
        stack.end_fault(&fault).await;
    };
    let request = to_all("storm");
    let (report, ()) = join(stack.broadcast(&request), storm).await;
    let report = report.unwrap();
    assert_eq!(
        (&report["status"], &report["success"]),
        (&json!("done"), &json!(PEOPLE)),
        "{report}"
    );
    assert_eq!(stack.rows().await, PEOPLE);
    expect_once(&mut people, "storm").await;
}

/// The management API fails for everyone for a while. Nobody is counted as
/// failed, few posts are made in vain, and a later report says that everybody
/// was reached.
#[tokio::test]
async fn an_outage_of_the_management_api_costs_nobody_a_message() {
    let stack = splitting().start().await;
    let mut people = people(&stack).await;
    for fault in ["post-500", "post-silence"] {
        let active = stack.fault(json!({"fault": fault})).await;
        let mut request = to_all(fault);
        request["waitSeconds"] = 0.into();
        stack.broadcast(&request).await.unwrap();
        // Each of the five workers fails at some posts, and later at a probe.
        let paused = ["[Worker]", "posting.paused"];
        let before = stack.logs.lines_with("posting.paused").len();
        stack.logs.wait_for_count(before + 10, &paused).await;
        let ask = json!({"action": "report", "messageId": fault});
        let report = stack.broadcast(&ask).await.unwrap();
        assert_eq!(report["status"], "running", "{report}");
        assert_eq!(
            (&report["success"], &report["failure"]),
            (&json!(0), &json!(0)),
            "{report}"
        );
        let struck = stack.strikes(&active).await;
        stack.end_fault(&active).await;
        let ask = json!({"action": "report", "messageId": fault, "waitSeconds": 20});
        let report = stack.broadcast(&ask).await.unwrap();
        assert_eq!(report["status"], "done", "{report}");
        assert_eq!(
            (&report["success"], &report["failure"]),
            (&json!(PEOPLE), &json!(0)),
            "{report}"
        );
        expect_once(&mut people, fault).await;
        assert!(struck <= 3 * PEOPLE as u64, "{struck} posts in vain");
    }
    let resumed = stack.logs.lines_with("posting.resumed").len();
    assert_eq!(resumed, 10, "each worker went on, twice");
    assert!(!stack.logs.lines_with("PostingPauses").is_empty());
}

#[tokio::test]
async fn gone_connections_are_counted_and_removed_in_one_pass() {
    // No `$disconnect` runs, so the rows of those who leave stay.
    let stack = splitting()
        .argument("--fault")
        .argument("disconnect-drop")
        .start()
        .await;
    let mut people = people(&stack).await;
    for socket in people.drain(..PEOPLE / 3) {
        socket.close().await;
    }
    stack.age_rows().await;
    let report = stack.broadcast(&to_all("thinned")).await.unwrap();
    assert_eq!(report["success"], PEOPLE - PEOPLE / 3, "{report}");
    assert_eq!(report["failures"]["gone"], PEOPLE / 3, "{report}");
    // A worker counts first and removes afterwards.
    let removed = async || stack.rows().await <= PEOPLE - PEOPLE / 3;
    until("the rows of gone connections are removed", removed).await;
    assert_eq!(stack.rows().await, PEOPLE - PEOPLE / 3);
    expect_once(&mut people, "thinned").await;
    let lines = stack.logs.lines_with("[Worker]");
    let logged = lines
        .iter()
        .filter(|line| line.contains("\"level\""))
        .count();
    assert!(
        logged <= 10,
        "{logged} lines: one per worker is expected, not one per connection"
    );
}
