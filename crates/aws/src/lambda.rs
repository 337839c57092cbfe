use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use belfry_core::ports::Workers;
use belfry_protocol::MessageId;
use serde::{Deserialize, Serialize};

use crate::sdk_error::describe;

/// The event of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SegmentTask {
    pub message_id: MessageId,
    /// Counted from zero.
    pub segment: u32,
}

/// Starts workers as asynchronous invocations of a Lambda function. Lambda
/// retries a failed one twice, after one and two minutes, under the same
/// request id (AWS: "How Lambda handles errors and retries with asynchronous
/// invocation").
#[derive(Debug, Clone)]
pub struct LambdaWorkers {
    client: Client,
    function: String,
}

impl LambdaWorkers {
    #[must_use]
    pub fn new(client: Client, function: String) -> Self {
        Self { client, function }
    }
}

impl Workers for LambdaWorkers {
    async fn start(&self, id: &MessageId, segment: u32) -> Result<(), String> {
        let task = SegmentTask {
            message_id: id.clone(),
            segment,
        };
        let payload = serde_json::to_vec(&task).map_err(|error| error.to_string())?;
        let invoke = self
            .client
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(payload));
        match Box::pin(invoke.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(describe(&error)),
        }
    }
}
