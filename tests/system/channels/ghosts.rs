//! Connections that end while they subscribe, and functions that die: nothing
//! is left of either.

use belfry_tests::{Socket, Stack, StackBuilder, request, until};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::unlimited;

/// A stack whose sweeps check a connection that was silent for a second.
fn stack() -> StackBuilder {
    unlimited().parameter("HeartbeatIntervalSeconds", "1")
}

fn three_channels() -> Value {
    let channel = |n: u32| json!({"channel": format!("demo:room:{n}")});
    json!({"channels": [channel(1), channel(2), channel(3)]})
}

/// Sweeps until nothing is left of any connection. No frame may be under way,
/// and every socket must have ended.
async fn expect_no_ghosts(stack: &Stack) {
    stack.age_rows().await;
    let sweep = json!({"action": "sweep"});
    until("nothing is left", async || {
        stack.age_departures().await;
        stack.invoke("Sweeper", &sweep).await.expect("a sweep");
        stack.rows().await + stack.subscriptions().await + stack.session_items().await.len() == 0
    })
    .await;
    stack.expect_connections(0).await;
}

/// The calls to DynamoDB of a `subscribe` frame, in order: the operation and
/// the share of its calls that strikes this one.
const CALLS: [(&str, f64); 5] = [
    // The row, and the set of channels.
    ("UpdateItem", 1.0),
    ("UpdateItem", 0.5),
    // The subscriptions.
    ("BatchWriteItem", 1.0),
    // The row again, and the history.
    ("GetItem", 1.0),
    ("GetItem", 0.5),
];

/// Lets a call get no answer, executed or not. Returns when it waits.
async fn at_call(stack: &Stack, (operation, share): (&str, f64), fault: &str, socket: &mut Socket) {
    let fault = json!({"fault": fault, "operation": operation, "share": share, "times": 1});
    let fault = stack.fault(fault).await;
    socket.send(&request("subscribe", &three_channels())).await;
    stack.struck(&fault, 1).await;
    stack.end_fault(&fault).await;
}

#[tokio::test]
async fn a_frame_that_dies_at_any_call_leaves_no_subscription() {
    let stack = stack().start().await;
    let disconnects = [None, Some("disconnect-drop"), Some("disconnect-duplicate")];
    let mut disconnects = disconnects.into_iter().cycle();
    let calls = CALLS.into_iter().flat_map(|call| {
        let faults = ["dynamodb-timeout", "dynamodb-lose-answer"];
        faults.map(|fault| (call, fault))
    });
    for (call, fault) in calls {
        for dies_first in [true, false] {
            let mut socket = stack.connect("alice").await;
            let id = socket.id().await;
            let disconnect = disconnects.next().flatten();
            let disconnect = match disconnect {
                Some(fault) => {
                    let fault = json!({"fault": fault, "connection": id});
                    Some(stack.fault(fault).await)
                }
                None => None,
            };
            at_call(&stack, call, fault, &mut socket).await;
            if dies_first {
                stack.kill_functions("default");
            }
            drop(socket);
            match &disconnect {
                Some(fault) => stack.struck(fault, 1).await,
                None => drop(stack.disconnected(&id).await),
            }
            if !dies_first {
                stack.kill_functions("default");
            }
        }
    }
    // It writes when its connection has been removed, and dies then. Between its
    // two attempts, `$disconnect` writes once.
    let mut socket = stack.connect("alice").await;
    let id = socket.id().await;
    let operation = ("BatchWriteItem", 1.0);
    at_call(&stack, operation, "dynamodb-timeout", &mut socket).await;
    let fault = json!({"fault": "dynamodb-lose-answer", "operation": operation.0, "share": 0.5, "times": 1});
    let fault = stack.fault(fault).await;
    drop(socket);
    stack.disconnected(&id).await;
    stack.struck(&fault, 1).await;
    stack.kill_functions("default");

    assert!(stack.rows().await > 0 && !stack.session_items().await.is_empty());
    expect_no_ghosts(&stack).await;
}

