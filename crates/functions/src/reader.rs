//! The function URL of HTTP readers: streams, polls and publishes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use belfry_aws::apigateway::ManagementOutbox;
use belfry_aws::cognito::{CognitoVerifier, HttpJwks};
use belfry_aws::functionurl::{self, Event, Head, Operation};
use belfry_aws::{DynamoDb, LambdaAuthorizer, LambdaWorkers, SystemClock, SystemRandomness};
use belfry_core::connections::OriginPolicy;
use belfry_core::frames::TokenBucket;
use belfry_core::ports::Clock;
use belfry_core::reader::{Credentials, EventStream, Reader, Refusal, Step};
use belfry_protocol::MessageId;
use futures_util::stream::{self, Stream, StreamExt};
use lambda_runtime::{LambdaEvent, MetadataPrelude, StreamResponse};

use crate::common::Metrics;
use crate::environment::{Environment, SettingError};
use crate::error::FunctionError;
use crate::fanout;
use crate::tokens::Tokens;

/// Each place is an attribute of one item.
const MAX_PLACES: u32 = 100;

#[derive(Debug)]
pub struct Settings {
    fanout: fanout::Settings,
    connections_per_worker: u32,
    authorize_function: Option<String>,
    tokens: Tokens,
    origins: OriginPolicy,
    max_message_bytes: usize,
    stream_time: Duration,
    places_per_user: u32,
    messages_per_minute: u32,
}

impl Settings {
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let worker_function = environment.required("WORKER_FUNCTION")?;
        let stream_seconds = environment.number("STREAM_SECONDS", 55, 1..=230)?;
        Ok(Self {
            tokens: Tokens::read(environment)?,
            fanout: fanout::Settings::read(environment, worker_function)?,
            connections_per_worker: environment.connections_per_worker()?,
            authorize_function: environment.optional("AUTHORIZE_FUNCTION"),
            origins: environment.origins()?,
            max_message_bytes: environment.max_message_bytes()?,
            stream_time: Duration::from_secs(stream_seconds),
            places_per_user: environment.connections_per_user()?.min(MAX_PLACES),
            messages_per_minute: environment.messages_per_minute()?,
        })
    }
}

pub type UseCase = Reader<
    CognitoVerifier<HttpJwks>,
    LambdaAuthorizer,
    DynamoDb,
    ManagementOutbox,
    SystemClock,
    Metrics,
    LambdaWorkers,
    SystemRandomness,
>;

pub async fn build(settings: Settings) -> UseCase {
    let fanout = settings
        .fanout
        .of_publishers(settings.connections_per_worker);
    let fanout::Opened { worker, clients } = fanout::open(settings.fanout).await;
    Reader {
        rules: worker.rules,
        verifier: settings.tokens.verifier(clients.http()),
        authorizer: LambdaAuthorizer::new(clients.lambda(), settings.authorize_function),
        outbox: worker.outbox,
        store: worker.store,
        clock: worker.clock,
        metrics: worker.metrics,
        workers: worker.workers,
        random: worker.random,
        delivery: worker.delivery,
        fanout,
        origins: settings.origins,
        max_message_bytes: settings.max_message_bytes,
        stream_time: settings.stream_time,
        places_per_user: settings.places_per_user,
        bucket: TokenBucket::per_minute(settings.messages_per_minute),
    }
}

/// The body of an answer, in parts.
pub type Body = Pin<Box<dyn Stream<Item = Result<String, Infallible>> + Send>>;

