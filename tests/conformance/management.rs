//! The management API.

use aws_sdk_apigatewaymanagement::primitives::Blob;
use belfry_tests::{http, open, soon};

use crate::target::Target;

/// A well-formed id without a connection.
const UNKNOWN: &str = "R0oXAdfD0kwCH6w=";

/// Another one. Its base64 has bits that its 11 bytes do not need.
const STRAY_BITS: &str = "H111mc0HywMCEEf=";

#[tokio::test]
async fn a_post_is_a_200_and_arrives() {
    let target = Target::start().await;
    let (mut socket, id) = target.connect_with_id().await;
    for text in ["{\"a\":1}", "", &"x".repeat(131_072)] {
        assert_eq!(target.post(&id, text).await, Ok(()));
        assert_eq!(socket.receive_text().await, text);
    }
}

#[tokio::test]
async fn a_post_above_128_kb_is_a_413() {
    let target = Target::start().await;
    let (_socket, id) = target.connect_with_id().await;
    let post = target
        .management
        .post_to_connection()
        .connection_id(&id)
        .data(Blob::new("x".repeat(131_073)));
    let error = post.send().await.unwrap_err();
    assert_eq!(
        target.post(&id, &"x".repeat(4 * 1024 * 1024)).await,
        Err(413)
    );
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 413);
    assert!(
        error
            .as_service_error()
            .unwrap()
            .is_payload_too_large_exception()
    );
}

#[tokio::test]
async fn get_returns_the_identity_and_both_times() {
    let target = Target::start().await;
    let mut socket = open(&target.url, &[("User-Agent", "test/1")]).await;
    let id = crate::target::id(&mut socket).await;
    let get = || target.management.get_connection().connection_id(&id).send();
    let before = get().await.unwrap();
    assert!(before.identity().unwrap().source_ip().is_some());
    assert_eq!(before.identity().unwrap().user_agent(), Some("test/1"));
    assert!(before.last_active_at().unwrap() >= before.connected_at().unwrap());
    // A message changes `lastActiveAt` and not `connectedAt`.
    let later = async {
        loop {
            socket.ask_text("hello").await;
            let after = get().await.unwrap();
            if after.last_active_at() > before.last_active_at() {
                return after;
            }
        }
    };
    let after = soon("lastActiveAt changes", later).await;
    assert_eq!(after.connected_at(), before.connected_at());
}

#[tokio::test]
async fn delete_is_a_204_and_the_connection_is_gone_at_once() {
    let target = Target::start().await;
    let (mut socket, id) = target.connect_with_id().await;
    let delete = || {
        target
            .management
            .delete_connection()
            .connection_id(&id)
            .send()
    };
    delete().await.unwrap();
    assert_eq!(target.post(&id, "late").await, Err(410));
    assert!(
        delete()
            .await
            .unwrap_err()
            .as_service_error()
            .unwrap()
            .is_gone_exception()
    );
    assert_eq!(socket.closed().await.0, 1000);
}

#[tokio::test]
async fn an_unknown_connection_is_a_410_without_a_body() {
    let target = Target::start().await;
    for id in [UNKNOWN, STRAY_BITS] {
        let post = target
            .management
            .post_to_connection()
            .connection_id(id)
            .data(Blob::new("x"));
        let error = post.send().await.unwrap_err();
        assert!(error.as_service_error().unwrap().is_gone_exception());
        let answer = error.raw_response().unwrap();
        assert_eq!(answer.status().as_u16(), 410);
        assert_eq!(
            answer.headers().get("x-amzn-errortype"),
            Some("GoneException")
        );
        assert_eq!(answer.body().bytes(), Some(&b""[..]));
    }
}

