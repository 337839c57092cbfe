use std::time::Duration;

use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::config::http::HttpResponse;
use aws_sdk_apigatewaymanagement::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_apigatewaymanagement::operation::delete_connection::DeleteConnectionError;
use aws_sdk_apigatewaymanagement::operation::get_connection::GetConnectionError;
use aws_sdk_apigatewaymanagement::operation::post_to_connection::PostToConnectionError;
use aws_sdk_apigatewaymanagement::primitives::{Blob, DateTime};
use belfry_core::UnixMillis;
use belfry_core::ports::{Outbox, PostError, Sockets};
use belfry_protocol::{ConnectionId, Socket, Timestamp};

use crate::sdk_error::describe;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

const GET_TIMEOUT: Duration = Duration::from_secs(5);

/// Posts and closes through the `@connections` API of one stage.
#[derive(Debug, Clone)]
pub struct ManagementOutbox {
    client: Client,
}

impl ManagementOutbox {
    /// An outbox on a client whose own retries are disabled.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Outbox for ManagementOutbox {
    async fn post(
        &self,
        id: &ConnectionId,
        frame: &str,
        timeout: Duration,
    ) -> Result<(), PostError> {
        let post = self
            .client
            .post_to_connection()
            .connection_id(id.as_str())
            .data(Blob::new(frame))
            .send();
        match tokio::time::timeout(timeout, post).await {
            Err(_) => Err(PostError::TimedOut),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(classify(&error, |error| match error {
                PostToConnectionError::GoneException(_) => Some(PostError::Gone),
                PostToConnectionError::LimitExceededException(_) => Some(PostError::Throttled),
                PostToConnectionError::PayloadTooLargeException(_) => Some(PostError::TooLarge),
                _ => None,
            })),
        }
    }

    async fn close(&self, id: &ConnectionId) -> Result<(), PostError> {
        let close = self
            .client
            .delete_connection()
            .connection_id(id.as_str())
            .send();
        let error = match tokio::time::timeout(CLOSE_TIMEOUT, close).await {
            Err(_) => return Err(PostError::TimedOut),
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error,
        };
        let error = classify(&error, |error| match error {
            DeleteConnectionError::GoneException(_) => Some(PostError::Gone),
            DeleteConnectionError::LimitExceededException(_) => Some(PostError::Throttled),
            _ => None,
        });
        match error {
            PostError::Gone => Ok(()),
            other => Err(other),
        }
    }
}

impl Sockets for ManagementOutbox {
    async fn find_socket(&self, id: &ConnectionId) -> Result<Option<Socket>, PostError> {
        let get = self
            .client
            .get_connection()
            .connection_id(id.as_str())
            .send();
        let error = match tokio::time::timeout(GET_TIMEOUT, get).await {
            Err(_) => return Err(PostError::TimedOut),
            Ok(Ok(found)) => {
                let socket = || {
                    Some(Socket {
                        connected_at: timestamp(found.connected_at()?)?,
                        last_active_at: timestamp(found.last_active_at()?)?,
                    })
                };
                let socket = socket().ok_or_else(|| PostError::Failed("times are missing".into()));
                return socket.map(Some);
            }
            Ok(Err(error)) => error,
        };
        let error = classify(&error, |error| match error {
            GetConnectionError::GoneException(_) => Some(PostError::Gone),
            GetConnectionError::LimitExceededException(_) => Some(PostError::Throttled),
            _ => None,
        });
        match error {
            PostError::Gone => Ok(None),
            other => Err(other),
        }
    }
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    let millis = u64::try_from(time.to_millis().ok()?).ok()?;
    Some(UnixMillis(millis).to_timestamp())
}

/// Classifies by the typed error if there is one, and by the status otherwise:
/// API Gateway answers 410 with an empty body, and proxies in front of it know
/// only statuses. Without an answer, there was no connection, or it broke.
fn classify<E>(
    error: &SdkError<E, HttpResponse>,
    typed: impl Fn(&E) -> Option<PostError>,
) -> PostError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if let Some(kind) = error.as_service_error().and_then(typed) {
        return kind;
    }
    match error
        .raw_response()
        .map(|response| response.status().as_u16())
    {
        Some(410) => PostError::Gone,
        // Not in the SDK's model. An id that API Gateway can never have issued
        // names no connection, now or later.
        Some(400)
            if error
                .message()
                .is_some_and(|text| text.starts_with("Invalid connectionId")) =>
        {
            PostError::Gone
        }
        Some(413) => PostError::TooLarge,
        Some(429) => PostError::Throttled,
        Some(500..) => PostError::Unavailable(describe(error)),
        _ => match error {
            SdkError::TimeoutError(_) => PostError::TimedOut,
            SdkError::DispatchFailure(failure) if !failure.is_user() => {
                PostError::Unavailable(describe(error))
            }
            _ => PostError::Failed(describe(error)),
        },
    }
}
