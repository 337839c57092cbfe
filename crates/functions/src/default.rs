//! `$default`: answers a client's frame.

use std::time::Duration;

use belfry_aws::apigateway::{self, Event, ManagementOutbox, Response};
use belfry_aws::cognito::{CognitoVerifier, HttpJwks};
use belfry_aws::{
    CALL_TIME, DynamoDb, LambdaAuthorizer, LambdaCallee, LambdaWorkers, SystemClock,
    SystemRandomness,
};
use belfry_core::frames::{Dispatcher, FrameOutcome};
use belfry_core::presence::PresenceSettings;
use belfry_protocol::{ErrorCode, MessageId};
use lambda_runtime::LambdaEvent;

use crate::common::Metrics;
use crate::environment::{Environment, SettingError};
use crate::error::FunctionError;
use crate::fanout;
use crate::tokens::Tokens;

#[derive(Debug)]
pub struct Settings {
    fanout: fanout::Settings,
    connections_per_worker: u32,
    presence: PresenceSettings,
    authorize_function: Option<String>,
    call_function: Option<String>,
    tokens: Tokens,
    max_message_bytes: usize,
    messages_per_minute: u32,
    connection_lifetime: Duration,
}

impl Settings {
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let worker_function = environment.required("WORKER_FUNCTION")?;
        Ok(Self {
            tokens: Tokens::read(environment)?,
            fanout: fanout::Settings::read(environment, worker_function)?,
            connections_per_worker: environment.connections_per_worker()?,
            presence: environment.presence()?,
            authorize_function: environment.optional("AUTHORIZE_FUNCTION"),
            call_function: environment.optional("CALL_FUNCTION"),
            max_message_bytes: environment.max_message_bytes()?,
            messages_per_minute: environment.messages_per_minute()?,
            connection_lifetime: environment.connection_lifetime()?,
        })
    }
}

pub type UseCase = Dispatcher<
    CognitoVerifier<HttpJwks>,
    LambdaAuthorizer,
    DynamoDb,
    ManagementOutbox,
    SystemClock,
    Metrics,
    LambdaWorkers,
    SystemRandomness,
    LambdaCallee,
>;

pub async fn build(settings: Settings) -> UseCase {
    let fanout = settings
        .fanout
        .of_publishers(settings.connections_per_worker);
    let fanout::Opened { worker, clients } = fanout::open(settings.fanout).await;
    Dispatcher {
        rules: worker.rules,
        verifier: settings.tokens.verifier(clients.http()),
        authorizer: LambdaAuthorizer::new(clients.lambda(), settings.authorize_function),
        callee: LambdaCallee::new(clients.lambda_once(), settings.call_function, CALL_TIME),
        outbox: worker.outbox,
        store: worker.store,
        clock: worker.clock,
        metrics: worker.metrics,
        workers: worker.workers,
        random: worker.random,
        delivery: worker.delivery,
        fanout,
        presence: settings.presence,
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
    let request_id = MessageId::parse(request.as_str()).map_err(|_| FunctionError {
        error_type: "InvalidRequest",
        message: "the invocation's request id cannot serve as a message id".into(),
    })?;
    let body = apigateway::message_body(&event.payload);
    let answer = dispatcher.handle(&id, body, &request_id).await;
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
                ("WORKER_FUNCTION", ""),
                ("CHANNEL_RULES", "{}"),
                ("CONNECTIONS_PER_WORKER", "0"),
                ("MAX_MESSAGE_BYTES", "1000000"),
                ("MESSAGES_PER_MINUTE", "0"),
                ("CONNECTION_LIFETIME_SECONDS", "forever"),
            ],
        );
    }
}
