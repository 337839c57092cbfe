//! Responses that a function streams.

use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use belfry_tests::{Gate, Stack, soon, until};
use nix::sys::signal::Signal;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

/// Sends the function an order about a streamed response.
async fn stream(stack: &Stack, order: &str) -> Response {
    let sent = request(stack, order).send();
    soon("the response begins", sent).await.unwrap()
}

fn request(stack: &Stack, order: &str) -> RequestBuilder {
    super::order(stack, "Reader", &format!("stream {order}"))
}

async fn chunk(response: &mut Response) -> Option<String> {
    let chunk = soon("a chunk arrives", response.chunk()).await.unwrap();
    chunk.map(|chunk| String::from_utf8(chunk.to_vec()).unwrap())
}

#[tokio::test]
async fn the_client_reads_while_the_function_runs() {
    let stack = Stack::with_urls().start().await;
    assert_eq!(
        stack.ready.reader.as_ref(),
        stack.ready.function_urls.get("Reader")
    );
    let gate = Gate::closed();
    let mut response = stream(&stack, &gate.body()).await;
    assert_eq!(response.status(), 201);
    let header = |name: &str| {
        let values = response.headers().get_all(name).iter();
        values
            .map(|value| value.to_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(header("content-type"), ["text/plain"]);
    assert_eq!(header("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(header("transfer-encoding"), ["chunked"]);
    assert_eq!(header("x-amzn-requestid").len(), 1);
    assert_eq!(header("x-amzn-remapped-www-authenticate"), ["Bearer"]);
    // The gate is closed: the function still runs.
    assert_eq!(chunk(&mut response).await.as_deref(), Some("first "));
    gate.open();
    assert_eq!(chunk(&mut response).await.as_deref(), Some("last"));
    assert_eq!(chunk(&mut response).await, None);
}

/// The body up to its end, and whether that was a proper one.
async fn body(mut response: Response) -> (String, bool) {
    let mut body = String::new();
    loop {
        match soon("a chunk arrives", response.chunk()).await {
            Ok(Some(chunk)) => body.push_str(std::str::from_utf8(&chunk).unwrap()),
            end => return (body, end.is_ok()),
        }
    }
}

#[tokio::test]
async fn a_function_that_dies_in_mid_stream_cuts_it() {
    let stack = Stack::with_urls().start().await;
    let response = stream(&stack, "crash").await;
    assert_eq!(response.status(), 201);
    assert_eq!(body(response).await, ("first ".into(), false));
    stack
        .logs
        .wait_for(&["Reader", "Runtime exited with error: exit status: 7"])
        .await;
    let response = stream(&stack, "again").await;
    assert_eq!(body(response).await, ("again".into(), true));
}

#[tokio::test]
async fn a_runtime_may_stream_without_a_prelude_and_report_an_error() {
    let stack = Stack::with_urls().start().await;
    for (end, complete) in [("well", true), ("trailers", false), ("abort", false)] {
        let order = super::order(&stack, "Reader", &format!("raw {end}"));
        let response = order.send().await.unwrap();
        assert_eq!(response.status(), 200, "{end}");
        assert_eq!(response.headers()["content-type"], "text/html", "{end}");
        assert_eq!(body(response).await, ("first ".into(), complete), "{end}");
    }
    let response = stream(&stack, "again").await;
    assert_eq!(body(response).await, ("again".into(), true));
}

#[tokio::test]
async fn a_timeout_cuts_the_stream() {
    let stack = Stack::with_urls()
        .parameter("FunctionTimeout", "3")
        .start()
        .await;
    let response = stream(&stack, &Gate::closed().body()).await;
    assert_eq!(body(response).await, ("first ".into(), false));
    stack
        .logs
        .wait_for(&["Reader", "Task timed out after 3.00 seconds"])
        .await;
}

#[tokio::test]
async fn a_function_does_not_see_its_client_leave() {
    let stack = Stack::with_urls().start().await;
    let gate = Gate::closed();
    let mut response = stream(&stack, &gate.body()).await;
    assert_eq!(chunk(&mut response).await.as_deref(), Some("first "));
    drop(response);
    gate.open();
    stack
        .logs
        .wait_for(&["Reader", "streamed to the end"])
        .await;
    // Nobody reads a response that would fill every buffer, either.
    drop(stream(&stack, "pour 5000000").await);
    stack.logs.wait_for(&["Reader", "poured everything"]).await;
}

#[tokio::test]
async fn an_injected_death_cuts_the_stream() {
    let stack = Stack::with_urls().start().await;
    let kill = json!({"fault": "function-kill", "function": "Reader", "delay": "1s", "times": 1});
    stack.fault(kill).await;
    let response = stream(&stack, &Gate::closed().body()).await;
    assert_eq!(body(response).await, ("first ".into(), false));
    // The whole body arrives before the response would count.
    let lose = json!({"fault": "function-lose-answer", "function": "Reader", "times": 1});
    stack.fault(lose).await;
    let response = stream(&stack, "everything").await;
    assert_eq!(body(response).await, ("everything".into(), false));
    let response = stream(&stack, "again").await;
    assert_eq!(body(response).await, ("again".into(), true));
}

#[tokio::test]
async fn a_function_that_fails_before_its_response_is_a_502() {
    let stack = Stack::with_urls().start().await;
    for order in ["error", "crash", "panic"] {
        let response = super::order(&stack, "Reader", order).send().await.unwrap();
        assert_eq!(response.status(), 502, "{order}");
        assert_eq!(
            body(response).await,
            ("Internal Server Error".into(), true),
            "{order}"
        );
    }
}

#[tokio::test]
async fn a_complete_response_is_passed_on_as_it_is() {
    let stack = Stack::with_urls().start().await;
    let response = super::order(&stack, "Reader", "hello")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    let expected = r#"{"body":"hello","statusCode":200}"#;
    assert_eq!(body(response).await, (expected.into(), true));
}

#[tokio::test]
async fn an_invocation_without_the_url_gets_the_whole_output() {
    let stack = Stack::with_urls().start().await;
    let payload = Blob::new(r#"{"body":"stream hello"}"#);
    let invocation = stack.lambda().invoke().function_name("Reader");
    let output = invocation.payload(payload).send().await.unwrap();
    assert_eq!(output.function_error(), None);
    let output = output.payload().unwrap().as_ref();
    let output = std::str::from_utf8(output).unwrap();
    let (prelude, body) = output.split_once("\0\0\0\0\0\0\0\0").unwrap();
    assert_eq!(body, "hello");
    let prelude: Value = serde_json::from_str(prelude).unwrap();
    assert_eq!(prelude["statusCode"], 201);
}

#[tokio::test]
async fn a_stream_without_a_body_is_logged() {
    let stack = Stack::with_urls().start().await;
    let response = stream(&stack, "nothing").await;
    assert_eq!(response.status(), 201);
    assert_eq!(body(response).await, (String::new(), true));
    stack
        .logs
        .wait_for(&["WARN", "a streamed response without a body", "Reader"])
        .await;
}

#[tokio::test]
async fn a_request_that_waits_for_a_process_is_logged() {
    let stack = Stack::with_urls()
        .argument("--environments")
        .argument("1")
        .start()
        .await;
    let gate = Gate::closed();
    let first = stream(&stack, &gate.body()).await;
    let opens_the_gate = async {
        stack
            .logs
            .wait_for(&["WARN", "all 1 processes are busy", "Reader"])
            .await;
        gate.open();
    };
    let (second, ()) = tokio::join!(stream(&stack, "second"), opens_the_gate);
    assert_eq!(body(first).await, ("first last".into(), true));
    assert_eq!(body(second).await, ("second".into(), true));
}

#[tokio::test]
async fn a_stack_that_stops_cuts_its_streams() {
    let mut stack = Stack::with_urls().start().await;
    let response = stream(&stack, &Gate::closed().body()).await;
    let status = stack.stop(Signal::SIGTERM, Duration::from_secs(10)).await;
    assert!(status.success(), "{status}");
    assert_eq!(body(response).await, ("first ".into(), false));
}

#[tokio::test]
async fn a_long_response_is_complete() {
    const BYTES: usize = 7_000_000;
    let stack = Stack::with_urls().start().await;
    let response = stream(&stack, &format!("pour {BYTES}")).await;
    let (body, complete) = body(response).await;
    assert_eq!((body.len(), complete), (BYTES, true));
}

#[tokio::test]
async fn streams_beyond_the_reserved_concurrency_are_a_429() {
    let stack = Stack::with_urls().parameter("Reserved", "1").start().await;
    let gate = Gate::closed();
    let first = stream(&stack, &gate.body()).await;
    let refused = stream(&stack, "second").await;
    assert_eq!(refused.status(), 429);
    assert_eq!(
        refused.headers()["x-amzn-errortype"],
        "TooManyRequestsException"
    );
    let refusal: Value = serde_json::from_str(&body(refused).await.0).unwrap();
    let reason = "ReservedFunctionConcurrentInvocationLimitExceeded";
    assert_eq!(refusal["Reason"], reason, "{refusal}");
    gate.open();
    assert_eq!(body(first).await, ("first last".into(), true));
    let served = async || stream(&stack, "third").await.status() == 201;
    until("the function is free again", served).await;
}

#[tokio::test]
async fn a_reserved_concurrency_of_zero_switches_the_url_off() {
    let stack = Stack::with_urls().parameter("Reserved", "0").start().await;
    assert_eq!(stream(&stack, "hello").await.status(), 429);
}

#[tokio::test]
async fn requests_above_ten_a_second_for_each_reserved_execution_are_a_429() {
    let stack = Stack::with_urls().parameter("Reserved", "1").start().await;
    let refused_for = async |reason: &str| {
        let requests = (0..50).map(|_| stream(&stack, "hello"));
        let responses = futures_util::future::join_all(requests).await;
        let bodies = futures_util::future::join_all(responses.into_iter().map(body)).await;
        bodies.iter().any(|(body, _)| body.contains(reason))
    };
    let reason = "ReservedFunctionInvocationRateLimitExceeded";
    until("a request exceeds the rate", async || {
        refused_for(reason).await
    })
    .await;
}

#[tokio::test]
async fn clients_that_do_not_read_cost_little_memory() {
    const STREAMS: usize = 30;
    let stack = Stack::with_urls()
        .argument("--environments")
        .argument("31")
        .start()
        .await;
    let before = stack.memory_kb();
    let streams = (0..STREAMS).map(|_| stream(&stack, "pour 20000000"));
    let unread = futures_util::future::join_all(streams).await;
    assert!(unread.iter().all(|response| response.status() == 201));
    // Time enough for the others to send all that anybody takes.
    let (body, _) = body(stream(&stack, "pour 6000000").await).await;
    assert_eq!(body.len(), 6_000_000);
    let grown = (stack.memory_kb() - before) / 1_024;
    // Of 20 MB each.
    assert!(grown < STREAMS as u64, "{grown} MB for {STREAMS} streams");
}
