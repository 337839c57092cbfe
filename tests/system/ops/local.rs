//! The local stack: what needs no work, and what goes wrong.

use belfry_tests::{Stack, http, until};
use serde_json::{Value, json};

use super::fake::Fake;
use super::{ops, ops_at};

#[tokio::test]
async fn a_user_is_signed_out() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let ended = ops_at(&stack.ready.lambda, &["sign-out", "alice"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.out, "signed out: 1 connection closed\n");
    assert_eq!(socket.receive().await["data"]["code"], "SIGNED_OUT");
    socket.closed().await;
    let again = ops_at(&stack.ready.lambda, &["sign-out", "alice", "--json"]).await;
    let report: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(report, json!({"closed": 0, "failed": 0, "notEnded": 0}));
}

#[tokio::test]
async fn a_list_follows_all_pages() {
    let fake = Fake::start(|request| {
        let first = request.get("cursor").is_none();
        let limit = usize::try_from(request["limit"].as_u64().unwrap()).unwrap();
        let ids = if first { 0..3 } else { 3..5 };
        let connections: Vec<_> = ids
            .take(limit)
            .map(|n| {
                json!({
                    "connectionId": format!("c{n}"), "userId": "bob\u{1b}[2J",
                    "connectedAt": "2026-11-26T11:00:00Z", "lastSeenAt": "2026-11-26T11:59:20Z",
                    "tokenExpiresAt": "2026-11-26T12:30:00Z", "sourceIp": "203.0.113.7",
                    "newer": "field",
                })
            })
            .collect();
        Ok(if first {
            json!({"connections": connections, "cursor": "next"})
        } else {
            json!({"connections": connections})
        })
    })
    .await;
    let ids = |out: &str| {
        let report: Value = serde_json::from_str(out).unwrap();
        let connections = report["connections"].as_array().unwrap().clone();
        assert!(connections.iter().all(|one| one["newer"] == "field"));
        let ids = connections.iter().map(|one| one["connectionId"].clone());
        ids.collect::<Vec<_>>()
    };
    let ended = ops_at(&fake.url, &["list", "--all", "--min-age", "60", "--json"]).await;
    assert_eq!(ids(&ended.out), ["c0", "c1", "c2", "c3", "c4"]);
    assert_eq!(fake.asked()[0].request["minAgeSeconds"], 60);
    let ended = ops_at(&fake.url, &["list", "--all", "--limit", "4", "--json"]).await;
    assert_eq!(ids(&ended.out), ["c0", "c1", "c2", "c3"]);
    let limits = fake
        .asked()
        .iter()
        .map(|one| one.request["limit"].clone())
        .collect::<Vec<_>>();
    assert_eq!(limits, [500, 500, 4, 1]);
}

#[tokio::test]
async fn an_error_says_what_to_do() {
    let fake = Fake::start(|request| {
        let (error_type, message) = match request["action"].as_str() {
            Some("stats") => ("Unavailable", "the store is throttled"),
            _ => ("InvalidRequest", "cursor: must be one that `list` returned"),
        };
        Err(json!({"errorType": error_type, "errorMessage": message}))
    })
    .await;
    let ended = ops_at(&fake.url, &["stats"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .err
            .contains("Unavailable: the store is throttled\nTry again"),
        "{ended:?}"
    );
    let ended = ops_at(&fake.url, &["list", "--all"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.err.starts_with("belfry: cursor: must be"),
        "{ended:?}"
    );
    let url = fake.url.clone();
    drop(fake);
    let ended = ops_at(&url, &["stats"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.err.contains("no local stack responds at"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_target_is_one_kind() {
    for wrong in [
        &["list"][..],
        &["list", "--all", "--user", "alice"],
        &["kick", "--channel", "room:7", "--connection", "c1"],
        &["kick", "--user", ""],
        &["drain", "--all", "--within", "9"],
        &["stats", "--region", "eu-west-1"],
        &["stats", "--endpoint", "127.0.0.1:3001"],
        &[
            "stats",
            "--stack",
            "belfry",
            "--endpoint",
            "http://127.0.0.1:1",
        ],
    ] {
        let output = belfry_tests::ended(&mut ops(wrong)).await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
    }
}

#[tokio::test]
async fn the_local_stack_collects_the_functions_metrics() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    socket
        .ask(r#"{"type":"echo","version":"1.0","id":"1","data":1}"#)
        .await;
    let request = json!({"target": {"type": "user", "userId": "alice"}, "message": {"type": "notification", "data": {"kind": "k"}}});
    stack.invoke("Broadcaster", &request).await.unwrap();
    let url = format!("{}/_local/metrics", stack.ready.lambda);
    until("the metrics are counted", async || {
        let text = http().get(&url).send().await.unwrap().text().await.unwrap();
        let metrics: Value = serde_json::from_str(&text).unwrap();
        let count = |value: &Value| value.as_f64().unwrap_or_default();
        count(&metrics["totals"]["framesServed"]) >= 1.0
            && count(&metrics["totals"]["postsAccepted"]) >= 1.0
            && count(&metrics["broadcasts"]["count"]) >= 1.0
    })
    .await;
}
