//! The settings and adapters that every function has.

use std::time::Duration;

use belfry_aws::apigateway::ManagementOutbox;
use belfry_aws::{Clients, DynamoDb, EmfMetrics, LambdaHooks, SystemClock, Tables};

use crate::environment::{Environment, SettingError};

pub(crate) type Metrics = EmfMetrics<SystemClock>;

#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) region: String,
    tables: Tables,
    presence_grace: Duration,
    hooks_function: Option<String>,
    metrics: Metrics,
}

impl Common {
    pub(crate) fn read(environment: &Environment) -> Result<Self, SettingError> {
        let stack = environment.required("STACK_NAME")?;
        let grace = environment.number("PRESENCE_GRACE_SECONDS", 60, 0..=3_600)?;
        Ok(Self {
            region: environment.region()?,
            tables: Tables {
                connections: environment.required("WEBSOCKET_CONNECTION_TABLE")?,
                messages: environment.required("WEBSOCKET_MESSAGE_TABLE")?,
                subscriptions: environment.required("WEBSOCKET_SUBSCRIPTION_TABLE")?,
                state: environment.required("WEBSOCKET_STATE_TABLE")?,
            },
            presence_grace: Duration::from_secs(grace),
            hooks_function: environment.optional("HOOKS_FUNCTION"),
            metrics: EmfMetrics::new(stack, SystemClock),
        })
    }

    /// Opens the clients, once for an execution environment and before its
    /// first event: a starting function has a whole processor.
    pub(crate) async fn open(self) -> Adapters {
        let clients = Clients::load(self.region).await;
        let store =
            DynamoDb::new(clients.dynamodb(), self.tables).with_presence_grace(self.presence_grace);
        let store = match self.hooks_function {
            None => store,
            Some(function) => {
                let function = LambdaHooks::new(clients.lambda(), function);
                store.with_hooks(function, self.metrics.clone())
            }
        };
        Adapters {
            store,
            metrics: self.metrics,
            clients,
        }
    }
}

pub(crate) struct Adapters {
    pub(crate) clients: Clients,
    pub(crate) store: DynamoDb,
    pub(crate) metrics: Metrics,
}

/// The address of the management API, with its stage and without a slash at its end.
#[derive(Debug)]
pub(crate) struct ApiEndpoint(String);

impl ApiEndpoint {
    pub(crate) fn read(environment: &Environment) -> Result<Self, SettingError> {
        const NAME: &str = "WEBSOCKET_API_ENDPOINT";
        let endpoint = environment.required(NAME)?;
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(SettingError::new(
                NAME,
                "must be an http address like https://id.execute-api.region.amazonaws.com/stage",
            ));
        }
        // The SDK appends `/@connections/…`.
        Ok(Self(endpoint.trim_end_matches('/').to_owned()))
    }

    pub(crate) fn outbox(&self, clients: &Clients) -> ManagementOutbox {
        ManagementOutbox::new(clients.management(&self.0))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Variables that are valid for every function.
    pub(crate) const VALID: [(&str, &str); 11] = [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_LAMBDA_FUNCTION_NAME", "belfry-dev-Function"),
        ("WEBSOCKET_CONNECTION_TABLE", "Connections"),
        ("WEBSOCKET_MESSAGE_TABLE", "Messages"),
        ("WEBSOCKET_SUBSCRIPTION_TABLE", "Subscriptions"),
        ("WEBSOCKET_STATE_TABLE", "State"),
        ("WEBSOCKET_API_ENDPOINT", "https://api.example.com/dev"),
        ("COGNITO_USER_POOL_ID", "eu-west-1_abc"),
        ("COGNITO_CLIENT_IDS", "web, app,"),
        ("WORKER_FUNCTION", "belfry-dev-Worker"),
        ("STACK_NAME", "belfry-dev"),
    ];

    /// Asserts that `read` refuses each of these values and names the variable,
    /// among [`VALID`] ones.
    pub(crate) fn refuses<S: std::fmt::Debug>(
        read: impl Fn(&Environment) -> Result<S, SettingError>,
        wrong: &[(&str, &str)],
    ) {
        read(&VALID.into_iter().collect()).expect("valid settings");
        for wrong in wrong {
            let variables = VALID.iter().chain([wrong]).copied();
            let error = read(&variables.collect()).expect_err(wrong.0).to_string();
            assert!(error.starts_with(wrong.0), "{error}");
        }
    }

    #[test]
    fn every_function_needs_these() {
        refuses(
            Common::read,
            &[
                ("AWS_REGION", ""),
                ("WEBSOCKET_CONNECTION_TABLE", ""),
                ("WEBSOCKET_MESSAGE_TABLE", ""),
                ("WEBSOCKET_SUBSCRIPTION_TABLE", ""),
                ("WEBSOCKET_STATE_TABLE", " "),
                ("STACK_NAME", ""),
            ],
        );
        refuses(
            ApiEndpoint::read,
            &[
                ("WEBSOCKET_API_ENDPOINT", ""),
                ("WEBSOCKET_API_ENDPOINT", "wss://api.example.com/dev"),
            ],
        );
    }

    #[test]
    fn an_endpoint_may_end_in_a_slash() {
        for end in ["", "/", "//"] {
            let value = format!("https://api.example.com/dev{end}");
            let variables = [("WEBSOCKET_API_ENDPOINT", value.as_str())];
            let endpoint = ApiEndpoint::read(&variables.into_iter().collect()).unwrap();
            assert_eq!(endpoint.0, "https://api.example.com/dev");
        }
    }
}
