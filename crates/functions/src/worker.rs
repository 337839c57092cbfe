//! The worker: processes one segment of a large broadcast.

use std::time::Duration;

use belfry_aws::SegmentTask;
use belfry_core::UnixMillis;
use belfry_core::broadcast::Call;
use lambda_runtime::LambdaEvent;

use crate::environment::{Environment, SettingError};
use crate::error::{FailureEvents, FunctionError};
use crate::fanout::{self, UseCase};

/// Time left to start the next worker: a write and an invocation at their
/// slowest.
const HANDOVER_TIME: Duration = Duration::from_secs(15);

const FAILURES: FailureEvents = FailureEvents {
    what: "segment",
    refused: "segment.refused",
    failed: "segment.failed",
};

#[derive(Debug)]
pub struct Settings(fanout::Settings);

impl Settings {
    /// Reads the settings. The next worker is another invocation of the same
    /// function.
    ///
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let itself = environment.required("AWS_LAMBDA_FUNCTION_NAME")?;
        fanout::Settings::read(environment, itself).map(Self)
    }
}

pub async fn build(Settings(settings): Settings) -> UseCase {
    fanout::build(settings).await
}

/// Handles one task.
///
/// # Errors
/// [`FunctionError`]; Lambda retries.
pub async fn handle(
    worker: &UseCase,
    event: LambdaEvent<SegmentTask>,
) -> Result<(), FunctionError> {
    let LambdaEvent { payload, context } = event;
    let call = Call {
        message_id: payload.message_id.clone(),
        is_named: true,
        owner: context.request_id.clone(),
        deadline: UnixMillis(context.deadline).minus(HANDOVER_TIME),
    };
    match Box::pin(worker.work_on(payload.segment, call)).await {
        Ok(delivered) => {
            fanout::log(&delivered, Some(payload.segment), &context.request_id);
            Ok(())
        }
        Err(error) => {
            let error = FunctionError::from(error);
            error.log(FAILURES, &context.request_id, Some(&payload));
            Err(error)
        }
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
                ("AWS_LAMBDA_FUNCTION_NAME", ""),
                ("STACK_NAME", ""),
                ("WEBSOCKET_API_ENDPOINT", ""),
                ("POST_CONCURRENCY", "0"),
                ("POST_TIMEOUT_MS", "99"),
                ("POSTS_PER_SECOND", "100001"),
                ("MAX_WORKERS", "-1"),
                ("CHANNEL_RULES", "{}"),
            ],
        );
    }
}
