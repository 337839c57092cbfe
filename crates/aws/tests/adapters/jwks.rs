use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::routing::get;
use belfry_aws::Http;
use belfry_aws::cognito::{FetchJwks, HttpJwks};
use futures_util::stream::{self, StreamExt};

/// A body that begins and never ends.
async fn trickle() -> Body {
    let first = stream::iter([Ok::<_, Infallible>("{\"keys\":")]);
    Body::from_stream(first.chain(stream::pending()))
}

async fn fetcher(path: &str) -> HttpJwks {
    let router = Router::new()
        .route("/keys", get(|| async { "{\"keys\":[]}" }))
        .route("/huge", get(|| async { "x".repeat(1024 * 1024) }))
        .route(
            "/broken",
            get(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
        )
        .route("/hang", get(std::future::pending::<StatusCode>))
        .route("/trickle", get(trickle))
        .route(
            "/moved",
            get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/keys")]) }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    HttpJwks::new(Http::open(), url.parse().unwrap())
}

#[tokio::test]
async fn a_key_set_is_fetched() {
    assert_eq!(
        fetcher("/keys").await.fetch().await,
        Ok(b"{\"keys\":[]}".to_vec())
    );
}

#[tokio::test]
async fn each_failure_says_what_went_wrong() {
    for (path, problem) in [
        ("/huge", "the answer is longer than 65536 bytes"),
        ("/broken", "the server answered 500"),
        ("/nowhere", "the server answered 404"),
        ("/hang", "no complete answer within 3s"),
        ("/trickle", "no complete answer within 3s"),
        // A redirect is not followed: it could lead to another host.
        ("/moved", "the server answered 302"),
    ] {
        let fetched = fetcher(path).await.fetch().await;
        assert_eq!(fetched, Err(problem.into()), "{path}");
    }
}

#[tokio::test]
async fn a_server_out_of_reach_is_named_as_such() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", nobody.local_addr().unwrap());
    drop(nobody);
    let keys = HttpJwks::new(Http::open(), url.parse().unwrap());
    let problem = keys.fetch().await.unwrap_err();
    assert!(problem.starts_with("no answer: "), "{problem}");
    assert!(problem.contains("refused"), "{problem}");
}
