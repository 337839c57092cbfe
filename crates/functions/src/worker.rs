//! The worker: one segment of a large broadcast.

use std::time::Duration;

use belfry_aws::WorkOrder;
use belfry_core::{Call, UnixMillis};
use lambda_runtime::LambdaEvent;

use crate::environment::{Environment, SettingError};
use crate::error::FunctionError;
use crate::fanout::{self, UseCase};

/// What is left of the invocation's time for asking the next worker: a write
/// and an invocation at their slowest.
const HANDING_ON: Duration = Duration::from_secs(15);

/// What a worker needs to know.
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

/// Puts the parts together, once for an environment.
pub async fn build(Settings(settings): Settings) -> UseCase {
    fanout::build(settings).await
}

/// Handles one order.
///
/// # Errors
/// [`FunctionError`]; Lambda tries again.
pub async fn handle(worker: &UseCase, event: LambdaEvent<WorkOrder>) -> Result<(), FunctionError> {
    let LambdaEvent { payload, context } = event;
    let call = Call {
        message_id: payload.message_id,
        is_named: true,
        owner: context.request_id.clone(),
        deadline: UnixMillis(context.deadline).minus(HANDING_ON),
    };
    match Box::pin(worker.work_on(payload.segment, call)).await {
        Ok(delivered) => {
            fanout::log(&delivered, &context.request_id);
            Ok(())
        }
        Err(error) => {
            let error = FunctionError::from(error);
            error.log("a part of a broadcast", &context.request_id);
            Err(error)
        }
    }
}
