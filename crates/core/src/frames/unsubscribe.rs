use std::collections::BTreeSet;

use belfry_protocol::{Unsubscribe, Unsubscribed};

use super::rejection::Rejection;
use crate::connections::Connection;
use crate::ports::Subscriptions;

/// `unsubscribe`: ends subscriptions, whether or not they exist.
pub(super) async fn handle<S: Subscriptions>(
    store: &S,
    connection: &Connection,
    frame: Unsubscribe,
) -> Result<Unsubscribed, Rejection> {
    let channels: BTreeSet<_> = frame.channels.into_vec().into_iter().collect();
    let channels: Vec<_> = channels.into_iter().collect();
    store.unsubscribe(&connection.id, &channels).await?;
    Ok(Unsubscribed {
        channels,
        reason: None,
    })
}
