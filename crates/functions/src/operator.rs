//! The operator: what people ask of a running stack.

use belfry_aws::apigateway::ManagementOutbox;
use belfry_aws::{DynamoDb, SystemClock};
use belfry_core::UnixMillis;
use belfry_core::broadcast::{Call, Delivered, Fanout};
use belfry_core::operator;
use belfry_core::presence::present_in;
use belfry_protocol::{
    ActionInquiry, Bounded, BroadcastInquiry, ErrorCode, MessageId, OperatorReport,
    OperatorRequest, SignOut,
};
use lambda_runtime::{Context, LambdaEvent};
use serde_json::value::RawValue;

use crate::audit::{asked_by, describe};
use crate::broadcaster::{self, REPORTING_TIME, default_message_id};
use crate::environment::{Environment, SettingError};
use crate::error::{FailureEvents, FunctionError};
use crate::fanout;

const FAILURES: FailureEvents = FailureEvents {
    what: "operator request",
    refused: "operator.refused",
    failed: "operator.failed",
};

#[derive(Debug)]
pub struct Settings {
    broadcaster: broadcaster::Settings,
    max_connections: u64,
}

impl Settings {
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            broadcaster: broadcaster::Settings::read(environment)?,
            max_connections: environment.max_connections()?,
        })
    }
}

/// The use cases with their adapters, one for each action.
pub struct UseCases {
    sign_out: operator::SignOut<DynamoDb, ManagementOutbox, SystemClock>,
    list: operator::List<DynamoDb, SystemClock>,
    inspect: operator::Inspect<DynamoDb, ManagementOutbox, SystemClock>,
    unlock: operator::Unlock<DynamoDb, SystemClock>,
    stats: operator::ReadStats<DynamoDb, SystemClock>,
    /// Kicks and drains are broadcasts. It also tells subscribers, and who is present.
    broadcaster: broadcaster::UseCase,
}

pub async fn build(settings: Settings) -> UseCases {
    let broadcaster = broadcaster::build(settings.broadcaster).await;
    let store = &broadcaster.worker.store;
    let outbox = &broadcaster.worker.outbox;
    UseCases {
        sign_out: operator::SignOut {
            outbox: outbox.clone(),
            store: store.clone(),
            clock: SystemClock,
        },
        list: operator::List {
            store: store.clone(),
            clock: SystemClock,
        },
        inspect: operator::Inspect {
            store: store.clone(),
            sockets: outbox.clone(),
            clock: SystemClock,
        },
        unlock: operator::Unlock {
            store: store.clone(),
            clock: SystemClock,
        },
        stats: operator::ReadStats {
            store: store.clone(),
            clock: SystemClock,
            max_connections: settings.max_connections,
        },
        broadcaster,
    }
}

