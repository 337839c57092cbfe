use std::future::Future;

use belfry_protocol::MessageId;

/// Starts workers, each in an environment of its own.
pub trait Workers: Send + Sync {
    /// Asks a worker to process a segment. The worker may start late or twice,
    /// and is retried if it fails.
    fn start(
        &self,
        id: &MessageId,
        segment: u32,
    ) -> impl Future<Output = Result<(), String>> + Send;
}
