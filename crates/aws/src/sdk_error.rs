use std::error::Error;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// Describes an error for the operator's log: the service's code and message, or
/// how the call failed before the service answered. It never contains the
/// request.
pub(crate) fn describe<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let code = error.code().unwrap_or("no error code");
            match error.message() {
                Some(message) => format!("{code}: {message}"),
                None => format!("{code} (status {})", context.raw().status().as_u16()),
            }
        }
        other => chain(other),
    }
}

/// An error with its causes, since most HTTP errors name only the call itself.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
