//! Lambda's `Invoke`, called through the SDK.

use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{InvocationType, LogType, ThrottleReason};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use belfry_tests::{Gate, Stack, http, open, until};
use serde_json::{Value, json};

#[tokio::test]
async fn a_function_is_known_by_name_and_by_arn() {
    let stack = Stack::start().await;
    let request = json!({"target": {"type": "all"}, "message": {"type": "notification", "data": {"kind": "k"}}});
    for name in [
        "Broadcaster",
        "000000000000:function:Broadcaster",
        "arn:aws:lambda:us-east-1:000000000000:function:Broadcaster",
        "arn:aws:lambda:us-east-1:000000000000:function:Broadcaster:$LATEST",
    ] {
        let payload = Blob::new(request.to_string());
        let output = stack
            .lambda()
            .invoke()
            .function_name(name)
            .payload(payload)
            .send()
            .await
            .unwrap();
        assert_eq!(output.status_code(), 200, "{name}");
        assert_eq!(output.function_error(), None, "{name}");
    }
}

#[tokio::test]
async fn a_qualifier_names_the_function_or_nothing() {
    let stack = Stack::misbehaving().start().await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:Misbehave";
    let call = |name: &str, qualifier: Option<&str>| {
        let call = stack.lambda().invoke().function_name(name);
        let payload = Blob::new(r#"{"body":"hello"}"#);
        call.set_qualifier(qualifier.map(str::to_owned))
            .payload(payload)
            .send()
    };
    for name in ["Misbehave", "000000000000:function:Misbehave", arn] {
        let latest = format!("{name}:$LATEST");
        for (name, qualifier) in [
            (name, Some("$LATEST")),
            (&latest, None),
            (&latest, Some("$LATEST")),
        ] {
            let output = call(name, qualifier).await.unwrap();
            assert_eq!(output.executed_version(), Some("$LATEST"), "{name}");
        }
        let seventh = format!("{name}:7");
        for (name, qualifier) in [(name, Some("7")), (&seventh, None), (&seventh, Some("7"))] {
            let unknown = call(name, qualifier)
                .await
                .unwrap_err()
                .into_service_error();
            assert!(unknown.is_resource_not_found_exception(), "{unknown:?}");
            let message = format!("Function not found: {arn}:7");
            assert_eq!(unknown.meta().message(), Some(&*message));
        }
        let different = call(&latest, Some("7")).await.unwrap_err();
        let different = different.into_service_error();
        assert!(
            different.is_invalid_parameter_value_exception(),
            "{different:?}"
        );
    }
    let elsewhere = arn.replace("us-east-1", "eu-west-1");
    let unreachable = call(&elsewhere, None)
        .await
        .unwrap_err()
        .into_service_error();
    assert!(
        unreachable.is_resource_not_found_exception(),
        "{unreachable:?}"
    );
}

#[tokio::test]
async fn an_invalid_invocation_is_refused() {
    let stack = Stack::start().await;
    let unknown = stack
        .lambda()
        .invoke()
        .function_name("Nobody")
        .send()
        .await
        .unwrap_err();
    let unknown = unknown.into_service_error();
    assert!(unknown.is_resource_not_found_exception(), "{unknown:?}");

    for payload in [&b"not JSON"[..], b"{\"target\":\"\xff\"}"] {
        let call = stack
            .lambda()
            .invoke()
            .function_name("Broadcaster")
            .payload(Blob::new(payload));
        let malformed = call.send().await.unwrap_err().into_service_error();
        assert!(
            malformed.is_invalid_request_content_exception(),
            "{malformed:?}"
        );
    }

    let payload = Blob::new(format!("\"{}\"", "x".repeat(6 * 1024 * 1024)));
    let call = stack
        .lambda()
        .invoke()
        .function_name("Broadcaster")
        .payload(payload);
    let large = call.send().await.unwrap_err().into_service_error();
    assert!(large.is_request_too_large_exception(), "{large:?}");
}

#[tokio::test]
async fn a_malformed_event_is_a_function_error() {
    let stack = Stack::start().await;
    for function in ["Connect", "Disconnect", "Default"] {
        let event = json!({"requestContext": {"connectedAt": 1, "requestTimeEpoch": 1}});
        let error = stack.invoke(function, &event).await.unwrap_err();
        assert_eq!(error["errorType"], "MalformedEvent", "{function}");
        assert!(
            error["errorMessage"]
                .as_str()
                .unwrap()
                .contains("connectionId"),
            "{function}: {error}"
        );
    }
}

#[tokio::test]
async fn a_dry_run_runs_nothing() {
    // With one environment, the dry run's event would run before the next one.
    let stack = Stack::misbehaving()
        .parameter("Reserved", "1")
        .start()
        .await;
    let dry = |name: &str| {
        let call = stack.lambda().invoke().function_name(name);
        call.invocation_type(InvocationType::DryRun)
            .payload(Blob::new(r#"{"body":"error"}"#))
            .send()
    };
    let output = dry("Misbehave").await.unwrap();
    assert_eq!(output.status_code(), 204);
    assert_eq!(output.payload().map(|p| p.as_ref().len()).unwrap_or(0), 0);
    let unknown = dry("Nobody").await.unwrap_err().into_service_error();
    assert!(unknown.is_resource_not_found_exception());
    stack
        .invoke("Misbehave", &json!({"body": "fail 0"}))
        .await
        .unwrap();
    stack.logs.wait_for(&["attempt 1 of"]).await;
    assert!(!stack.logs.text().contains("told to fail:"));
}

#[tokio::test]
async fn the_tail_of_the_log_is_returned() {
    let stack = Stack::misbehaving().start().await;
    let call = |body: &str| {
        let payload = Blob::new(json!({"body": body}).to_string());
        let call = stack.lambda().invoke().function_name("Misbehave");
        call.log_type(LogType::Tail).payload(payload).send()
    };
    // The second log contains nothing of the first.
    for (body, said) in [("error", "told to fail: "), ("fail 0", "attempt 1 of ")] {
        let output = call(body).await.unwrap();
        let log = STANDARD.decode(output.log_result().unwrap()).unwrap();
        let log = String::from_utf8(log).unwrap();
        let lines: Vec<_> = log.lines().collect();
        assert!(
            lines[0].starts_with("START RequestId: ") && lines[0].ends_with(" Version: $LATEST"),
            "{log}"
        );
        assert!(lines[1].starts_with(said), "{log}");
        let end = &lines[lines.len() - 2..];
        assert!(end[0].starts_with("END RequestId: "), "{log}");
        assert!(
            end[1].contains("\tDuration: ") && end[1].contains("\tMemory Size: 256 MB\t"),
            "{log}"
        );
        assert_eq!(
            lines
                .iter()
                .filter(|line| line.starts_with("START"))
                .count(),
            1
        );
    }
    let crash = call("crash").await.unwrap();
    let log = STANDARD.decode(crash.log_result().unwrap()).unwrap();
    let log = String::from_utf8(log).unwrap();
    assert!(
        log.contains(" Error: Runtime exited with error: exit status: 7\n"),
        "{log}"
    );

    let without = stack
        .lambda()
        .invoke()
        .function_name("Misbehave")
        .send()
        .await
        .unwrap();
    assert_eq!(without.log_result(), None);
}

#[tokio::test]
async fn a_function_is_told_what_its_caller_says_of_itself() {
    let stack = Stack::misbehaving().start().await;
    let call = |context: String| {
        let call = stack.lambda().invoke().function_name("Misbehave");
        call.client_context(context)
            .payload(Blob::new(r#"{"body":"client"}"#))
    };
    let context = json!({"custom": {"by": "alice@laptop"}}).to_string();
    let context = STANDARD.encode(context);
    let output = call(context.clone()).send().await.unwrap();
    let output: Value = serde_json::from_slice(output.payload().unwrap().as_ref()).unwrap();
    let told: Value = serde_json::from_str(output["body"].as_str().unwrap()).unwrap();
    assert_eq!(told["custom"], json!({"by": "alice@laptop"}));

    let later = call(context).invocation_type(InvocationType::Event);
    assert_eq!(later.send().await.unwrap().status_code(), 202);
    stack.logs.wait_for(&["client context: null"]).await;

    for wrong in ["alice".to_owned(), "x".repeat(3_584)] {
        let refused = call(wrong).send().await.unwrap_err().into_service_error();
        assert!(
            refused.is_invalid_request_content_exception(),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn payloads_have_limits() {
    let stack = Stack::misbehaving().start().await;
    let event = |bytes: usize| {
        // Two quotation marks.
        let payload = Blob::new(format!("\"{}\"", "x".repeat(bytes - 2)));
        let call = stack.lambda().invoke().function_name("Misbehave");
        call.invocation_type(InvocationType::Event)
            .payload(payload)
            .send()
    };
    event(256 * 1024).await.unwrap();
    let large = event(256 * 1024 + 1)
        .await
        .unwrap_err()
        .into_service_error();
    assert!(large.is_request_too_large_exception(), "{large:?}");

    let too_large = json!({"body": "large 6291556"});
    let Err(error) = stack.invoke("Misbehave", &too_large).await else {
        panic!("the answer was accepted");
    };
    assert_eq!(error["errorType"], "Function.ResponseSizeTooLarge");
    assert!(
        error["errorMessage"]
            .as_str()
            .unwrap()
            .contains("6291556 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn invocations_beyond_the_concurrency_are_a_429() {
    for (stack, reason) in [
        (
            Stack::misbehaving().parameter("Reserved", "1"),
            ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded,
        ),
        (
            Stack::misbehaving().argument("--concurrency").argument("1"),
            ThrottleReason::ConcurrentInvocationLimitExceeded,
        ),
    ] {
        let stack = stack.patient().start().await;
        let mut socket = open(&stack.ready.websocket, &[]).await;
        let gate = Gate::closed();
        socket.send(&gate.body()).await;
        stack.logs.wait_for(&["waiting at the gate"]).await;
        let call = stack.lambda().invoke().function_name("Misbehave").send();
        let refused = call.await.unwrap_err().into_service_error();
        let InvokeError::TooManyRequestsException(refused) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(refused.reason(), Some(&reason));
        // For a message, API Gateway sends an error frame.
        let frame = socket.ask_text("hello").await;
        assert!(
            frame.starts_with(r#"{"message": "Internal server error""#),
            "{frame}"
        );
        gate.open();
        socket.receive_text().await;
        assert_eq!(
            socket.ask_text("hello").await,
            "hello",
            "still throttled after the function answered"
        );
    }
}

#[tokio::test]
async fn functions_that_invoke_each_other_for_ever_are_stopped() {
    let stack = Stack::misbehaving().start().await;
    let url = format!(
        "{}/2015-03-31/functions/Misbehave/invocations",
        stack.ready.lambda
    );
    // The Rust SDK inside a function passes the chain on.
    let relayed = stack
        .invoke("Misbehave", &json!({"body": "relay relay trace"}))
        .await
        .unwrap();
    let hops = relayed["body"].as_str().unwrap().rsplit(':').next();
    assert_eq!(hops, Some("3"), "{relayed}");

    let mut trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0".to_owned();
    let client = http();
    for _ in 0..16 {
        let call = client.post(&url).header("X-Amzn-Trace-Id", &trace);
        let answer = call.body(r#"{"body":"trace"}"#).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        trace = answer["body"].as_str().unwrap().to_owned();
        assert!(trace.starts_with("Root=1-5759e988-"), "{trace}");
    }
    let call = client.post(&url).header("X-Amzn-Trace-Id", &trace);
    let answer = call.body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(
        answer.headers()["x-amzn-errortype"],
        "RecursiveInvocationException"
    );
}

#[tokio::test]
async fn a_throttled_disconnect_is_lost() {
    let stack = Stack::misbehaving()
        .patient()
        .parameter("Reserved", "1")
        .start()
        .await;
    let mut busy = open(&stack.ready.websocket, &[]).await;
    let leaving = open(&stack.ready.websocket, &[]).await;
    let gate = Gate::closed();
    busy.send(&gate.body()).await;
    stack.logs.wait_for(&["waiting at the gate"]).await;
    leaving.close().await;
    stack
        .logs
        .wait_for(&["the function was not invoked", "$disconnect"])
        .await;
    stack
        .logs
        .wait_for(&["$disconnect failed; API Gateway does not retry it"])
        .await;
    gate.open();
}

#[tokio::test]
async fn a_queued_event_is_dropped_when_its_caller_times_out() {
    let stack = Stack::misbehaving()
        .argument("--environments")
        .argument("1")
        .patient()
        .parameter("IntegrationTimeout", "2000")
        .start()
        .await;
    // This waits for the function's start. A handshake would not.
    let ready = json!({"body": "hello"});
    stack.invoke("Misbehave", &ready).await.unwrap();
    let mut socket = open(&stack.ready.websocket, &[]).await;
    let gate = Gate::closed();
    let frame = socket.ask_text(&gate.body()).await;
    assert!(frame.contains("Endpoint request timed out"), "{frame}");
    stack.logs.wait_for(&["waiting at the gate"]).await;
    // This event waits for the only environment until API Gateway gives up.
    let frame = socket.ask_text("error").await;
    assert!(frame.contains("Endpoint request timed out"), "{frame}");
    gate.open();
    let answered = async || socket.ask_text("hello").await == "hello";
    until("the environment answers again", answered).await;
    assert!(
        !stack.logs.text().contains("told to fail"),
        "the event ran all the same"
    );
}
