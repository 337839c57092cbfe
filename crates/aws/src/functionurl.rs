//! Lambda function URLs: requests of HTTP readers, and the answers to them.

mod request;
mod response;
mod sse;
#[cfg(test)]
mod tests;

use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest;

pub use request::{Operation, Problem, credentials, operation};
pub use response::{Head, cors, preflight, problem, refused, streaming, to_json};
pub use sse::{KEEP_ALIVE, RETRY, event};

/// The event of a function URL, payload format 2.0.
pub type Event = LambdaFunctionUrlRequest;
