//! `$connect`: lets a client in or says why not.

use std::time::Duration;

use belfry_aws::apigateway::{self, Event, Response};
use belfry_aws::cognito::{CognitoVerifier, HttpJwks};
use belfry_aws::{Clients, DynamoConnections, SystemClock, Tables};
use belfry_core::ports::Places;
use belfry_core::{AllowedOrigins, Connect, Lifetime, OriginPolicy, Schedule};
use lambda_runtime::LambdaEvent;

use crate::environment::{Environment, Metrics, SettingError};
use crate::error::FunctionError;
use crate::tokens::Tokens;

/// What `$connect` needs to know.
#[derive(Debug)]
pub struct Settings {
    region: String,
    tables: Tables,
    tokens: Tokens,
    origins: OriginPolicy,
    lifetime: Lifetime,
    schedule: Schedule,
    places: Places,
    metrics: Metrics,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let region = environment.region()?;
        let schedule = environment.schedule()?;
        let ttl = environment.number("CONNECTION_TTL_SECONDS", 7_500, 60..=86_400)?;
        let row = Duration::from_secs(ttl);
        // Otherwise live connections would be closed, and nobody told why.
        if row < schedule.connection_lifetime {
            let problem = "must not be less than CONNECTION_LIFETIME_SECONDS";
            return Err(SettingError::new("CONNECTION_TTL_SECONDS", problem));
        }
        Ok(Self {
            tables: environment.tables()?,
            metrics: environment.metrics()?,
            tokens: Tokens::read(environment, &region)?,
            origins: OriginPolicy {
                allowed: environment.parsed("ALLOWED_ORIGINS", AllowedOrigins::default())?,
                allow_missing: environment.flag("ALLOW_MISSING_ORIGIN", true)?,
            },
            lifetime: Lifetime { row },
            schedule,
            places: Places {
                total: environment.number("MAX_CONNECTIONS", 10_000, 1..=10_000_000)?,
                per_user: environment.number("MAX_CONNECTIONS_PER_USER", 20, 1..=1_000)?,
            },
            region,
        })
    }
}

/// The use case with its adapters.
pub type UseCase = Connect<CognitoVerifier<HttpJwks>, DynamoConnections, SystemClock, Metrics>;

/// Puts the parts together, once for an environment.
///
/// # Errors
/// If the system offers no TLS.
pub async fn build(settings: Settings) -> Result<UseCase, lambda_runtime::Error> {
    let clients = Clients::load(settings.region).await;
    // Before the first event: a starting function has a whole processor.
    let keys = settings.tokens.keys();
    keys.prepare()?;
    Ok(Connect {
        verifier: settings.tokens.verifier(keys),
        store: DynamoConnections::new(clients.dynamodb(), settings.tables),
        clock: SystemClock,
        metrics: settings.metrics,
        origins: settings.origins,
        lifetime: settings.lifetime,
        schedule: settings.schedule,
        places: settings.places,
    })
}

/// Handles one `$connect`.
///
/// # Errors
/// [`FunctionError`] for an event that is none.
pub async fn handle(
    connect: &UseCase,
    event: LambdaEvent<Event>,
) -> Result<Response, FunctionError> {
    let handshake = apigateway::handshake(&event.payload)?;
    let (id, request) = (handshake.connection_id.clone(), &event.context.request_id);
    let (origin, source_ip) = (handshake.origin.clone(), handshake.source_ip.clone());
    match connect.handle(handshake).await {
        Ok(user) => {
            tracing::info!(connectionId = %id, userId = %user, requestId = %request, "connected");
            Ok(apigateway::accepted(&event.payload))
        }
        Err(refusal) => {
            let response = apigateway::refused(&refusal);
            let (origin, code) = (origin.unwrap_or_default(), response.status_code);
            if code >= 500 {
                tracing::error!(connectionId = %id, requestId = %request, reason = %refusal, statusCode = code, origin, sourceIp = source_ip, "refused");
            } else {
                tracing::warn!(connectionId = %id, requestId = %request, reason = %refusal, statusCode = code, origin, sourceIp = source_ip, "refused");
            }
            Ok(response)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changes: &[(&str, &str)]) -> Result<Settings, SettingError> {
        let mut variables = vec![
            ("AWS_REGION", "eu-west-1"),
            ("WEBSOCKET_CONNECTION_TABLE", "Connections"),
            ("WEBSOCKET_STATE_TABLE", "State"),
            ("COGNITO_USER_POOL_ID", "eu-west-1_abc"),
            ("COGNITO_CLIENT_IDS", "web, app,"),
            ("STACK_NAME", "belfry-dev"),
        ];
        variables.extend(changes);
        Settings::read(&variables.into_iter().collect())
    }

    #[test]
    fn a_wrong_setting_is_named() {
        for (name, value) in [
            ("AWS_REGION", ""),
            ("WEBSOCKET_CONNECTION_TABLE", ""),
            ("COGNITO_CLIENT_IDS", ""),
            ("ALLOWED_ORIGINS", "*"),
            ("ALLOW_MISSING_ORIGIN", "maybe"),
            ("CONNECTION_TTL_SECONDS", "0"),
            ("CONNECTION_TTL_SECONDS", "7199"),
            ("WEBSOCKET_STATE_TABLE", ""),
            ("STACK_NAME", ""),
            ("MAX_CONNECTIONS", "0"),
            ("MAX_CONNECTIONS_PER_USER", "many"),
            ("HEARTBEAT_INTERVAL_SECONDS", "600"),
            ("HEARTBEAT_GRACE_SECONDS", "0"),
            ("CONNECTION_LIFETIME_SECONDS", "7201"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
