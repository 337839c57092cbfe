//! The broadcaster: one message to a user, to some connections, or to all.

use std::time::Duration;

use belfry_core::{Call, Delivered, UnixMillis};
use belfry_protocol::{BroadcastInquiry, BroadcastReport, BroadcasterRequest, MessageId};
use lambda_runtime::{Context, LambdaEvent};
use serde_json::value::RawValue;

use crate::environment::{Environment, SettingError};
use crate::error::FunctionError;
use crate::fanout::{self, UseCase};

/// What is left of the invocation's time for writing down how far it is,
/// asking a worker to go on, and answering.
const REPORTING_TIME: Duration = Duration::from_secs(10);

/// What the broadcaster needs to know.
#[derive(Debug)]
pub struct Settings(fanout::Settings);

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let worker = environment.required("WORKER_FUNCTION")?;
        fanout::Settings::read(environment, worker).map(Self)
    }
}

/// Puts the parts together, once for an environment.
pub async fn build(Settings(settings): Settings) -> UseCase {
    fanout::build(settings).await
}

/// Handles one request. The payload is read as text first: a parser that
/// skipped a duplicate key would send to someone the caller did not mean.
///
/// # Errors
/// [`FunctionError`].
pub async fn handle(
    broadcaster: &UseCase,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<BroadcastReport, FunctionError> {
    let request_id = event.context.request_id.clone();
    match broadcast(broadcaster, event).await {
        Ok(delivered) => {
            fanout::log(&delivered, &request_id);
            Ok(delivered.report)
        }
        Err(error) => {
            error.log("broadcast", &request_id);
            Err(error)
        }
    }
}

async fn broadcast(
    broadcaster: &UseCase,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<Delivered, FunctionError> {
    let LambdaEvent { payload, context } = event;
    let call = |message_id, is_named| Call {
        message_id,
        is_named,
        owner: context.request_id.clone(),
        deadline: UnixMillis(context.deadline).minus(REPORTING_TIME),
    };
    // All are large, and one of them is used.
    match BroadcasterRequest::parse(payload.get())? {
        BroadcasterRequest::Send(mut request) => {
            let call = match request.message_id.take() {
                Some(id) => call(id, true),
                None => call(default_message_id(&context)?, false),
            };
            Ok(Box::pin(broadcaster.send(*request, call)).await?)
        }
        BroadcasterRequest::Inquire(inquiry) => {
            let (BroadcastInquiry::Report { message_id, .. }
            | BroadcastInquiry::Resume { message_id, .. }) = &inquiry;
            let call = call(message_id.clone(), true);
            Ok(Box::pin(broadcaster.inquire(inquiry, call)).await?)
        }
    }
}

/// Lambda keeps the request id when it retries, so it is as good a key as a
/// caller's own where the caller gave none.
fn default_message_id(context: &Context) -> Result<MessageId, FunctionError> {
    MessageId::parse(context.request_id.as_str()).map_err(|_| FunctionError {
        error_type: "InvalidRequest",
        message: "messageId: the invocation's request id cannot serve as one".into(),
    })
}