#[tokio::test]
async fn a_malformed_id_is_a_400() {
    let target = Target::start().await;
    let post = target
        .management
        .post_to_connection()
        .connection_id("nonsense")
        .data(Blob::new("x"));
    let error = post.send().await.unwrap_err();
    let answer = error.raw_response().unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    assert_eq!(
        answer.headers().get("x-amzn-errortype"),
        Some("BadRequestException")
    );
    let body = String::from_utf8_lossy(answer.body().bytes().unwrap());
    assert_eq!(body, r#"{"message":"Invalid connectionId: nonsense"}"#);
}

#[tokio::test]
async fn ids_and_the_at_sign_may_be_escaped() {
    let target = Target::start().await;
    let (mut socket, id) = target.connect_with_id().await;
    let escaped = id.replace('=', "%3D");
    for path in [
        format!("@connections/{id}"),
        format!("@connections/{escaped}"),
        format!("%40connections/{escaped}"),
    ] {
        let url = format!("{}/{path}", target.management_url);
        let post = target.management.post_to_connection().connection_id(&id);
        let post = post.data(Blob::new(path.as_str())).customize();
        // Before the SDK signs the request, as AWS demands.
        let post = post.mutate_request(move |request| request.set_uri(url.as_str()).unwrap());
        post.send().await.unwrap();
        assert_eq!(socket.receive_text().await, path);
    }
}

#[tokio::test]
async fn an_unknown_stage_or_none_is_a_403() {
    let target = Target::start().await;
    let (api, stage) = target.management_url.rsplit_once('/').unwrap();
    for endpoint in [
        api.to_owned(),
        format!("{api}/"),
        format!("{api}/nowhere"),
        format!("{api}/nowhere/"),
        format!("{api}/{stage}/more"),
    ] {
        for path in [
            format!("@connections/{UNKNOWN}"),
            format!("%40connections/{UNKNOWN}"),
        ] {
            let url = format!("{endpoint}/{path}");
            for method in ["POST", "GET", "DELETE"] {
                let request = http().request(method.parse().unwrap(), &url);
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), 403, "{method} {url}");
                let error_type = &response.headers()["x-amzn-errortype"];
                assert_eq!(error_type, "ForbiddenException", "{method} {url}");
                let body = response.text().await.unwrap();
                assert_eq!(body, r#"{"message":"Forbidden"}"#, "{method} {url}");
            }
        }
    }
    let elsewhere = target.management_at(api);
    let call = elsewhere.get_connection().connection_id(UNKNOWN).send();
    assert!(
        call.await
            .unwrap_err()
            .as_service_error()
            .unwrap()
            .is_forbidden_exception()
    );
}

#[tokio::test]
async fn an_endpoint_may_end_in_a_slash() {
    let target = Target::start().await;
    let (mut socket, id) = target.connect_with_id().await;
    let management = target.management_at(&format!("{}/", target.management_url));
    let post = management.post_to_connection().connection_id(&id);
    post.data(Blob::new("one slash")).send().await.unwrap();
    assert_eq!(socket.receive_text().await, "one slash");
    // Other SDKs send both slashes.
    for path in ["@connections", "%40connections"] {
        let url = format!("{}//{path}/{id}", target.management_url);
        let post = target.management.post_to_connection().connection_id(&id);
        let post = post.data(Blob::new(path)).customize();
        let post = post.mutate_request(move |request| request.set_uri(url.as_str()).unwrap());
        post.send().await.unwrap();
        assert_eq!(socket.receive_text().await, path);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_a_429_and_can_be_deleted() {
    let target = Target::start().await;
    let (socket, id) = target.connect_with_id().await;
    // The client reads no more, so its buffer and the network's fill up.
    let large = "x".repeat(128 * 1024);
    let refused = async {
        loop {
            if let Err(status) = target.post(&id, &large).await {
                return status;
            }
        }
    };
    assert_eq!(soon("a post is refused", refused).await, 429);
    let delete = target.management.delete_connection().connection_id(&id);
    delete.send().await.unwrap();
    assert_eq!(target.post(&id, "late").await, Err(410));
    drop(socket);
}
