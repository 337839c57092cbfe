//! `$default`: answers a client's frame.

use std::time::Duration;

use belfry_aws::apigateway::{self, Event, ManagementOutbox, Response};
use belfry_aws::cognito::{CognitoVerifier, HttpJwks};
use belfry_aws::{DynamoDb, SystemClock};
use belfry_core::frames::{Dispatcher, FrameOutcome};
use belfry_protocol::{ErrorCode, MAX_FRAME_BYTES};
use lambda_runtime::LambdaEvent;

use crate::common::{ApiEndpoint, Common, Metrics};
use crate::environment::{Environment, SettingError};
use crate::error::FunctionError;
use crate::tokens::Tokens;

#[derive(Debug)]
pub struct Settings {
    common: Common,
    api_endpoint: ApiEndpoint,
    tokens: Tokens,
    max_message_bytes: usize,
    messages_per_minute: u32,
    connection_lifetime: Duration,
}

impl Settings {
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let common = Common::read(environment)?;
        let max_message_bytes =
            environment.number("MAX_MESSAGE_BYTES", 16_384, 256..=MAX_FRAME_BYTES as u64)?;
        let messages_per_minute = environment.number("MESSAGES_PER_MINUTE", 600, 1..=60_000)?;
        Ok(Self {
            tokens: Tokens::read(environment)?,
            common,
            api_endpoint: ApiEndpoint::read(environment)?,
            max_message_bytes: usize::try_from(max_message_bytes).unwrap_or(MAX_FRAME_BYTES),
            messages_per_minute: u32::try_from(messages_per_minute).unwrap_or(1),
            connection_lifetime: environment.connection_lifetime()?,
        })
    }
}

pub type UseCase =
    Dispatcher<CognitoVerifier<HttpJwks>, DynamoDb, ManagementOutbox, SystemClock, Metrics>;

pub async fn build(settings: Settings) -> UseCase {
    let adapters = settings.common.open().await;
    Dispatcher {
        verifier: settings.tokens.verifier(adapters.clients.http()),
        outbox: settings.api_endpoint.outbox(&adapters.clients),
        store: adapters.store,
        clock: SystemClock,
        metrics: adapters.metrics,
        max_message_bytes: settings.max_message_bytes,
        messages_per_minute: settings.messages_per_minute,
        connection_lifetime: settings.connection_lifetime,
    }
}

/// Handles one frame.
///
/// # Errors
/// [`FunctionError`] for an event of another kind.
pub async fn handle(
    dispatcher: &UseCase,
    event: LambdaEvent<Event>,
) -> Result<Response, FunctionError> {
    let id = apigateway::connection_id(&event.payload)?;
    let request = &event.context.request_id;
    let answer = dispatcher
        .handle(&id, apigateway::message_body(&event.payload))
        .await;
    match &answer.outcome {
        // A line for each valid frame would cost more than the frame.
        FrameOutcome::Served(frame) => {
            tracing::debug!(event = "frame.served", connectionId = %id, requestId = %request, r#type = frame, "answered")
        }
        // A line for each frame of a flood would be a flood of lines.
        FrameOutcome::Refused(code @ ErrorCode::RateLimited) => {
            tracing::debug!(event = "frame.refused", connectionId = %id, requestId = %request, code = %code, "frame refused")
        }
        FrameOutcome::Refused(code) => {
            tracing::info!(event = "frame.refused", connectionId = %id, requestId = %request, code = %code, "frame refused")
        }
        FrameOutcome::Closed(code) => {
            tracing::warn!(event = "connection.closed", connectionId = %id, requestId = %request, code = %code, "connection closed")
        }
        FrameOutcome::ClientLeft => {
            tracing::debug!(event = "frame.client-left", connectionId = %id, requestId = %request, "the client has left");
        }
        FrameOutcome::Failed(reason) => {
            tracing::error!(event = "frame.failed", connectionId = %id, requestId = %request, reason, "could not serve a frame");
        }
    }
    Ok(apigateway::answered(answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::tests::refuses;

    #[test]
    fn an_invalid_setting_is_named() {
        refuses(
            Settings::read,
            &[
                ("STACK_NAME", ""),
                ("WEBSOCKET_API_ENDPOINT", ""),
                ("COGNITO_CLIENT_IDS", ""),
                ("MAX_MESSAGE_BYTES", "1000000"),
                ("MESSAGES_PER_MINUTE", "0"),
                ("CONNECTION_LIFETIME_SECONDS", "forever"),
            ],
        );
    }
}
