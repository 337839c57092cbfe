//! The metrics that functions report, compared with docs/OPERATIONS.md.

use std::collections::{BTreeMap, BTreeSet};

use belfry_tests::{Stack, refused, repository, try_open};
use serde_json::{Value, json};

/// Unit and dimensions of a metric.
type Promise = (String, Vec<String>);

/// The rows of the table of metrics: `| `name` | unit | dimensions | …`.
fn promised() -> BTreeMap<String, Promise> {
    let text = std::fs::read_to_string(repository().join("docs/OPERATIONS.md")).unwrap();
    let section = text.split_once("\n## Metrics\n").expect("a section").1;
    let section = section.split("\n## ").next().unwrap();
    let mut promises = BTreeMap::new();
    for line in section.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, names, unit @ ("Count" | "Milliseconds"), dimension, ..] = cells[..] else {
            continue;
        };
        let mut dimensions = vec!["Stack".to_owned()];
        let further = dimension.split('`').nth(1).map(str::to_owned);
        dimensions.extend(further);
        for name in names.split('`').skip(1).step_by(2) {
            promises.insert(name.to_owned(), (unit.to_owned(), dimensions.clone()));
        }
    }
    promises
}

/// The lines of a function's log that CloudWatch would read as metrics.
fn reported(stack: &Stack, function: &str) -> Vec<Value> {
    let lines = stack.logs.lines_with(&format!("[{function}] {{"));
    let json = lines.iter().map(|line| &line[line.find('{').unwrap()..]);
    json.map(|json| serde_json::from_str::<Value>(json).unwrap())
        .filter(|line| line["_aws"].is_object())
        .collect()
}

/// The metrics of a line. Checks its shape.
fn read(line: &Value) -> Vec<(String, Promise)> {
    assert!(line["_aws"]["Timestamp"].is_u64(), "{line}");
    let directive = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(directive["Namespace"], "Belfry");
    assert_eq!(line["Stack"], "belfry-local");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let dimensions = directive["Dimensions"][0].as_array().unwrap();
    let dimensions: Vec<_> = dimensions.iter().map(text).collect();
    assert!(dimensions.iter().all(|d| line[d].is_string()), "{line}");
    let metrics = directive["Metrics"].as_array().unwrap();
    let metric = |metric: &Value| {
        let name = text(&metric["Name"]);
        let value = &line[&name];
        let whole = |value: &Value| value.is_u64();
        let list = value.as_array();
        assert!(
            whole(value) || list.is_some_and(|values| values.iter().all(whole)),
            "{line}"
        );
        (name, (text(&metric["Unit"]), dimensions.clone()))
    };
    metrics.iter().map(metric).collect()
}

#[tokio::test]
async fn every_function_reports_what_is_documented() {
    let stack = Stack::start().await;
    let url = &stack.ready.websocket;
    assert_eq!(refused(url, &[]).await, 401);
    let bearer = format!("Bearer {}", stack.token("alice").await);
    let foreign = [
        ("Authorization", bearer.as_str()),
        ("Origin", "https://evil.test"),
    ];
    assert_eq!(try_open(url, &foreign).await.err(), Some(403));
    let mut alice = stack.connect("alice").await;
    alice.ask(r#"{"type":"ping","version":"1.0"}"#).await;
    alice.ask("nonsense").await;
    let channel = r#"{"type":"subscribe","version":"1.0","data":{"channels":[{"channel":"demo:a","presence":{}}]}}"#;
    alice.ask(channel).await;
    let lock = r#"{"type":"lock","version":"1.0","data":{"channel":"demo:a","name":"title"}}"#;
    alice.ask(lock).await;
    let message = r#"{"type":"publish","version":"1.0","data":{"channel":"demo:a","kind":"k"}}"#;
    let published = alice.ask(message).await;
    let after = &published["data"]["position"];
    let history = json!({"type": "history", "version": "1.0",
        "data": {"channel": "demo:a", "after": after}});
    alice.ask(&history.to_string()).await;
    let to_alice = json!({
        "target": {"type": "user", "userId": "alice"},
        "message": {"type": "notification", "data": {"kind": "k"}},
    });
    stack.broadcast(&to_alice).await.unwrap();
    alice.receive().await;
    let id = alice.id().await;
    let to_the_dead = json!({
        "target": {"type": "connections", "connectionIds": [id, "R0oXAdfD0kwCH6w="]},
        "message": {"type": "notification", "data": {"kind": "k"}},
    });
    stack.broadcast(&to_the_dead).await.unwrap();
    let sweep = json!({"action": "sweep"});
    stack.invoke("Sweeper", &sweep).await.unwrap();
    alice.close().await;
    stack.logs.wait_for(&["[Disconnect]", "_aws"]).await;

    let promised = promised();
    for (function, expected) in [
        ("Connect", vec!["ConnectionsAccepted", "ConnectionsRefused"]),
        ("Disconnect", vec!["ConnectionsEnded"]),
        (
            "Default",
            vec![
                "FramesServed",
                "FramesRefused",
                "SubscriptionsMade",
                "MessagesAppended",
                "RecoveriesComplete",
                "PresenceJoined",
                "LocksTaken",
            ],
        ),
        (
            "Broadcaster",
            vec![
                "BroadcastRecipients",
                "BroadcastDuration",
                "PostLatency",
                "PostsAccepted",
                "PostsGone",
            ],
        ),
        ("Sweeper", vec!["ConnectionsOpen", "SweepDuration"]),
    ] {
        let lines = reported(&stack, function);
        let mut found = BTreeSet::new();
        for (name, shape) in lines.iter().flat_map(read) {
            assert_eq!(promised.get(&name), Some(&shape), "{name}");
            found.insert(name);
        }
        for name in expected {
            assert!(found.contains(name), "{function} does not report {name}");
        }
    }
    let of = |function: &str, dimension: &str| -> BTreeSet<String> {
        let lines = reported(&stack, function).into_iter();
        let values = lines.filter_map(|line| line[dimension].as_str().map(str::to_owned));
        values.collect()
    };
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    assert_eq!(of("Connect", "Reason"), words(&["origin", "token"]));
    assert_eq!(
        of("Default", "Type"),
        words(&["hello", "history", "lock", "ping", "publish", "subscribe"])
    );
    assert_eq!(of("Default", "Code"), words(&["INVALID_MESSAGE"]));
}

/// The code can report exactly the metrics that the table names.
#[test]
fn the_table_names_every_metric_of_the_code() {
    let source = repository().join("crates/aws/src/metrics.rs");
    let code = std::fs::read_to_string(source).unwrap();
    let code = code.split("#[cfg(test)]").next().unwrap();
    let literals: BTreeSet<_> = code.split('"').skip(1).step_by(2).collect();
    let promised = promised();
    assert!(promised.len() > 20, "{promised:?}");
    for name in promised.keys() {
        assert!(literals.contains(name.as_str()), "{name} is not reported");
    }
    let prefixes = [
        "Connections",
        "Frames",
        "Posts",
        "PostLatency",
        "Broadcast",
        "Sweep",
        "Subscriptions",
        "Recoveries",
        "Messages",
        "Append",
        "Authorizations",
        "Departures",
        "Leaves",
        "Oldest",
        "Presence",
        "Announcements",
        "Locks",
    ];
    for literal in literals {
        if prefixes.iter().any(|prefix| literal.starts_with(prefix)) {
            assert!(
                promised.contains_key(literal),
                "{literal} is not documented"
            );
        }
    }
}
