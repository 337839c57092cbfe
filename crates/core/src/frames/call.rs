use belfry_protocol::{Call, ErrorCode, Refused};
use serde_json::Value;

use super::rejection::Rejection;
use crate::connections::Connection;
use crate::ports::{CallError, Callee, ClientCall, Clock, MetricEvent, Metrics};

/// `call`: has the application's function do something. What it failed with is
/// for the operator, not for the client.
pub(super) struct CallHandler<'a, L, C, M> {
    pub(super) callee: &'a L,
    pub(super) clock: &'a C,
    pub(super) metrics: &'a M,
}

impl<L: Callee, C: Clock, M: Metrics> CallHandler<'_, L, C, M> {
    pub(super) async fn handle(
        &self,
        connection: &Connection,
        frame: Call,
    ) -> Result<Value, Rejection> {
        let Call { action, data } = frame;
        let call = ClientCall {
            connection_id: &connection.id,
            user_id: &connection.user_id,
            claims: &connection.claims,
            action: &action,
            data: data.as_ref(),
        };
        let started_at = self.clock.now();
        let result = self.callee.call(call).await;
        if result == Err(CallError::NoFunction) {
            let text = "this server takes no calls: its stack has no CallFunction";
            return Err(Refused::new(ErrorCode::Forbidden, text).into());
        }
        self.metrics.record(MetricEvent::Called {
            served: result.is_ok(),
            took: self.clock.now().since(started_at),
        });
        result.map_err(|reason| {
            tracing::warn!(event = "call.failed", connectionId = %connection.id, action = %action, reason = %reason, "the application did not serve a call");
            let text = "the application did not answer the call; it may or may not have acted on it";
            Refused::new(ErrorCode::CallFailed, text).into()
        })
    }
}