/// Handles one request.
///
/// # Errors
/// [`FunctionError`]. Asking again is safe.
pub async fn handle(
    operator: &UseCases,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<OperatorReport, FunctionError> {
    let LambdaEvent { payload, context } = event;
    let answered = answer(operator, payload.get(), &context).await;
    answered.inspect_err(|error| error.log(FAILURES, &context.request_id, None))
}

async fn answer(
    operator: &UseCases,
    payload: &str,
    context: &Context,
) -> Result<OperatorReport, FunctionError> {
    let request_id = &context.request_id;
    let by = asked_by(context);
    // Each future is large, and only one of them is used.
    match OperatorRequest::parse(payload)? {
        OperatorRequest::SignOut(SignOut { user_id }) => {
            tracing::info!(event = "operator.sign-out", by, requestId = %request_id, userId = %user_id, "signing a user out");
            let report = Box::pin(operator.sign_out.handle(&user_id)).await?;
            tracing::info!(event = "sign-out.completed", userId = %user_id, requestId = %request_id, closed = report.closed, failed = report.failed, notEnded = report.not_ended, "signed out");
            Ok(OperatorReport::SignOut(report))
        }
        OperatorRequest::Kick(mut kick) => {
            let call = new_call(kick.message_id.take(), context)?;
            tracing::info!(event = "operator.kick", by, requestId = %request_id, messageId = %call.message_id, target = describe(&kick.target), code = ErrorCode::from(kick.code.unwrap_or_default()).as_str(), "closing connections");
            let kicked = Box::pin(operator.broadcaster.kick(kick, call)).await?;
            Ok(progress(kicked, request_id))
        }
        OperatorRequest::Drain(mut drain) => {
            let call = new_call(drain.message_id.take(), context)?;
            let percent = drain.percent.map_or(100, Bounded::get);
            tracing::info!(event = "operator.drain", by, requestId = %request_id, messageId = %call.message_id, target = describe(&drain.target), withinSeconds = drain.within_seconds.get(), percent, "asking clients to open another connection");
            let asked = Box::pin(operator.broadcaster.drain(drain, call)).await?;
            Ok(progress(asked, request_id))
        }
        OperatorRequest::Report(ActionInquiry {
            message_id,
            wait_seconds,
        }) => {
            let call = call(message_id.clone(), context);
            let inquiry = BroadcastInquiry::Report {
                message_id,
                wait_seconds,
            };
            let reported = Box::pin(operator.broadcaster.inquire_of_action(inquiry, call)).await?;
            Ok(progress(reported, request_id))
        }
        OperatorRequest::Resume(ActionInquiry {
            message_id,
            wait_seconds,
        }) => {
            let call = call(message_id.clone(), context);
            tracing::info!(event = "operator.resume", by, requestId = %request_id, messageId = %message_id, "resuming");
            let inquiry = BroadcastInquiry::Resume {
                message_id,
                wait_seconds,
            };
            let resumed = Box::pin(operator.broadcaster.inquire_of_action(inquiry, call)).await?;
            Ok(progress(resumed, request_id))
        }
        OperatorRequest::List(request) => {
            let list = Box::pin(operator.list.handle(&request)).await?;
            tracing::info!(event = "operator.list", by, requestId = %request_id, target = describe(&request.target), connections = list.connections.len(), "listed connections");
            Ok(OperatorReport::List(list))
        }
        OperatorRequest::Inspect(request) => {
            let id = request.connection_id;
            let details = Box::pin(operator.inspect.handle(&id)).await?;
            tracing::info!(event = "operator.inspect", by, requestId = %request_id, connectionId = %id, "inspected a connection");
            Ok(OperatorReport::Inspect(Box::new(details)))
        }
        OperatorRequest::Presence(request) => {
            let broadcaster = &operator.broadcaster;
            let present = present_in(
                &broadcaster.worker.store,
                request.channel,
                broadcaster.presence,
            );
            let present = present.await?;
            tracing::info!(event = "operator.presence", by, requestId = %request_id, channel = %present.channel, count = present.present.count, "told who is present in a channel");
            Ok(OperatorReport::Presence(present))
        }
        OperatorRequest::Locks(request) => {
            let locks = operator.unlock.locks(request.channel).await?;
            tracing::info!(event = "operator.locks", by, requestId = %request_id, channel = %locks.channel, locks = locks.locks.held.len(), "listed the locks of a channel");
            Ok(OperatorReport::Locks(locks))
        }
        OperatorRequest::Unlock(request) => {
            let (channel, name) = (request.channel.clone(), request.name.clone());
            tracing::info!(event = "operator.unlock", by, requestId = %request_id, channel = %channel, name = %name, "releasing a lock");
            let report = operator.unlock.handle(request).await?;
            tracing::info!(event = "unlock.completed", requestId = %request_id, channel = %channel, name = %name, released = report.released, "released a lock");
            Ok(OperatorReport::Unlock(report))
        }
        OperatorRequest::Stats(_) => {
            let stats = Box::pin(operator.stats.handle()).await?;
            tracing::info!(event = "operator.stats", by, requestId = %request_id, connections = stats.connections, subscriptions = stats.channels.subscriptions, complete = stats.channels.complete, "counted connections and subscriptions");
            Ok(OperatorReport::Stats(stats))
        }
        OperatorRequest::Purge(request) => {
            let channel = request.channel;
            let worker = &operator.broadcaster.worker;
            let purge = operator::Purge {
                fanout: Fanout {
                    store: &worker.store,
                    outbox: &worker.outbox,
                    clock: &worker.clock,
                    metrics: &worker.metrics,
                    workers: &worker.workers,
                    random: &worker.random,
                    delivery: worker.delivery,
                    settings: operator.broadcaster.fanout,
                },
            };
            let deadline = UnixMillis(context.deadline).minus(REPORTING_TIME);
            tracing::info!(event = "operator.purge", by, requestId = %request_id, channel = %channel, "purging a channel's history");
            let report = Box::pin(purge.handle(&channel, request_id, deadline)).await?;
            tracing::info!(event = "purge.completed", requestId = %request_id, channel = %channel, deleted = report.deleted, complete = report.complete, told = report.told.as_ref().map(|told| told.success), "purged a channel's history");
            Ok(OperatorReport::Purge(report))
        }
    }
}

fn new_call(id: Option<MessageId>, context: &Context) -> Result<Call, FunctionError> {
    let id = id.map_or_else(|| default_message_id(context), Ok)?;
    Ok(call(id, context))
}

fn call(message_id: MessageId, context: &Context) -> Call {
    Call {
        message_id,
        is_named: true,
        owner: context.request_id.clone(),
        deadline: UnixMillis(context.deadline).minus(REPORTING_TIME),
    }
}

fn progress(delivered: Delivered, request_id: &str) -> OperatorReport {
    fanout::log(&delivered, None, request_id);
    OperatorReport::Progress(delivered.report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::tests::refuses;

    #[test]
    fn an_invalid_setting_is_named() {
        let wrong = [
            ("STACK_NAME", ""),
            ("WEBSOCKET_API_ENDPOINT", ""),
            ("WORKER_FUNCTION", ""),
            ("MAX_CONNECTIONS", "0"),
        ];
        refuses(Settings::read, &wrong);
    }
}
