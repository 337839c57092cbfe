//! The comparison of two functions' work, on which a benchmark relies.

use belfry_tests::{Sink, Stack, Work, binaries, repository};
use serde_json::{Value, json};
use tokio::process::Command;

fn connect() -> Command {
    Command::new(binaries().join("connect"))
}

fn example(name: &str) -> Value {
    let file = repository().join("events").join(format!("{name}.json"));
    let text = std::fs::read_to_string(file).expect("an event");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn other_work_is_told_from_the_same_work() {
    let (stack, sink) = (Stack::start().await, Sink::start().await);
    let mut event = example("connect-authorization");
    let bearer = format!("Bearer {}", stack.token("alice").await);
    event["multiValueHeaders"]["Authorization"] = json!([bearer]);
    let (variables, events) = (stack.unlimited(&sink.url), [event]);
    let work = Work::record(connect(), &variables, &events).await;
    stack.expect_connections(1).await;

    let same = work.replay(connect(), &variables, &events).await;
    assert_eq!(work.difference(&same), None);
    // The second one wrote nothing.
    stack.expect_connections(1).await;

    // A condition has another value.
    let mut stricter = variables.clone();
    for (name, value) in &mut stricter {
        if *name == "MAX_CONNECTIONS_PER_USER" {
            *value = "7".into();
        }
    }
    let other = work.replay(connect(), &stricter, &events).await;
    let difference = work.difference(&other).expect("a difference");
    assert!(
        difference.contains("TransactItems/1/Update"),
        "{difference}"
    );
    assert!(difference.contains("7"), "{difference}");

    // No call is made.
    let refused = [example("connect-no-token")];
    let other = work.replay(connect(), &variables, &refused).await;
    assert!(work.difference(&other).is_some());
}
