//! What operators ask of a running stack, with real connections.

mod channels;
mod connections;
mod drains;
mod kicks;

use belfry_tests::{Socket, Stack};
use serde_json::{Value, json};

const ROOM: &str = "demo:room:7";

/// Invokes `Operator`.
async fn operate(stack: &Stack, request: Value) -> Value {
    let answer = stack.invoke("Operator", &request).await;
    answer.unwrap_or_else(|error| panic!("{request}: {error}"))
}

/// Subscribes to the room. Returns the entry of the answer.
async fn join(socket: &mut Socket, entry: Value) -> Value {
    let mut channel = json!({"channel": ROOM});
    channel
        .as_object_mut()
        .unwrap()
        .extend(entry.as_object().unwrap().clone());
    let answer = socket
        .request("subscribe", json!({"channels": [channel]}))
        .await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
    answer["data"]["channels"][0].clone()
}
