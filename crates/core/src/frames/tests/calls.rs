use serde_json::{Value, json};

use super::*;
use crate::ports::MAX_RESULT_BYTES;
use crate::testing::CallBehaviour;

async fn call(dispatcher: &Fixture, frame_id: &str, data: Value) -> (Value, FrameOutcome) {
    let body = json!({"type": "call", "version": "1.0", "id": frame_id, "data": data});
    let (answer, outcome) = send(dispatcher, "c1", &body.to_string()).await;
    (answer.expect("an answer"), outcome)
}

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_with_what_the_application_returns() {
    let dispatcher = dispatcher().await;
    let answer = CallBehaviour::Answers(r#"{"premium":482.5}"#.into());
    dispatcher.callee.behave(answer);
    let data = json!({"action": "quote.edit", "data": {"age": 41}});
    let (result, outcome) = call(&dispatcher, "7", data).await;
    let expected = json!({"type": "result", "version": "1.0",
        "timestamp": "2026-01-01T00:00:00.000Z", "data": {"premium": 482.5}, "correlationId": "7"});
    assert_eq!(result, expected);
    assert_eq!(outcome, FrameOutcome::Served("call"));
    let seen = json!({"connectionId": "c1", "userId": "alice", "claims": {},
        "action": "quote.edit", "data": {"age": 41}});
    assert_eq!(dispatcher.callee.take(), [seen]);
    let called = MetricEvent::Called {
        served: true,
        took: Duration::ZERO,
    };
    let events = [called, MetricEvent::FrameServed("call")];
    assert_eq!(dispatcher.metrics.take(), events);
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_does_not_tell_the_client_why() {
    let dispatcher = dispatcher().await;
    let mut answers = Vec::new();
    for behaviour in [
        CallBehaviour::Fails,
        CallBehaviour::NeverAnswers,
        CallBehaviour::Throttled,
        CallBehaviour::Unavailable,
        CallBehaviour::Answers("<html>".into()),
        CallBehaviour::Answers("1".repeat(MAX_RESULT_BYTES + 1)),
    ] {
        dispatcher.callee.behave(behaviour);
        let (error, outcome) = call(&dispatcher, "7", json!({"action": "a"})).await;
        assert_eq!(error["data"]["code"], "CALL_FAILED");
        assert_eq!(error["correlationId"], "7");
        assert_eq!(outcome, FrameOutcome::Refused(ErrorCode::CallFailed));
        answers.push(error);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let events = dispatcher.metrics.take();
    let failed = |event: &&MetricEvent| matches!(event, MetricEvent::Called { served: false, .. });
    assert_eq!(events.iter().filter(failed).count(), 6);
    assert!(dispatcher.outbox.is_open("c1"));
}

#[tokio::test(start_paused = true)]
async fn without_a_function_calls_are_forbidden() {
    let dispatcher = dispatcher().await;
    let (error, _) = call(&dispatcher, "7", json!({"action": "a"})).await;
    assert_eq!(error["data"]["code"], "FORBIDDEN");
    let message = error["data"]["message"].as_str().unwrap();
    assert!(message.contains("CallFunction"), "{message}");
    let refused = MetricEvent::FrameRefused(ErrorCode::Forbidden);
    assert_eq!(dispatcher.metrics.take(), [refused]);
}

#[tokio::test(start_paused = true)]
async fn the_longest_answer_fits_beside_the_longest_frame_id() {
    let dispatcher = dispatcher().await;
    let longest = format!("\"{}\"", "x".repeat(MAX_RESULT_BYTES - 2));
    dispatcher.callee.behave(CallBehaviour::Answers(longest));
    for frame_id in ["\u{10ffff}".repeat(128), "\"".repeat(128)] {
        let (result, _) = call(&dispatcher, &frame_id, json!({"action": "a"})).await;
        assert_eq!(result["type"], "result");
        assert_eq!(result["correlationId"], frame_id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_served_calls_nothing() {
    let dispatcher = Dispatcher {
        messages_per_minute: 1,
        ..dispatcher().await
    };
    dispatcher.callee.behave(CallBehaviour::Answers("1".into()));
    let mut served = 0;
    for _ in 0..50 {
        let (answer, _) = call(&dispatcher, "7", json!({"action": "a"})).await;
        served += usize::from(answer["type"] == "result");
    }
    assert!((1..50).contains(&served), "{served} calls");
    assert_eq!(dispatcher.callee.take().len(), served, "the rate limit");
    dispatcher
        .clock
        .set(UnixSeconds(dispatcher.store.row("c1").unwrap().token_expires_at.0).to_millis());
    let body = r#"{"type":"call","version":"1.0","data":{"action":"a"}}"#;
    let (_, outcome) = send(&dispatcher, "c1", body).await;
    assert_eq!(outcome, FrameOutcome::Closed(ErrorCode::TokenExpired));
    assert!(dispatcher.callee.take().is_empty(), "an expired token");
}
