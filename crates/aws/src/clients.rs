//! The SDK clients, built once for an execution environment.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};

/// How long a connection to an AWS endpoint may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one try of a DynamoDB call may take. The slowest that answers at
/// all answer within tens of milliseconds; what takes longer is better asked again.
const DYNAMODB_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a DynamoDB call may take with its retries. With what else a frame
/// may need it stays below the function's timeout (template.yaml), so that a
/// failing table becomes an answer.
const DYNAMODB_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one try of an asynchronous invocation may take, and all tries:
/// Lambda answers when it has queued the event.
const LAMBDA_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
const LAMBDA_TIMEOUT: Duration = Duration::from_secs(8);

/// Makes the clients that a function needs, all from one configuration.
#[derive(Debug, Clone)]
pub struct Clients {
    config: SdkConfig,
}

impl Clients {
    /// Reads the configuration from the environment, where Lambda puts the
    /// role's credentials. Nothing else is asked for credentials: a function
    /// that has none should say so at once.
    pub async fn load(region: String) -> Self {
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(EnvironmentVariableCredentialsProvider::new())
            // Every answer is small and has a timeout of its own.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .load()
            .await;
        Self { config }
    }

    /// A client for DynamoDB.
    #[must_use]
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(DYNAMODB_ATTEMPT_TIMEOUT)
            .operation_timeout(DYNAMODB_TIMEOUT)
            .build();
        let config = aws_sdk_dynamodb::config::Builder::from(&self.config)
            .timeout_config(timeouts)
            .build();
        aws_sdk_dynamodb::Client::from_conf(config)
    }

    /// A client for Lambda, to invoke other functions.
    #[must_use]
    pub fn lambda(&self) -> aws_sdk_lambda::Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(LAMBDA_ATTEMPT_TIMEOUT)
            .operation_timeout(LAMBDA_TIMEOUT)
            .build();
        let config = aws_sdk_lambda::config::Builder::from(&self.config)
            .timeout_config(timeouts)
            .build();
        aws_sdk_lambda::Client::from_conf(config)
    }

    /// A client for the management API of one stage. It never retries: only
    /// the caller knows whether a second post would be a duplicate.
    #[must_use]
    pub fn management(&self, endpoint: &str) -> aws_sdk_apigatewaymanagement::Client {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .build();
        let config = aws_sdk_apigatewaymanagement::config::Builder::from(&self.config)
            .endpoint_url(endpoint)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        aws_sdk_apigatewaymanagement::Client::from_conf(config)
    }
}

impl From<SdkConfig> for Clients {
    /// Clients with a configuration made by hand.
    fn from(config: SdkConfig) -> Self {
        Self { config }
    }
}
