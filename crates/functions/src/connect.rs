//! `$connect`: admits or refuses a client.

use std::time::Duration;

use belfry_aws::apigateway::{self, Event, Response};
use belfry_aws::cognito::{CognitoVerifier, HttpJwks};
use belfry_aws::{DynamoDb, SystemClock};
use belfry_core::connections::{Connect, ConnectionLimits, OriginPolicy};
use belfry_core::liveness::LivenessSettings;
use lambda_runtime::LambdaEvent;

use crate::common::{Common, Metrics};
use crate::environment::{Environment, SettingError};
use crate::error::FunctionError;
use crate::tokens::Tokens;

#[derive(Debug)]
pub struct Settings {
    common: Common,
    tokens: Tokens,
    origins: OriginPolicy,
    row_lifetime: Duration,
    liveness: LivenessSettings,
    limits: ConnectionLimits,
}

impl Settings {
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let common = Common::read(environment)?;
        let liveness = environment.liveness()?;
        // No less than the longest lifetime of a connection: otherwise open
        // connections would be closed without a reason.
        let ttl = environment.number("CONNECTION_TTL_SECONDS", 7_500, 7_200..=86_400)?;
        Ok(Self {
            tokens: Tokens::read(environment)?,
            common,
            origins: environment.origins()?,
            row_lifetime: Duration::from_secs(ttl),
            liveness,
            limits: ConnectionLimits {
                total: environment.max_connections()?,
                per_user: environment.connections_per_user()?.into(),
            },
        })
    }
}

pub type UseCase = Connect<CognitoVerifier<HttpJwks>, DynamoDb, SystemClock, Metrics>;

pub async fn build(settings: Settings) -> UseCase {
    let adapters = settings.common.open().await;
    Connect {
        rules: settings.tokens.rules.clone(),
        verifier: settings.tokens.verifier(adapters.clients.http()),
        store: adapters.store,
        clock: SystemClock,
        metrics: adapters.metrics,
        origins: settings.origins,
        row_lifetime: settings.row_lifetime,
        liveness: settings.liveness,
        limits: settings.limits,
    }
}

/// Handles one `$connect`.
///
/// # Errors
/// [`FunctionError`] for an event of another kind.
pub async fn handle(
    connect: &UseCase,
    event: LambdaEvent<Event>,
) -> Result<Response, FunctionError> {
    let handshake = apigateway::handshake(&event.payload)?;
    let (id, request) = (handshake.connection_id.clone(), &event.context.request_id);
    let origin = handshake.origin.clone().unwrap_or_default();
    let source_ip = handshake.source_ip.clone();
    match connect.handle(handshake).await {
        Ok(user) => {
            tracing::info!(event = "connection.accepted", connectionId = %id, userId = %user, requestId = %request, "connected");
            Ok(apigateway::accepted(&event.payload))
        }
        Err(refusal) => {
            let response = apigateway::refused(&refusal);
            let status = response.status_code;
            if status >= 500 {
                tracing::error!(event = "connection.refused", connectionId = %id, requestId = %request, reason = %refusal, statusCode = status, origin, sourceIp = source_ip, "refused");
            } else {
                tracing::warn!(event = "connection.refused", connectionId = %id, requestId = %request, reason = %refusal, statusCode = status, origin, sourceIp = source_ip, "refused");
            }
            Ok(response)
        }
    }
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
                ("COGNITO_CLIENT_IDS", ""),
                ("CHANNEL_RULES", r#"{"version":"2.0"}"#),
                ("ALLOWED_ORIGINS", "*"),
                ("ALLOW_MISSING_ORIGIN", "maybe"),
                ("CONNECTION_TTL_SECONDS", "0"),
                ("CONNECTION_TTL_SECONDS", "7199"),
                ("MAX_CONNECTIONS", "0"),
                ("MAX_CONNECTIONS_PER_USER", "many"),
                ("HEARTBEAT_INTERVAL_SECONDS", "600"),
                ("HEARTBEAT_GRACE_SECONDS", "0"),
                ("CONNECTION_LIFETIME_SECONDS", "7201"),
            ],
        );
    }
}
