//! Asynchronous events: retries, dead letters, schedules.

use belfry_tests::{Gate, Stack, StackBuilder, repository};
use serde_json::{Value, json};

use crate::start::template;

fn quick() -> StackBuilder {
    Stack::misbehaving()
        .argument("--retry-delay")
        .argument("10ms,20ms")
}

#[tokio::test]
async fn a_failing_event_gets_three_attempts_and_becomes_a_dead_letter() {
    let stack = quick().start().await;
    let event = json!({"body": "error", "n": 7});
    let id = stack.invoke_later("Misbehave", &event).await;
    let line = stack
        .logs
        .wait_for(&["DEAD LETTER", "Misbehave", "RetriesExhausted"])
        .await;
    assert!(
        line.contains("arn:aws:sqs:us-east-1:000000000000:DeadLetters"),
        "{line}"
    );
    let attempts = stack
        .logs
        .text()
        .matches(&format!("told to fail: {id}"))
        .count();
    assert_eq!(attempts, 3, "each under the same request id");

    let (_, letters) = stack.local("GET", "dead-letters", None).await;
    assert_eq!(letters.as_array().unwrap().len(), 1, "{letters}");
    let letter = &letters[0];
    assert_eq!(letter["function"], "Misbehave");
    assert_eq!(
        letter["destination"],
        "arn:aws:sqs:us-east-1:000000000000:DeadLetters"
    );
    let record = &letter["record"];
    assert_eq!(record["version"], "1.0");
    assert_eq!(
        record["requestContext"],
        json!({
            "requestId": id,
            "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:Misbehave:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        })
    );
    assert_eq!(record["requestPayload"], event);
    assert_eq!(record["responseContext"]["functionError"], "Unhandled");
    assert_eq!(record["responsePayload"]["errorMessage"], "told to fail");
}

#[tokio::test]
async fn the_template_sets_retries_and_maximum_age() {
    for (parameter, value, delay, condition) in [
        ("MaximumRetries", "0", "10ms", "RetriesExhausted"),
        // The next attempt would be after the event's maximum age.
        ("MaximumEventAge", "60", "61s", "EventAgeExceeded"),
    ] {
        let stack = Stack::misbehaving()
            .parameter(parameter, value)
            .argument("--retry-delay")
            .argument(delay)
            .start()
            .await;
        stack
            .invoke_later("Misbehave", &json!({"body": "error"}))
            .await;
        stack.logs.wait_for(&["DEAD LETTER", condition]).await;
        let (_, letters) = stack.local("GET", "dead-letters", None).await;
        let context = &letters[0]["record"]["requestContext"];
        assert_eq!(context["approximateInvokeCount"], 1, "{letters}");
        assert_eq!(
            letters[0]["record"]["responseContext"]["functionError"],
            "Unhandled"
        );
    }
}

#[tokio::test]
async fn an_event_that_finally_succeeds_is_no_dead_letter() {
    let stack = quick().start().await;
    let id = stack
        .invoke_later("Misbehave", &json!({"body": "fail 2"}))
        .await;
    stack.logs.wait_for(&["attempt 3 of", &id]).await;
    // By this event's dead letter, the first one's would have been written.
    stack
        .invoke_later("Misbehave", &json!({"body": "error"}))
        .await;
    stack.logs.wait_for(&["DEAD LETTER"]).await;
    let (_, letters) = stack.local("GET", "dead-letters", None).await;
    assert_eq!(letters.as_array().unwrap().len(), 1, "{letters}");
    assert_eq!(letters[0]["record"]["requestPayload"]["body"], "error");
}

#[tokio::test]
async fn a_throttled_event_waits_and_does_not_count_as_an_attempt() {
    let stack = quick().patient().parameter("Reserved", "1").start().await;
    let url = &stack.ready.websocket;
    let mut socket = belfry_tests::open(url, &[]).await;
    let gate = Gate::closed();
    socket.send(&gate.body()).await;
    stack.logs.wait_for(&["waiting at the gate"]).await;
    let id = stack
        .invoke_later("Misbehave", &json!({"body": "fail 0"}))
        .await;
    stack
        .logs
        .wait_for(&["failed or was throttled", "attempts=0", &id])
        .await;
    gate.open();
    stack.logs.wait_for(&["attempt 1 of", &id]).await;
    socket.receive_text().await;
}

#[tokio::test]
async fn a_reserved_concurrency_of_zero_allows_no_retries() {
    let stack = Stack::misbehaving()
        .parameter("Reserved", "0")
        .start()
        .await;
    stack
        .invoke_later("Misbehave", &json!({"body": "ok"}))
        .await;
    stack
        .logs
        .wait_for(&["DEAD LETTER", "ZeroReservedConcurrency"])
        .await;
    let (_, letters) = stack.local("GET", "dead-letters", None).await;
    let record = &letters[0]["record"];
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 0);
    assert_eq!(record.get("responsePayload"), None);
}

#[tokio::test]
async fn an_invalid_asynchronous_broadcast_becomes_a_dead_letter() {
    // The template as it is, and without its destination.
    let without_destination = template(
        "        DestinationConfig:\n          OnFailure:\n            Type: SQS\n            Destination: !GetAtt Failures.Arn\n",
        "        MaximumRetryAttempts: 2\n",
    );
    for (path, warning, destination) in [
        (
            repository().join("template.yaml"),
            "arn:aws:sqs:us-east-1:000000000000:Failures",
            json!("arn:aws:sqs:us-east-1:000000000000:Failures"),
        ),
        (
            without_destination.path().to_owned(),
            "none: on AWS this event would be lost",
            Value::Null,
        ),
    ] {
        let stack = Stack::builder()
            .template(&path)
            .argument("--retry-delay")
            .argument("10ms")
            .start()
            .await;
        let wrong = json!({"target": {"type": "everyone"}});
        stack.invoke_later("Broadcaster", &wrong).await;
        let line = ["DEAD LETTER", "Broadcaster", warning];
        stack.logs.wait_for(&line).await;
        let (_, letters) = stack.local("GET", "dead-letters", None).await;
        let letter = &letters[0];
        assert_eq!(
            letter["record"]["responsePayload"]["errorType"],
            "InvalidRequest"
        );
        assert_eq!(letter["destination"], destination);
    }
}

#[tokio::test]
async fn schedules_tick_at_the_given_interval() {
    let stack = Stack::misbehaving()
        .argument("--schedule-every")
        .argument("50ms")
        .start()
        .await;
    // Twice each. One of them has a cron expression.
    for source in ["ticked: aws.scheduler", "ticked: aws.events"] {
        stack
            .logs
            .wait_until("two ticks", |text| text.matches(source).count() >= 2)
            .await;
    }
    let scheduler = stack.logs.wait_for(&["ticked: aws.scheduler"]).await;
    assert!(
        scheduler.contains(r#""detail-type":"Scheduled Event""#)
            && scheduler.contains(r#""detail":"{}""#),
        "{scheduler}"
    );
    assert!(
        !stack.logs.text().contains("ticked: never"),
        "a disabled schedule ticked"
    );
}

#[tokio::test]
async fn a_shortened_schedule_waits_until_its_last_event_is_over() {
    let stack = Stack::misbehaving()
        .argument("--schedule-every")
        .argument("50ms")
        .start()
        .await;
    let others = |text: &str| text.matches("ticked: aws.scheduler").count() >= 5;
    stack.logs.wait_until("five ticks", others).await;
    stack.logs.wait_for(&["ticked: hanging"]).await;
    let hanging = stack.logs.lines_with("ticked: hanging");
    assert_eq!(hanging.len(), 1, "{hanging:?}");
}

#[tokio::test]
async fn a_schedule_that_cannot_run_locally_is_logged() {
    let stack = Stack::misbehaving().start().await;
    let line = stack
        .logs
        .wait_for(&["ignoring the schedule MisbehaveNightly"])
        .await;
    assert!(
        line.contains("cron(0 3 * * ? *)") && line.contains("--schedule-every"),
        "{line}"
    );
}
