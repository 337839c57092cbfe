use std::collections::BTreeSet;

use belfry_protocol::{Unsubscribe, Unsubscribed};

use super::rejection::Rejection;
use crate::connections::Connection;
use crate::ports::{Left, Subscriptions};
use crate::time::UnixMillis;

/// `unsubscribe`: ends subscriptions, whether or not they exist. Returns what
/// the connection has left.
pub(super) async fn handle<S: Subscriptions>(
    store: &S,
    connection: &Connection,
    frame: Unsubscribe,
    now: UnixMillis,
) -> Result<(Unsubscribed, Left), Rejection> {
    let channels: BTreeSet<_> = frame.channels.into_vec().into_iter().collect();
    let channels: Vec<_> = channels.into_iter().collect();
    let left = store.unsubscribe(connection, &channels, now).await?;
    let unsubscribed = Unsubscribed {
        channels,
        reason: None,
    };
    Ok((unsubscribed, left))
}
