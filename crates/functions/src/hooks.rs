//! Hooks: tells the application's function of events.

use std::time::Duration;

use belfry_aws::{DynamoDb, HooksTask, LambdaHooks, LambdaListener, SystemClock, SystemRandomness};
use belfry_core::UnixMillis;
use belfry_core::hooks::{Deliverer, Deliveries};
use belfry_protocol::HookEvent;
use lambda_runtime::LambdaEvent;

use crate::common::{Common, Metrics};
use crate::environment::{Environment, SettingError};
use crate::error::FunctionError;

/// Time left after the last delivery: to forget the event, and so that a function
/// that is slow does not look as if this one were.
const FINISHING_TIME: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct Settings {
    common: Common,
    hook_function: String,
    own_name: String,
}

impl Settings {
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            common: Common::read(environment)?,
            hook_function: environment.required("HOOK_FUNCTION")?,
            own_name: environment.required("AWS_LAMBDA_FUNCTION_NAME")?,
        })
    }
}

pub type UseCase =
    Deliverer<DynamoDb, LambdaListener, LambdaHooks, SystemClock, Metrics, SystemRandomness>;

pub async fn build(settings: Settings) -> UseCase {
    let adapters = settings.common.open().await;
    let clients = adapters.clients;
    Deliverer {
        store: adapters.store,
        listener: LambdaListener::new(clients.lambda_once(), settings.hook_function),
        dead_letters: LambdaHooks::new(clients.lambda(), settings.own_name),
        clock: SystemClock,
        metrics: adapters.metrics,
        random: SystemRandomness,
    }
}

/// Handles one task.
///
/// # Errors
/// [`FunctionError`] if the schedule's run failed, or if an event is given up:
/// then Lambda keeps the task as a dead letter. What failed for one subject is
/// only logged, because the schedule does it again.
pub async fn handle(
    deliverer: &UseCase,
    event: LambdaEvent<HooksTask>,
) -> Result<(), FunctionError> {
    let LambdaEvent { payload, context } = event;
    let deadline = UnixMillis(context.deadline).minus(FINISHING_TIME);
    let request_id = &context.request_id;
    let (delivered, is_repeated) = match payload {
        HooksTask::Deliver { subject: None } => {
            let run = Box::pin(deliverer.deliver_all(deadline));
            (run.await, false)
        }
        HooksTask::Deliver {
            subject: Some(subject),
        } => {
            let subject = subject.into();
            let run = Box::pin(deliverer.deliver(&subject, deadline));
            (run.await, true)
        }
        HooksTask::GiveUp { event } => return Err(given_up(&event)),
    };
    match delivered {
        Ok(done) => {
            log(done, request_id);
            Ok(())
        }
        Err(error) => {
            let error = FunctionError::from(error);
            let reason = &error.message;
            tracing::error!(event = "hooks.failed", requestId = %request_id, errorType = error.error_type, reason, "could not tell the application of all events; the next run retries");
            if is_repeated { Ok(()) } else { Err(error) }
        }
    }
}

fn given_up(event: &HookEvent) -> FunctionError {
    FunctionError {
        error_type: "GivenUp",
        message: format!("the application was not told of {} for a day", event.id()),
    }
}

fn log(done: Deliveries, request_id: &str) {
    macro_rules! log_at {
        ($level:ident) => {
            tracing::$level!(
                event = "hooks.completed",
                requestId = %request_id,
                success = done.delivered,
                failed = done.failed,
                givenUp = done.given_up,
                "told the application of events"
            )
        };
    }
    // A line for each event would cost as much as the event.
    if done.failed == 0 {
        log_at!(debug);
    } else {
        log_at!(info);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::tests::VALID;

    #[test]
    fn an_invalid_setting_is_named() {
        let variables = |hook: &'static str| VALID.into_iter().chain([("HOOK_FUNCTION", hook)]);
        assert!(Settings::read(&variables("arn").collect()).is_ok());
        let error = Settings::read(&variables("").collect()).unwrap_err();
        assert_eq!(error.to_string(), "HOOK_FUNCTION is not set");
    }
}
