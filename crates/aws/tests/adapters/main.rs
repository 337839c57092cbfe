//! The adapters against servers: the contract suites of the ports, and what
//! only the real thing can do wrong.

mod connections;
mod cost;
mod database;
mod events;
mod jwks;
mod lifecycle;
mod outbox;
mod proxy;

use std::time::Duration;

use aws_config::retry::RetryConfig;

/// Gives the SDK what Lambda would put into the environment. Tests share one
/// process, and set nothing: clients are configured by hand.
fn sdk_config(endpoint: &str) -> aws_config::SdkConfig {
    aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-1"))
        .credentials_provider(aws_sdk_dynamodb::config::SharedCredentialsProvider::new(
            aws_sdk_dynamodb::config::Credentials::new("test", "test", None, None, "test"),
        ))
        .endpoint_url(endpoint)
        // As often as in earnest, and sooner.
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(5)))
        .build()
}
