//! `$connect`: lets a client in or says why not.

use std::time::Duration;

use belfry_aws::apigateway::{self, Event, Response};
use belfry_aws::cognito::{
    CognitoVerifier, HttpJwks, InvalidJwksUrl, JwksCache, JwksUrl, TokenPolicy, TokenUse,
    pool_issuer,
};
use belfry_aws::{Clients, DynamoConnections, SystemClock};
use belfry_core::{AllowedOrigins, Connect, Lifetime, OriginPolicy};
use lambda_runtime::LambdaEvent;

use crate::environment::{Environment, SettingError};
use crate::error::FunctionError;

const CLIENT_IDS: &str = "COGNITO_CLIENT_IDS";

/// What `$connect` needs to know.
#[derive(Debug)]
pub struct Settings {
    region: String,
    connection_table: String,
    tokens: TokenPolicy,
    jwks: JwksUrl,
    origins: OriginPolicy,
    lifetime: Lifetime,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let region = environment.region()?;
        let issuer = match environment.optional("TOKEN_ISSUER") {
            Some(issuer) => issuer,
            None => pool_issuer(&region, &environment.required("COGNITO_USER_POOL_ID")?),
        };
        let well_known: Result<JwksUrl, InvalidJwksUrl> =
            format!("{}/.well-known/jwks.json", issuer.trim_end_matches('/')).parse();
        let jwks = match well_known {
            Ok(default) => environment.parsed("TOKEN_JWKS_URL", default)?,
            // An issuer need not be an address, as long as the keys have one.
            Err(_) => environment
                .required("TOKEN_JWKS_URL")?
                .parse()
                .map_err(|error: InvalidJwksUrl| SettingError::new("TOKEN_JWKS_URL", error))?,
        };
        let listed = environment.required(CLIENT_IDS)?;
        let client_ids: Vec<String> = listed
            .split(',')
            .map(|id| id.trim().to_owned())
            .filter(|id| !id.is_empty())
            .collect();
        if client_ids.is_empty() {
            return Err(SettingError::new(CLIENT_IDS, "names no client"));
        }
        Ok(Self {
            connection_table: environment.required("WEBSOCKET_CONNECTION_TABLE")?,
            tokens: TokenPolicy {
                issuer,
                client_ids,
                token_use: environment.parsed("TOKEN_USE", TokenUse::Access)?,
                user_id_claim: environment
                    .optional("USER_ID_CLAIM")
                    .unwrap_or_else(|| "sub".into()),
            },
            jwks,
            origins: OriginPolicy {
                allowed: environment.parsed("ALLOWED_ORIGINS", AllowedOrigins::default())?,
                allow_missing: environment.flag("ALLOW_MISSING_ORIGIN", true)?,
            },
            lifetime: Lifetime {
                row: Duration::from_secs(environment.number(
                    "CONNECTION_TTL_SECONDS",
                    7_500,
                    60..=86_400,
                )?),
            },
            region,
        })
    }
}

/// The use case with its adapters.
pub type UseCase = Connect<CognitoVerifier<HttpJwks>, DynamoConnections, SystemClock>;

/// Puts the parts together, once for an environment.
///
/// # Errors
/// If the system offers no TLS.
pub async fn build(settings: Settings) -> Result<UseCase, lambda_runtime::Error> {
    let clients = Clients::load(settings.region).await;
    let keys = JwksCache::new(HttpJwks::new(settings.jwks)?);
    Ok(Connect {
        verifier: CognitoVerifier::new(settings.tokens, keys),
        store: DynamoConnections::new(clients.dynamodb(), settings.connection_table),
        clock: SystemClock,
        origins: settings.origins,
        lifetime: settings.lifetime,
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
            ("COGNITO_USER_POOL_ID", "eu-west-1_abc"),
            ("COGNITO_CLIENT_IDS", "web, app,"),
        ];
        variables.extend(changes);
        Settings::read(
            &variables
                .into_iter()
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect(),
        )
    }

    #[test]
    fn the_pool_gives_issuer_and_keys() {
        let settings = read(&[]).unwrap();
        assert_eq!(
            settings.tokens.issuer,
            "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_abc"
        );
        let expected =
            "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_abc/.well-known/jwks.json";
        assert_eq!(settings.jwks, expected.parse().unwrap());
        assert_eq!(settings.tokens.client_ids, ["web", "app"]);
        assert_eq!(settings.tokens.token_use, TokenUse::Access);
        assert_eq!(settings.tokens.user_id_claim, "sub");
        assert!(settings.origins.allow_missing);
    }

    #[test]
    fn another_issuer_needs_no_pool() {
        let issuer = ("TOKEN_ISSUER", "http://127.0.0.1:9/p");
        let settings = read(&[("COGNITO_USER_POOL_ID", ""), issuer]).unwrap();
        assert_eq!(
            settings.jwks,
            "http://127.0.0.1:9/p/.well-known/jwks.json"
                .parse()
                .unwrap()
        );
        let settings = read(&[
            ("TOKEN_ISSUER", "urn:issuer"),
            ("TOKEN_JWKS_URL", "https://a.test/k"),
        ])
        .unwrap();
        assert_eq!(settings.tokens.issuer, "urn:issuer");
    }

    #[test]
    fn a_wrong_setting_is_named() {
        for (name, value) in [
            ("AWS_REGION", ""),
            ("WEBSOCKET_CONNECTION_TABLE", ""),
            ("COGNITO_USER_POOL_ID", ""),
            ("COGNITO_CLIENT_IDS", " "),
            ("COGNITO_CLIENT_IDS", ", ,"),
            ("TOKEN_JWKS_URL", "http://a.test/keys"),
            ("TOKEN_USE", "refresh"),
            ("ALLOWED_ORIGINS", "*"),
            ("ALLOW_MISSING_ORIGIN", "maybe"),
            ("CONNECTION_TTL_SECONDS", "0"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
