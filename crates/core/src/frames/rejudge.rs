use std::time::Duration;

use belfry_protocol::{
    Action, Envelope, ErrorCode, MAX_CHANNELS, ServerFrame, Unsubscribed, Version,
};
use futures_util::future::join_all;

use super::permission::Judge;
use crate::connections::Connection;
use crate::ports::{Authorizer, Clock, Metrics, Outbox, StoreError, Subscriptions};

const POST_TIMEOUT: Duration = Duration::from_secs(2);

/// After a newer token: moves the ends of the connection's subscriptions, and
/// ends those that are no longer allowed.
pub(super) async fn rejudge<A: Authorizer, M: Metrics, S: Subscriptions, O: Outbox, C: Clock>(
    judge: &Judge<'_, A, M>,
    store: &S,
    outbox: &O,
    clock: &C,
    connection: &Connection,
) -> Result<(), StoreError> {
    let channels = store.channels(&connection.id).await?;
    let now = clock.now();
    let judged = channels.iter().map(|channel| {
        let allowed = judge.allows(connection, channel, Action::Subscribe, now);
        async move { (channel, allowed.await) }
    });
    let (mut kept, mut ended) = (Vec::new(), Vec::new());
    for (channel, allowed) in join_all(judged).await {
        match allowed {
            Some(allowed) => kept.push(allowed.subscription(channel)),
            None => ended.push(channel.clone()),
        }
    }
    if !kept.is_empty() {
        store.subscribe(connection, &kept, MAX_CHANNELS).await?;
    }
    if ended.is_empty() {
        return Ok(());
    }
    store.unsubscribe(&connection.id, &ended).await?;
    let told = ServerFrame::Unsubscribed(Envelope {
        version: Version,
        id: None,
        timestamp: Some(now.to_timestamp()),
        data: Unsubscribed {
            channels: ended,
            reason: Some(ErrorCode::Forbidden),
        },
        correlation_id: None,
    });
    let posted = outbox
        .post(&connection.id, &told.to_json(), POST_TIMEOUT)
        .await;
    if let Err(error) = posted {
        tracing::warn!(event = "connection.reason-not-sent", connectionId = %connection.id, reason = %error, "the client was not told that subscriptions have ended");
    }
    Ok(())
}