/// Waits until a connection's `subscribe` frame has been handled. Needs a
/// verbose stack.
async fn handled(stack: &Stack, id: &str) {
    let outcomes = [
        "\"type\":\"subscribe\"",
        "\"event\":\"frame.client-left\"",
        "\"event\":\"frame.failed\"",
        "\"event\":\"connection.closed\"",
    ];
    let is_outcome = |line: &String| {
        line.contains("[Default]") && outcomes.iter().any(|outcome| line.contains(outcome))
    };
    let event = format!("the frame of {id} is handled");
    until(&event, async || {
        stack.logs.lines_with(id).iter().any(is_outcome)
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_subscribes_leaves_no_subscription() {
    let stack = stack().argument("--verbose").start().await;
    // The frame goes on when its connection has been removed.
    for call in [CALLS[1], CALLS[2]] {
        let mut socket = stack.connect("alice").await;
        let id = socket.id().await;
        at_call(&stack, call, "dynamodb-timeout", &mut socket).await;
        drop(socket);
        stack.disconnected(&id).await;
        handled(&stack, &id).await;
        // Without a sweep.
        assert_eq!(stack.subscriptions().await, 0);
    }
    // It goes on when its user has been signed out.
    let mut socket = stack.connect("bob").await;
    let id = socket.id().await;
    at_call(&stack, CALLS[2], "dynamodb-timeout", &mut socket).await;
    let sign_out = json!({"action": "signOut", "userId": "bob"});
    let signed_out = stack.invoke("Operator", &sign_out).await;
    assert_eq!(signed_out.expect("a report")["notEnded"], 0);
    handled(&stack, &id).await;
    assert_eq!(stack.subscriptions().await, 0);
    drop(socket);

    // At whatever moment, with whatever becomes of `$disconnect`.
    for fault in [
        json!({"fault": "disconnect-drop", "share": 0.2}),
        json!({"fault": "disconnect-duplicate", "share": 0.3}),
        json!({"fault": "disconnect-delay", "share": 0.3, "delay": "100ms"}),
    ] {
        stack.fault(fault).await;
    }
    let clients = (0..40).map(async |n| {
        let mut socket = stack.connect(&format!("user-{}", n % 10)).await;
        let id = socket.id().await;
        socket.send(&request("subscribe", &three_channels())).await;
        if n % 4 == 0 {
            socket.receive().await;
        }
        drop(socket);
        id
    });
    for id in join_all(clients).await {
        handled(&stack, &id).await;
    }
    assert!(stack.rows().await > 0, "some $disconnect never came");
    assert_eq!(stack.local("DELETE", "faults", None).await.0, 204);
    expect_no_ghosts(&stack).await;
}

/// Subscribes, leaves a channel, comes back to it, and is cut.
async fn come_and_go(stack: &Stack, user: &str) {
    let mut socket = stack.connect(user).await;
    for frame_type in ["subscribe", "unsubscribe", "subscribe"] {
        let data = match frame_type {
            "subscribe" => three_channels(),
            _ => json!({"channels": ["demo:room:2"]}),
        };
        // An error of API Gateway if the function has died.
        socket.ask(&request(frame_type, &data)).await;
    }
}

#[tokio::test]
async fn functions_that_die_at_random_leave_no_subscription() {
    let stack = stack().start().await;
    let kill = |function: &str, share: f64, delay: &str| json!({"fault": "function-kill", "function": function, "share": share, "delay": delay});
    for delay in ["0ms", "2ms", "4ms", "8ms", "16ms", "32ms"] {
        stack.fault(kill("Default", 0.1, delay)).await;
        stack.fault(kill("Disconnect", 0.05, delay)).await;
    }
    for fault in [
        json!({"fault": "disconnect-duplicate", "share": 0.3}),
        json!({"fault": "dynamodb-contention", "delay": "3ms"}),
        json!({"fault": "dynamodb-throttle", "share": 0.03}),
    ] {
        stack.fault(fault).await;
    }
    let users: Vec<_> = (0..20).map(|n| format!("user-{n}")).collect();
    for _ in 0..3 {
        join_all(users.iter().map(|user| come_and_go(&stack, user))).await;
    }
    assert!(stack.logs.lines_with("the function failed").len() > 10);
    assert_eq!(stack.local("DELETE", "faults", None).await.0, 204);
    expect_no_ghosts(&stack).await;
}
