use super::*;
use crate::ports::{PostError, SweepStore, VerifyError};
use crate::testing::{
    FakeMetrics, FakeOutbox, FakeStore, FakeVerifier, TestClock, connection_id, user_id,
};
use crate::time::UnixSeconds;
use serde_json::{Value, json};

type Fixture = Receive<FakeVerifier, FakeStore, FakeOutbox, TestClock, FakeMetrics>;

async fn receive() -> Fixture {
    let receive = Receive {
        verifier: FakeVerifier,
        store: FakeStore::default(),
        outbox: FakeOutbox::default(),
        clock: TestClock::default(),
        metrics: FakeMetrics::default(),
        max_message_bytes: 1_024,
        messages_per_minute: 600,
        connection_lifetime: Duration::from_secs(7_200),
    };
    receive.store.put("c1", "alice").await;
    receive.outbox.open("c1");
    receive
}

async fn send(receive: &Fixture, id: &str, body: &str) -> (Option<Value>, Outcome) {
    let answer = receive.handle(&connection_id(id), Some(body)).await;
    let frame = answer.frame.map(|f| serde_json::from_str(&f).unwrap());
    (frame, answer.outcome)
}

#[tokio::test(start_paused = true)]
async fn ping_hello_and_echo_are_answered() {
    let receive = receive().await;
    receive.clock.advance(Duration::from_secs(3));
    let (pong, _) = send(
        &receive,
        "c1",
        r#"{"type":"ping","version":"1.0","id":"1"}"#,
    )
    .await;
    assert_eq!(
        pong.unwrap(),
        json!({"type": "pong", "version": "1.0", "timestamp": "2026-01-01T00:00:03.000Z", "correlationId": "1"})
    );
    let (echo, _) = send(
        &receive,
        "c1",
        r#"{"type":"echo","version":"1.0","data":[1]}"#,
    )
    .await;
    assert_eq!(echo.unwrap()["data"], json!([1]));
    let (welcome, outcome) = send(&receive, "c1", r#"{"type":"hello","version":"1.0"}"#).await;
    assert_eq!(
        welcome.unwrap()["data"],
        json!({
            "connectionId": "c1",
            "userId": "alice",
            "connectedAt": "2026-01-01T00:00:00.000Z",
            "tokenExpiresAt": "2026-01-01T01:00:00.000Z",
            "connectionExpiresAt": "2026-01-01T02:00:00.000Z",
            "limits": {"maxMessageBytes": 1024, "messagesPerMinute": 600},
        })
    );
    assert_eq!(outcome, Outcome::Served("hello"));
    let served = ["ping", "echo", "hello"].map(Measured::Served);
    assert_eq!(receive.metrics.take(), served);
    assert_eq!(
        receive.store.row("c1").unwrap().last_seen_at,
        receive.clock.now()
    );
}

#[tokio::test(start_paused = true)]
async fn a_bad_frame_is_refused_and_the_connection_stays() {
    let receive = receive().await;
    let (frame, outcome) = send(&receive, "c1", "nonsense").await;
    assert_eq!(frame.unwrap()["data"]["code"], "INVALID_MESSAGE");
    assert_eq!(outcome, Outcome::Refused(ErrorCode::InvalidMessage));
    let answer = receive.handle(&connection_id("c1"), None).await;
    assert_eq!(answer.outcome, Outcome::Refused(ErrorCode::InvalidMessage));
    assert!(receive.outbox.is_open("c1"));
    let refused = Measured::FrameRefused(ErrorCode::InvalidMessage);
    assert_eq!(receive.metrics.take(), [refused.clone(), refused]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_could_not_be_sent_is_refused() {
    let receive = Receive {
        max_message_bytes: MAX_FRAME_BYTES,
        ..receive().await
    };
    let list = vec!["1e15"; 20_000].join(",");
    let frame = format!(r#"{{"type":"echo","version":"1.0","data":[{list}]}}"#);
    let (frame, outcome) = send(&receive, "c1", &frame).await;
    assert_eq!(frame.unwrap()["data"]["code"], "MESSAGE_TOO_LARGE");
    assert_eq!(outcome, Outcome::Refused(ErrorCode::MessageTooLarge));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_row_is_told_and_closed() {
    let receive = receive().await;
    receive.store.forget("c1");
    let (frame, outcome) = send(&receive, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!(
        (frame, outcome),
        (None, Outcome::Closed(ErrorCode::Unauthorized))
    );
    let posted: Value = serde_json::from_str(&receive.outbox.posted("c1")[0]).unwrap();
    assert_eq!(posted["data"]["code"], "UNAUTHORIZED");
    assert!(!receive.outbox.is_open("c1"));
    assert!(receive.store.is_empty(), "no frame may create a row");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_left_meanwhile_is_left_alone() {
    let receive = receive().await;
    let (frame, outcome) = send(&receive, "left", r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!((frame, outcome), (None, Outcome::Gone));
}

#[tokio::test(start_paused = true)]
async fn an_expired_row_is_no_row() {
    let receive = receive().await;
    receive.clock.advance(Duration::from_secs(7_500));
    let (_, outcome) = send(&receive, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!(outcome, Outcome::Closed(ErrorCode::Unauthorized));
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_token() {
    let receive = receive().await;
    receive
        .clock
        .set(UnixSeconds(receive.store.row("c1").unwrap().token_expires_at.0).to_millis());
    let (_, outcome) = send(&receive, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!(outcome, Outcome::Closed(ErrorCode::TokenExpired));
    assert!(!receive.outbox.is_open("c1"));
}

#[tokio::test(start_paused = true)]
async fn it_closes_even_where_the_reason_cannot_be_told() {
    let receive = receive().await;
    receive.outbox.answer("c2", [Err(PostError::TimedOut)]);
    let (_, outcome) = send(&receive, "c2", "x").await;
    assert_eq!(outcome, Outcome::Closed(ErrorCode::Unauthorized));
    assert!(!receive.outbox.is_open("c2"));
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_an_internal_error() {
    let receive = receive().await;
    receive.store.fail_from_now_on();
    let (frame, outcome) = send(&receive, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!(frame.unwrap()["data"]["code"], "INTERNAL");
    assert!(matches!(outcome, Outcome::Failed(_)));
    assert!(receive.outbox.is_open("c1"));
}

fn refresh(token: &str) -> String {
    json!({"type": "auth.refresh", "version": "1.0", "id": "r", "data": {"token": token}})
        .to_string()
}

#[tokio::test(start_paused = true)]
async fn a_new_token_of_the_same_user_moves_the_sessions_end() {
    let receive = receive().await;
    receive.clock.advance(Duration::from_secs(3_000));
    let (frame, outcome) = send(&receive, "c1", &refresh("good:alice")).await;
    assert_eq!(
        frame.unwrap(),
        json!({
            "type": "auth.refreshed",
            "version": "1.0",
            "timestamp": "2026-01-01T00:50:00.000Z",
            "data": {"tokenExpiresAt": "2026-01-01T01:50:00.000Z"},
            "correlationId": "r",
        })
    );
    assert_eq!(outcome, Outcome::Served("auth.refresh"));
    // Past the first token's end and before the second one's.
    receive.clock.advance(Duration::from_secs(3_000));
    let (_, outcome) = send(&receive, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!(outcome, Outcome::Served("ping"));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_user_ends_the_connection() {
    let receive = receive().await;
    let (frame, outcome) = send(&receive, "c1", &refresh("good:mallory")).await;
    assert_eq!(
        (frame, outcome),
        (None, Outcome::Closed(ErrorCode::Unauthorized))
    );
    let posted: Value = serde_json::from_str(&receive.outbox.posted("c1")[0]).unwrap();
    assert_eq!(posted["data"]["code"], "UNAUTHORIZED");
    assert!(!receive.outbox.is_open("c1"));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_good_changes_nothing() {
    let receive = receive().await;
    let before = receive.store.row("c1").unwrap();
    let (frame, outcome) = send(&receive, "c1", &refresh("bad")).await;
    let frame = frame.unwrap();
    assert_eq!(frame["data"]["code"], "UNAUTHORIZED");
    assert_eq!(frame["correlationId"], "r");
    assert_eq!(outcome, Outcome::Refused(ErrorCode::Unauthorized));
    let (frame, outcome) = send(&receive, "c1", &refresh("keys down")).await;
    let frame = frame.unwrap();
    assert_eq!(frame["data"]["code"], "INTERNAL");
    assert_eq!(frame["correlationId"], "r");
    assert!(matches!(outcome, Outcome::Failed(_)));
    // Good at a handshake, whose leeway allows for clocks that differ.
    let (frame, outcome) = send(&receive, "c1", &refresh("late:alice")).await;
    assert_eq!(frame.unwrap()["data"]["code"], "UNAUTHORIZED");
    assert_eq!(outcome, Outcome::Refused(ErrorCode::Unauthorized));
    assert!(receive.outbox.is_open("c1"));
    assert_eq!(receive.store.row("c1").unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_cannot_be_refreshed() {
    let receive = receive().await;
    let end = receive.store.row("c1").unwrap().token_expires_at;
    receive.clock.set(end.to_millis());
    let (_, outcome) = send(&receive, "c1", &refresh("good:alice")).await;
    assert_eq!(outcome, Outcome::Closed(ErrorCode::TokenExpired));
}

/// A key server that takes its time.
struct SlowVerifier(Duration);

impl TokenVerifier for SlowVerifier {
    async fn verify(
        &self,
        token: &str,
        now: UnixMillis,
    ) -> Result<crate::ports::Identity, VerifyError> {
        tokio::time::sleep(self.0).await;
        FakeVerifier.verify(token, now).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_while_keys_are_fetched_has_ended() {
    let Receive {
        store,
        outbox,
        clock,
        metrics,
        max_message_bytes,
        messages_per_minute,
        connection_lifetime,
        ..
    } = receive().await;
    let slow = Receive {
        verifier: SlowVerifier(Duration::from_secs(2)),
        store,
        outbox,
        clock,
        metrics,
        max_message_bytes,
        messages_per_minute,
        connection_lifetime,
    };
    let row = slow.store.row("c1").unwrap();
    slow.clock
        .set(UnixMillis(row.token_expires_at.to_millis().0 - 1_000));
    let answer = slow
        .handle(&connection_id("c1"), Some(&refresh("good:alice")))
        .await;
    assert_eq!(answer.outcome, Outcome::Closed(ErrorCode::TokenExpired));
    let after = slow.store.row("c1").unwrap();
    assert_eq!(after.token_expires_at, row.token_expires_at);
}

#[tokio::test(start_paused = true)]
async fn a_pong_is_a_sign_of_life_and_not_answered() {
    let receive = receive().await;
    receive.clock.advance(Duration::from_secs(3));
    let pong = r#"{"type":"pong","version":"1.0"}"#;
    let (frame, outcome) = send(&receive, "c1", pong).await;
    assert_eq!((frame, outcome), (None, Outcome::Served("pong")));
    let row = receive.store.row("c1").unwrap();
    assert_eq!(row.last_seen_at, receive.clock.now());
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_refused_with_the_wait_and_closed_in_the_end() {
    let receive = receive().await;
    let frame = r#"{"type":"ping","version":"1.0","id":"7"}"#;
    for _ in 0..receive.budget().burst {
        let (_, outcome) = send(&receive, "c1", frame).await;
        assert_eq!(outcome, Outcome::Served("ping"));
    }
    let (refused, outcome) = send(&receive, "c1", frame).await;
    let refused = refused.unwrap();
    assert_eq!(outcome, Outcome::Refused(ErrorCode::RateLimited));
    assert_eq!(refused["correlationId"], "7");
    let wait = refused["data"]["retryAfterMs"].as_u64().unwrap();
    assert_eq!(wait, 100);
    receive.clock.advance(Duration::from_millis(wait));
    let (_, outcome) = send(&receive, "c1", frame).await;
    assert_eq!(outcome, Outcome::Served("ping"));
    // Whatever it sends counts: also what is no frame.
    for text in [frame, "nonsense", &refresh("good:alice"), &refresh("bad")] {
        let (_, outcome) = send(&receive, "c1", text).await;
        assert_eq!(outcome, Outcome::Refused(ErrorCode::RateLimited), "{text}");
    }
    for _ in 6..MAX_REFUSALS {
        let (_, outcome) = send(&receive, "c1", frame).await;
        assert_eq!(outcome, Outcome::Refused(ErrorCode::RateLimited));
    }
    let (frame, outcome) = send(&receive, "c1", frame).await;
    assert_eq!(
        (frame, outcome),
        (None, Outcome::Closed(ErrorCode::RateLimited))
    );
    assert!(!receive.outbox.is_open("c1"));
}

#[tokio::test(start_paused = true)]
async fn a_token_from_before_a_sign_out_extends_nothing() {
    let receive = receive().await;
    let now = receive.clock.now();
    receive
        .store
        .sign_out(&user_id("alice"), now)
        .await
        .unwrap();
    let (frame, outcome) = send(&receive, "c1", &refresh("good:alice")).await;
    assert_eq!(outcome, Outcome::Refused(ErrorCode::Unauthorized));
    assert!(
        frame.unwrap()["data"]["message"]
            .as_str()
            .unwrap()
            .contains("signed out")
    );
    receive.clock.advance(Duration::from_secs(1));
    let (_, outcome) = send(&receive, "c1", &refresh("good:alice")).await;
    assert_eq!(outcome, Outcome::Served("auth.refresh"));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_user_closes_even_if_that_user_was_signed_out() {
    let receive = receive().await;
    let now = receive.clock.now();
    let mallory = user_id("mallory");
    receive.store.sign_out(&mallory, now).await.unwrap();
    let (_, outcome) = send(&receive, "c1", &refresh("good:mallory")).await;
    assert_eq!(outcome, Outcome::Closed(ErrorCode::Unauthorized));
    assert!(!receive.outbox.is_open("c1"));
}
