use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use belfry_aws::cognito::{FetchJwks, HttpJwks};

async fn fetcher(path: &str) -> HttpJwks {
    let router = Router::new()
        .route("/keys", get(|| async { "{\"keys\":[]}" }))
        .route("/huge", get(|| async { "x".repeat(1024 * 1024) }))
        .route(
            "/broken",
            get(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
        )
        .route("/hang", get(std::future::pending::<StatusCode>))
        .route(
            "/moved",
            get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/keys")]) }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    HttpJwks::new(url.parse().unwrap())
}

#[tokio::test]
async fn a_key_set_is_fetched() {
    assert_eq!(
        fetcher("/keys").await.fetch().await,
        Ok(b"{\"keys\":[]}".to_vec())
    );
}

#[tokio::test]
async fn what_is_no_key_set_in_time_and_size_is_an_error() {
    for path in ["/huge", "/broken", "/hang", "/nowhere"] {
        assert!(fetcher(path).await.fetch().await.is_err(), "{path}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let body = fetcher("/moved").await.fetch().await;
    assert_ne!(body, Ok(b"{\"keys\":[]}".to_vec()));
}
