//! The broadcaster: one message to users, a channel, some connections, or everyone.

use std::time::Duration;

use belfry_aws::apigateway::ManagementOutbox;
use belfry_aws::{DynamoDb, LambdaWorkers, SystemClock, SystemRandomness};
use belfry_core::UnixMillis;
use belfry_core::broadcast::{Broadcaster, Call, Delivered, FanoutSettings};
use belfry_core::presence::PresenceSettings;
use belfry_protocol::{
    BroadcastInquiry, BroadcastReport, BroadcasterRequest, MessageId, PresentInChannel,
    ReceiptsReport,
};
use lambda_runtime::{Context, LambdaEvent};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::common::Metrics;
use crate::environment::{Environment, SettingError};
use crate::error::{FailureEvents, FunctionError};
use crate::fanout;

/// Time left to write a checkpoint, start a worker and answer.
pub(crate) const REPORTING_TIME: Duration = Duration::from_secs(10);

const FAILURES: FailureEvents = FailureEvents {
    what: "broadcast",
    refused: "broadcast.refused",
    failed: "broadcast.failed",
};

#[derive(Debug)]
pub struct Settings {
    worker: fanout::Settings,
    fanout: FanoutSettings,
    presence: PresenceSettings,
}

impl Settings {
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let worker_function = environment.required("WORKER_FUNCTION")?;
        let worker = fanout::Settings::read(environment, worker_function)?;
        let all_interval = environment.number("BROADCAST_ALL_INTERVAL_SECONDS", 60, 0..=86_400)?;
        Ok(Self {
            fanout: FanoutSettings {
                connections_per_worker: environment.connections_per_worker()?,
                max_workers: worker.max_workers,
                all_interval: Duration::from_secs(all_interval),
            },
            presence: environment.presence()?,
            worker,
        })
    }
}

pub type UseCase =
    Broadcaster<DynamoDb, ManagementOutbox, SystemClock, Metrics, LambdaWorkers, SystemRandomness>;

pub async fn build(settings: Settings) -> UseCase {
    Broadcaster {
        worker: fanout::build(settings.worker).await,
        fanout: settings.fanout,
        presence: settings.presence,
    }
}

/// The answer to a request.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    Report(BroadcastReport),
    Receipts(ReceiptsReport),
    Presence(PresentInChannel),
}

enum Done {
    Delivered(Box<Delivered>),
    Receipts(ReceiptsReport),
    Presence(PresentInChannel),
}

/// Handles one request. The payload is parsed from text: a parser that ignored
/// a duplicate key would send to a recipient that the caller did not mean.
///
/// # Errors
/// [`FunctionError`].
pub async fn handle(
    broadcaster: &UseCase,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<Answer, FunctionError> {
    let request_id = event.context.request_id.clone();
    match broadcast(broadcaster, event).await {
        Ok(Done::Delivered(delivered)) => {
            fanout::log(&delivered, None, &request_id);
            Ok(Answer::Report(delivered.report))
        }
        Ok(Done::Receipts(report)) => {
            tracing::info!(event = "receipts.reported", requestId = %request_id, "reported who has read a message");
            Ok(Answer::Receipts(report))
        }
        Ok(Done::Presence(present)) => {
            tracing::info!(event = "presence.reported", requestId = %request_id, "reported who is present in a channel");
            Ok(Answer::Presence(present))
        }
        Err(error) => {
            error.log(FAILURES, &request_id, None);
            Err(error)
        }
    }
}

async fn broadcast(
    broadcaster: &UseCase,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<Done, FunctionError> {
    let LambdaEvent { payload, context } = event;
    let deadline = UnixMillis(context.deadline).minus(REPORTING_TIME);
    let call = |message_id, is_named| Call {
        message_id,
        is_named,
        owner: context.request_id.clone(),
        deadline,
    };
    // Each future is large, and only one of them is used.
    match BroadcasterRequest::parse(payload.get())? {
        BroadcasterRequest::Send(mut request) => {
            let call = match request.message_id.take() {
                Some(id) => call(id, true),
                None => call(default_message_id(&context)?, false),
            };
            let delivered = Box::pin(broadcaster.send(*request, call)).await?;
            Ok(Done::Delivered(delivered.into()))
        }
        BroadcasterRequest::Inquire(inquiry) => {
            let (BroadcastInquiry::Report { message_id, .. }
            | BroadcastInquiry::Resume { message_id, .. }) = &inquiry;
            let call = call(message_id.clone(), true);
            let delivered = Box::pin(broadcaster.inquire(inquiry, call)).await?;
            Ok(Done::Delivered(delivered.into()))
        }
        BroadcasterRequest::Receipts(request) => {
            let receipts = broadcaster.receipts(request, deadline);
            Ok(Done::Receipts(Box::pin(receipts).await?))
        }
        BroadcasterRequest::Presence(request) => {
            Ok(Done::Presence(broadcaster.presence(request).await?))
        }
    }
}

/// The id of a broadcast whose caller gave none. Lambda keeps the request id
/// when it retries.
pub(crate) fn default_message_id(context: &Context) -> Result<MessageId, FunctionError> {
    MessageId::parse(context.request_id.as_str()).map_err(|_| FunctionError {
        error_type: "InvalidRequest",
        message: "messageId: the invocation's request id cannot serve as one".into(),
    })
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
                ("WORKER_FUNCTION", ""),
                ("STACK_NAME", ""),
                ("CONNECTIONS_PER_WORKER", "0"),
                ("BROADCAST_ALL_INTERVAL_SECONDS", "soon"),
                ("PRESENCE_ANNOUNCED", "101"),
                ("MAX_WORKERS", "101"),
                ("CHANNEL_RULES", "{}"),
            ],
        );
    }
}
