//! `belfry ops watch`.

use serde_json::{Value, json};

use super::aws::ops_on;
use super::fake::Fake;
use super::ops_at;

fn stats(_: &Value) -> Result<Value, Value> {
    let largest = json!([{"channel": "room:7", "subscribers": 2}]);
    Ok(
        json!({"connections": 3, "maxConnections": 10, "channels": {"subscriptions": 2, "largest": largest}}),
    )
}

#[tokio::test]
async fn without_a_terminal_each_look_is_a_line() {
    let fake = Fake::start(stats).await;
    let watch = [
        "watch",
        "--count",
        "1",
        "--stack",
        "belfry-test",
        "--region",
        "eu-west-1",
    ];
    let ended = ops_on(&fake, &watch).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended
            .out
            .ends_with("Z connections=3 frames/s=2.0 posts/s=10.0 p50=4ms p99=41ms alarms=2\n"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn programs_get_each_look_as_json() {
    let fake = Fake::start(stats).await;
    let watch = [
        "watch",
        "--count",
        "1",
        "--json",
        "--stack",
        "belfry-test",
        "--region",
        "eu-west-1",
    ];
    let ended = ops_on(&fake, &watch).await;
    let look: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        look["alarms"],
        json!(["belfry-test-broadcast-slow", "belfry-test-any"])
    );
    assert_eq!(look["channels"]["largest"][0]["channel"], "room:7");
    assert_eq!(look["problems"], json!([]));
}

#[tokio::test]
async fn a_stack_that_does_not_exist_is_an_error() {
    let nobody = "http://127.0.0.1:1";
    for json in [&[][..], &["--json"]] {
        let watch = [&["watch", "--count", "1"], json].concat();
        let ended = ops_at(nobody, &watch).await;
        assert_eq!((ended.code, &*ended.out), (Some(1), ""), "{ended:?}");
        assert!(ended.err.contains("no local stack responds"), "{ended:?}");
        assert!(ended.err.contains("choose another with --endpoint"));
    }
}

#[tokio::test]
async fn a_part_that_cannot_be_read_is_named() {
    // This stack has no metrics.
    let fake = Fake::start(stats).await;
    let ended = ops_at(&fake.url, &["watch", "--count", "1"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("connections=3 frames/s=–"), "{ended:?}");
    assert!(ended.out.contains("problem="), "{ended:?}");
}
