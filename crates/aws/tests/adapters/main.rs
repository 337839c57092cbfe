//! Tests the adapters against servers: the contract suites of the ports, and
//! faults that only a real server has.

mod cost;
mod counter_audit;
mod database;
mod dynamodb;
mod events;
mod hooks;
mod jwks;
mod lambda;
mod lifecycle;
mod locks;
mod log;
mod management;
mod others;
mod proxy;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use belfry_aws::{Clients, Http};

thread_local! {
    /// Reading the root certificates takes longer than most tests.
    static HTTP: Http = Http::open();
}

fn clients(endpoint: &str) -> Clients {
    Clients::new(&sdk_config(endpoint), HTTP.with(Http::clone))
}

/// Configures the SDK by hand as Lambda's environment would: tests share one
/// process and must not set variables.
fn sdk_config(endpoint: &str) -> aws_config::SdkConfig {
    aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-1"))
        .credentials_provider(aws_sdk_dynamodb::config::SharedCredentialsProvider::new(
            aws_sdk_dynamodb::config::Credentials::new("test", "test", None, None, "test"),
        ))
        .http_client(HTTP.with(Http::sdk_client))
        .endpoint_url(endpoint)
        // As many retries as in production, but sooner.
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(5)))
        .build()
}

/// A client for loopback, without the root certificates.
fn plain_http() -> reqwest::Client {
    let client = reqwest::Client::builder().tls_certs_only([]);
    client.build().expect("a client")
}
