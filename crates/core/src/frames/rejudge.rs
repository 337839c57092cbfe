use std::time::Duration;

use belfry_protocol::{
    Action, ChannelName, Envelope, ErrorCode, MAX_CHANNELS, ServerFrame, Unsubscribed, Version,
};
use futures_util::future::join_all;

use super::permission::Judge;
use crate::connections::Connection;
use crate::ports::{
    Authorizer, Clock, JoinsPresence, Left, Metrics, Outbox, StoreError, SubscribeResult,
    Subscriptions,
};

const POST_TIMEOUT: Duration = Duration::from_secs(2);

/// After a newer token: moves the ends of the connection's subscriptions, and
/// ends those that are no longer allowed. Returns what the connection has left.
pub(super) async fn rejudge<A: Authorizer, M: Metrics, S: Subscriptions, O: Outbox, C: Clock>(
    judge: &Judge<'_, A, M>,
    store: &S,
    outbox: &O,
    clock: &C,
    connection: &Connection,
) -> Result<Left, StoreError> {
    let channels = store.channels(&connection.id).await?;
    let before = store.find_subscriptions(&connection.id, &channels).await?;
    let was_present = |channel: &ChannelName| {
        let mut of_channel = before.iter().filter(|one| one.channel == *channel);
        of_channel.any(|one| one.presence == JoinsPresence::AsBefore)
    };
    let now = clock.now();
    let judged = channels.iter().map(|channel| {
        let allowed = judge.allows(connection.into(), channel, Action::Subscribe, now);
        async move { (channel, allowed.await) }
    });
    let (mut kept, mut ended) = (Vec::new(), Vec::new());
    for (channel, allowed) in join_all(judged).await {
        match allowed {
            Some(allowed) => {
                let stays = was_present(channel) && allowed.actions.contains(Action::Presence);
                let presence = if stays {
                    JoinsPresence::AsBefore
                } else {
                    JoinsPresence::No
                };
                kept.push(allowed.subscription(channel, presence));
            }
            None => ended.push(channel.clone()),
        }
    }
    let mut left = Left::default();
    if !kept.is_empty() {
        let subscribed = store
            .subscribe(connection, &kept, MAX_CHANNELS, now)
            .await?;
        if let SubscribeResult::Subscribed { leaves, .. } = subscribed {
            left.leaves.extend(leaves);
        }
    }
    if ended.is_empty() {
        return Ok(left);
    }
    let of_ended = store.unsubscribe(connection, &ended, now).await?;
    left.leaves.extend(of_ended.leaves);
    left.locks = of_ended.locks;
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
    Ok(left)
}
