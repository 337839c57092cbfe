//! A stack on AWS.

use belfry_tests::ended;
use serde_json::json;

use super::fake::Fake;
use super::{Ended, ops};

/// Runs `belfry ops` with credentials for the fake.
pub(super) async fn ops_on(fake: &Fake, arguments: &[&str]) -> Ended {
    let mut command = ops(arguments);
    command
        .env("AWS_ENDPOINT_URL", &fake.url)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test");
    ended(&mut command).await.into()
}

#[tokio::test]
async fn the_function_is_found_and_told_who_asks() {
    let report = json!({"connections": 3, "channels": {"subscriptions": 0, "largest": []}});
    let fake = Fake::start(move |_| Ok(report.clone())).await;
    let stats = ["stats", "--stack", "belfry-test", "--region", "eu-west-1"];
    let ended = ops_on(&fake, &stats).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.starts_with("connections    3\n"), "{ended:?}");
    let recent = "last 5 min     120 frames served, 600 posts accepted\n";
    assert!(ended.out.ends_with(recent), "{ended:?}");
    let asked = fake.asked();
    assert_eq!(asked[0].function, "belfry-test-Operator-1");
    assert_eq!(asked[0].by, "arn:aws:iam::000000000000:user/alice");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let fake = Fake::start(|_| Ok(json!({}))).await;
    let ended = ops_on(
        &fake,
        &["stats", "--stack", "other", "--region", "eu-west-1"],
    )
    .await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.err.contains("Stack 'other' does not exist"),
        "{ended:?}"
    );
    let ended = ops_on(&fake, &["stats", "--stack", "belfry-test"]).await;
    assert!(ended.err.contains("Give it with --region"), "{ended:?}");
    let mut command = ops(&["stats", "--stack", "belfry-test", "--region", "eu-west-1"]);
    let ended: Ended = belfry_tests::ended(&mut command).await.into();
    assert!(
        ended.err.contains("there are no valid AWS credentials"),
        "{ended:?}"
    );
    assert!(fake.asked().is_empty());
}
