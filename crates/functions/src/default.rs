//! `$default`: answers a client's frame.

use std::time::Duration;

use belfry_aws::apigateway::{self, Event, Response};
use belfry_aws::cognito::{CognitoVerifier, HttpJwks};
use belfry_aws::{Clients, DynamoConnections, ManagementOutbox, SystemClock, Tables};
use belfry_core::{Outcome, Receive};
use belfry_protocol::{ErrorCode, MAX_FRAME_BYTES};
use lambda_runtime::LambdaEvent;

use crate::environment::{Environment, Metrics, SettingError};
use crate::error::FunctionError;
use crate::tokens::Tokens;

/// What `$default` needs to know.
#[derive(Debug)]
pub struct Settings {
    region: String,
    tables: Tables,
    api_endpoint: String,
    tokens: Tokens,
    max_message_bytes: usize,
    messages_per_minute: u32,
    connection_lifetime: Duration,
    metrics: Metrics,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let max_message_bytes =
            environment.number("MAX_MESSAGE_BYTES", 16_384, 256..=MAX_FRAME_BYTES as u64)?;
        let messages_per_minute = environment.number("MESSAGES_PER_MINUTE", 600, 1..=60_000)?;
        let region = environment.region()?;
        Ok(Self {
            tokens: Tokens::read(environment, &region)?,
            region,
            tables: environment.tables()?,
            metrics: environment.metrics()?,
            api_endpoint: environment.api_endpoint()?,
            max_message_bytes: usize::try_from(max_message_bytes).unwrap_or(MAX_FRAME_BYTES),
            messages_per_minute: u32::try_from(messages_per_minute).unwrap_or(1),
            connection_lifetime: environment.connection_lifetime()?,
        })
    }
}

/// The use case with its adapters.
pub type UseCase =
    Receive<CognitoVerifier<HttpJwks>, DynamoConnections, ManagementOutbox, SystemClock, Metrics>;

/// Puts the parts together, once for an environment.
pub async fn build(settings: Settings) -> UseCase {
    let clients = Clients::load(settings.region).await;
    // The keys are fetched when the first client refreshes its token: most
    // environments never see one.
    let keys = settings.tokens.keys();
    Receive {
        verifier: settings.tokens.verifier(keys),
        store: DynamoConnections::new(clients.dynamodb(), settings.tables),
        outbox: ManagementOutbox::new(clients.management(&settings.api_endpoint)),
        clock: SystemClock,
        metrics: settings.metrics,
        max_message_bytes: settings.max_message_bytes,
        messages_per_minute: settings.messages_per_minute,
        connection_lifetime: settings.connection_lifetime,
    }
}

/// Handles one frame.
///
/// # Errors
/// [`FunctionError`] for an event that is none.
pub async fn handle(
    receive: &UseCase,
    event: LambdaEvent<Event>,
) -> Result<Response, FunctionError> {
    let id = apigateway::connection_id(&event.payload)?;
    let request = &event.context.request_id;
    let answer = receive
        .handle(&id, apigateway::message_body(&event.payload))
        .await;
    match &answer.outcome {
        // A line for each good frame would cost more than the frame.
        Outcome::Served(frame) => {
            tracing::debug!(connectionId = %id, requestId = %request, r#type = frame, "answered")
        }
        // A line for each frame of a flood would be a flood of lines.
        Outcome::Refused(code @ ErrorCode::RateLimited) => {
            tracing::debug!(connectionId = %id, requestId = %request, code = %code, "frame refused")
        }
        Outcome::Refused(code) => {
            tracing::info!(connectionId = %id, requestId = %request, code = %code, "frame refused")
        }
        Outcome::Closed(code) => {
            tracing::warn!(connectionId = %id, requestId = %request, code = %code, "connection closed")
        }
        Outcome::Gone => {
            tracing::debug!(connectionId = %id, requestId = %request, "the client has left");
        }
        Outcome::Failed(reason) => {
            tracing::error!(connectionId = %id, requestId = %request, reason, "a frame could not be served");
        }
    }
    Ok(apigateway::answered(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_is_named() {
        for (name, value) in [
            ("WEBSOCKET_CONNECTION_TABLE", ""),
            ("WEBSOCKET_API_ENDPOINT", ""),
            ("COGNITO_CLIENT_IDS", ""),
            ("WEBSOCKET_API_ENDPOINT", "wss://api.example.com/dev"),
            ("MAX_MESSAGE_BYTES", "1000000"),
            ("MESSAGES_PER_MINUTE", "0"),
            ("WEBSOCKET_STATE_TABLE", ""),
            ("CONNECTION_LIFETIME_SECONDS", "forever"),
            ("STACK_NAME", ""),
        ] {
            let variables = [
                ("AWS_REGION", "eu-west-1"),
                ("WEBSOCKET_CONNECTION_TABLE", "Connections"),
                ("WEBSOCKET_STATE_TABLE", "State"),
                ("WEBSOCKET_API_ENDPOINT", "https://api.example.com/dev"),
                ("COGNITO_USER_POOL_ID", "eu-west-1_abc"),
                ("COGNITO_CLIENT_IDS", "web"),
                ("STACK_NAME", "belfry-dev"),
                (name, value),
            ];
            let settings = Settings::read(&variables.into_iter().collect());
            let error = settings.unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