/// Handles one request.
///
/// # Errors
/// [`FunctionError`] if the invocation cannot serve as one of a function URL.
pub async fn handle(
    reader: &Arc<UseCase>,
    event: LambdaEvent<Event>,
) -> Result<StreamResponse<Body>, FunctionError> {
    let request = &event.context.request_id;
    let request_id = MessageId::parse(request.as_str()).map_err(|_| FunctionError {
        error_type: "InvalidRequest",
        message: "the invocation's request id cannot serve as a message id".into(),
    })?;
    let credentials = functionurl::credentials(&event.payload);
    let answer = Box::pin(answer(reader, &event.payload, &credentials, &request_id));
    let (mut head, body) = answer.await;
    let origin = credentials.origin.as_deref();
    let allowed = origin.filter(|origin| reader.allows_origin(Some(origin)));
    functionurl::cors(&mut head, allowed);
    Ok(StreamResponse {
        metadata_prelude: MetadataPrelude {
            status_code: head.status,
            headers: head.headers,
            cookies: Vec::new(),
        },
        stream: body,
    })
}

async fn answer(
    reader: &Arc<UseCase>,
    event: &Event,
    credentials: &Credentials,
    request_id: &MessageId,
) -> (Head, Body) {
    let operation = match functionurl::operation(event) {
        Ok(operation) => operation,
        Err(problem) => return whole(functionurl::problem(problem, reader.clock.now())),
    };
    match Box::pin(serve(reader, operation, credentials, request_id)).await {
        Ok(answer) => answer,
        Err(refusal) => {
            reader.count_refusal(&refusal);
            log_refusal(&refusal, request_id);
            whole(functionurl::refused(refusal, reader.clock.now()))
        }
    }
}

async fn serve(
    reader: &Arc<UseCase>,
    operation: Operation,
    credentials: &Credentials,
    request_id: &MessageId,
) -> Result<(Head, Body), Refusal> {
    let identity = || reader.identify(credentials);
    match operation {
        Operation::Preflight => Ok(whole(functionurl::preflight())),
        Operation::Poll(channels, wait) => {
            let messages = Box::pin(reader.poll(identity().await?, channels, wait)).await?;
            Ok(whole(functionurl::to_json(&messages)))
        }
        Operation::Publish(body) => {
            let published = Box::pin(reader.publish(&identity().await?, &body, request_id)).await?;
            Ok(whole(functionurl::to_json(&published)))
        }
        Operation::Stream(channels) => {
            let (stream, first) = Box::pin(reader.stream(identity().await?, channels)).await?;
            let first: String = first.iter().map(functionurl::event).collect();
            let first = format!("{}{first}", functionurl::RETRY);
            Ok((
                functionurl::streaming(),
                follow(Arc::clone(reader), stream, first),
            ))
        }
    }
}

/// The first events, and those that follow.
fn follow(reader: Arc<UseCase>, stream: EventStream, first: String) -> Body {
    let following = stream::unfold((reader, stream), async |(reader, mut stream)| {
        let text = match Box::pin(reader.next(&mut stream)).await {
            Step::Events(events) => events.iter().map(functionurl::event).collect(),
            Step::KeepAlive => functionurl::KEEP_ALIVE.to_owned(),
            Step::End => return None,
        };
        Some((Ok(text), (reader, stream)))
    });
    Box::pin(stream::iter([Ok(first)]).chain(following))
}

fn whole((head, body): (Head, String)) -> (Head, Body) {
    (head, Box::pin(stream::iter([Ok(body)])))
}

fn log_refusal(refusal: &Refusal, request_id: &MessageId) {
    if refusal.is_failure() {
        tracing::error!(event = "reader.failed", requestId = %request_id, reason = %refusal, "could not serve a reader");
    } else {
        tracing::info!(event = "reader.refused", requestId = %request_id, code = %refusal.code(), "reader refused");
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
                ("WEBSOCKET_API_ENDPOINT", ""),
                ("COGNITO_CLIENT_IDS", ""),
                ("WORKER_FUNCTION", ""),
                ("CHANNEL_RULES", "{}"),
                ("ALLOWED_ORIGINS", "*"),
                ("CONNECTIONS_PER_WORKER", "0"),
                ("MAX_MESSAGE_BYTES", "1000000"),
                ("STREAM_SECONDS", "0"),
                ("MAX_CONNECTIONS_PER_USER", "0"),
                ("MESSAGES_PER_MINUTE", "0"),
            ],
        );
    }
}
