//! Responses that a function streams.

use belfry_tests::{Gate, Stack, soon};
use reqwest::{RequestBuilder, Response};

/// Sends the function an order about a streamed response.
async fn stream(stack: &Stack, order: &str) -> Response {
    let sent = request(stack, order).send();
    soon("the response begins", sent).await.unwrap()
}

fn request(stack: &Stack, order: &str) -> RequestBuilder {
    super::order(stack, "ReaderFunction", &format!("stream {order}"))
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
        stack.ready.function_urls.get("ReaderFunction")
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
