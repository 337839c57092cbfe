//! Routes and replies.

use belfry_tests::{Socket, Stack, open, repository};
use serde_json::Value;

use crate::target::{Target, expect_local};

#[tokio::test]
async fn routes_are_chosen_by_the_selection_expression() {
    let target = Target::start().await;
    let mut socket = target.connect().await;
    let route = async |socket: &mut Socket, name: &str| {
        // The function returns its body, which is the frame itself.
        let frame = format!(r#"{{"action":{{"name":{name}}}}}"#);
        assert_eq!(socket.ask_text(&frame).await, frame);
    };
    route(&mut socket, "\"chosen\"").await;
    route(&mut socket, "\"unknown\"").await;
    route(&mut socket, "\"CHOSEN\"").await;
    // A client cannot reach $connect and $disconnect: $default gets these.
    route(&mut socket, "\"$connect\"").await;
    route(&mut socket, "\"$disconnect\"").await;
    assert_eq!(socket.ask_text("no JSON at all").await, "no JSON at all");
}

#[tokio::test]
async fn a_route_without_a_response_sends_nothing() {
    let target = Target::start().await;
    let mut socket = target.connect().await;
    socket.send(r#"{"action":{"name":"mute"}}"#).await;
    assert_eq!(
        socket.ask_text("silent, then this").await,
        "silent, then this"
    );
}

fn assert_error_frame(frame: &str, message: &str) {
    let begun = format!(r#"{{"message": "{message}", "connectionId":""#);
    assert!(frame.starts_with(&begun), "{frame}");
    assert!(frame.contains(r#"", "requestId":""#), "{frame}");
    let frame: Value = serde_json::from_str(frame).unwrap();
    assert_eq!(frame.as_object().unwrap().len(), 3, "{frame}");
}

#[tokio::test]
async fn a_failing_message_is_an_error_frame_and_the_connection_stays() {
    let target = Target::start().await;
    let mut socket = target.connect().await;
    for order in ["crash", "panic", "nonsense", "error"] {
        let frame = socket.ask_text(order).await;
        assert_error_frame(&frame, "Internal server error");
        assert_eq!(socket.ask_text("still here").await, "still here", "{order}");
    }
}

#[tokio::test]
async fn a_message_that_takes_too_long_is_an_error_frame_and_the_connection_stays() {
    let target = Target::start().await;
    let mut socket = target.connect().await;
    let frame = socket.ask_text("hang").await;
    assert_error_frame(&frame, "Endpoint request timed out");
    assert_eq!(socket.ask_text("still here").await, "still here");
}

#[tokio::test]
#[cfg_attr(deployed, ignore = "needs a deployment without $default")]
async fn a_message_without_a_route_is_forbidden_and_the_connection_stays() {
    expect_local();
    let template = repository().join("tests/templates/misbehave.yaml");
    let text = std::fs::read_to_string(template).unwrap();
    let without_default = text
        .replace("        $default:\n", "        other:\n")
        .replace("!Ref ApiDefaultRoute", "!Ref ApiOtherRoute");
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), without_default).unwrap();
    let stack = Stack::misbehaving().template(file.path()).start().await;
    let mut socket = open(&stack.ready.websocket, &[]).await;
    assert_error_frame(&socket.ask_text("hello").await, "Forbidden");
    let chosen = r#"{"action":{"name":"chosen"}}"#;
    assert_eq!(socket.ask_text(chosen).await, chosen);
}

#[tokio::test]
async fn messages_of_one_connection_run_concurrently() {
    let target = Target::start().await;
    let mut socket = target.connect().await;
    // Starts two environments, so that the second message need not wait for
    // one.
    for _ in 0..2 {
        socket.send("slow 1000").await;
    }
    for _ in 0..2 {
        socket.receive_text().await;
    }
    socket.send("slow 2000").await;
    socket.send("overtakes").await;
    assert_eq!(socket.receive_text().await, "overtakes");
    socket.receive_text().await;
}
