//! The SDK clients, built once for an execution environment.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};

use crate::http::Http;

/// Time limit for one attempt of a DynamoDB call. Even slow calls are answered
/// within tens of milliseconds; anything slower is better retried.
const DYNAMODB_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// Time limit for a DynamoDB call with its retries. Together with everything
/// else that a frame may need it is below the function's timeout
/// (template.yaml), so that a failing table becomes an answer.
const DYNAMODB_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limits for one attempt of an asynchronous invocation and for all
/// attempts. Lambda answers when it has queued the event.
const LAMBDA_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
const LAMBDA_TIMEOUT: Duration = Duration::from_secs(8);

/// Makes the clients that a function needs, all from one configuration.
#[derive(Debug, Clone)]
pub struct Clients {
    config: SdkConfig,
    http: Http,
}

impl Clients {
    /// Reads the configuration from the environment, where Lambda puts the
    /// role's credentials. There is no other source of credentials: a function
    /// without them should fail at once.
    pub async fn load(region: String) -> Self {
        let http = Http::open();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http.sdk_client())
            .region(Region::new(region))
            .credentials_provider(EnvironmentVariableCredentialsProvider::new())
            // Every answer is small and has a timeout of its own.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .load()
            .await;
        Self { config, http }
    }

    /// Clients from a configuration made by hand. They all use `http`.
    #[must_use]
    pub fn new(config: &SdkConfig, http: Http) -> Self {
        let config = config.to_builder().http_client(http.sdk_client()).build();
        Self { config, http }
    }

    /// The HTTP client that all SDK clients share.
    #[must_use]
    pub fn http(&self) -> Http {
        self.http.clone()
    }

    #[must_use]
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::config::Builder::from(&self.config)
            .timeout_config(timeouts(DYNAMODB_ATTEMPT_TIMEOUT, DYNAMODB_TIMEOUT))
            .build();
        aws_sdk_dynamodb::Client::from_conf(config)
    }

    #[must_use]
    pub fn lambda(&self) -> aws_sdk_lambda::Client {
        let config = aws_sdk_lambda::config::Builder::from(&self.config)
            .timeout_config(timeouts(LAMBDA_ATTEMPT_TIMEOUT, LAMBDA_TIMEOUT))
            .build();
        aws_sdk_lambda::Client::from_conf(config)
    }

    /// A client that calls functions and waits for their answers. It never
    /// retries, and the caller sets the time limit: only a client knows whether
    /// to repeat a call.
    #[must_use]
    pub fn lambda_once(&self) -> aws_sdk_lambda::Client {
        let config = aws_sdk_lambda::config::Builder::from(&self.config)
            .retry_config(RetryConfig::disabled())
            .build();
        aws_sdk_lambda::Client::from_conf(config)
    }

    /// A client for the management API of one stage. It never retries: only
    /// the caller knows whether a second post would be a duplicate.
    #[must_use]
    pub fn management(&self, endpoint: &str) -> aws_sdk_apigatewaymanagement::Client {
        let config = aws_sdk_apigatewaymanagement::config::Builder::from(&self.config)
            .endpoint_url(endpoint)
            .retry_config(RetryConfig::disabled())
            .build();
        aws_sdk_apigatewaymanagement::Client::from_conf(config)
    }
}

fn timeouts(attempt: Duration, operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}
