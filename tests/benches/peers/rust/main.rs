//! A minimal broadcaster in Rust: it reads the table and posts to everyone, on
//! the same runtime and with the same SDK and SDK settings as Belfry's. It only
//! counts, so the difference is the cost of everything else that Belfry does.

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use futures_util::StreamExt;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

/// Belfry's default.
const CONCURRENCY: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .load()
        .await;
    let management = aws_sdk_apigatewaymanagement::config::Builder::from(&config)
        .retry_config(RetryConfig::disabled())
        .endpoint_url(std::env::var("WEBSOCKET_API_ENDPOINT")?)
        .build();
    let management = &aws_sdk_apigatewaymanagement::Client::from_conf(management);
    let dynamodb = &aws_sdk_dynamodb::Client::new(&config);
    run(service_fn(async |event: LambdaEvent<Value>| {
        let frame = event.payload["message"].to_string();
        Ok::<_, Error>(json!({"success": broadcast(dynamodb, management, &frame).await?}))
    }))
    .await
}

async fn broadcast(
    dynamodb: &aws_sdk_dynamodb::Client,
    management: &aws_sdk_apigatewaymanagement::Client,
    frame: &str,
) -> Result<usize, Error> {
    let mut pages = dynamodb
        .scan()
        .table_name(std::env::var("WEBSOCKET_CONNECTION_TABLE")?)
        .projection_expression("connectionId")
        .into_paginator()
        .send();
    let mut success = 0;
    while let Some(page) = pages.next().await {
        let page = page?;
        let ids = page
            .items()
            .iter()
            .filter_map(|row| row["connectionId"].as_s().ok());
        let posts = ids.map(|id| {
            let post = management.post_to_connection().connection_id(id);
            post.data(frame.as_bytes().into()).send()
        });
        let mut posts = futures_util::stream::iter(posts).buffer_unordered(CONCURRENCY);
        while let Some(posted) = posts.next().await {
            success += usize::from(posted.is_ok());
        }
    }
    Ok(success)
}
