use std::future::Future;

use belfry_protocol::{ConnectionId, Socket};

use super::PostError;

/// Asks API Gateway what it knows of connections.
pub trait Sockets: Send + Sync {
    /// An open connection. `None` if there is none, or its handshake is pending.
    fn find_socket(
        &self,
        id: &ConnectionId,
    ) -> impl Future<Output = Result<Option<Socket>, PostError>> + Send;
}
