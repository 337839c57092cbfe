//! Lambda's `Invoke`, through its SDK.

use aws_sdk_lambda::primitives::Blob;
use belfry_tests::Stack;
use serde_json::json;

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
async fn what_cannot_be_invoked_is_told_so() {
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
async fn an_event_that_is_none_is_a_function_error() {
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
