use std::time::Duration;

use belfry_protocol::{
    Address, AutoSubscribed, Envelope, FrameId, Limits, ServerFrame, Subscribed, Version, Welcome,
};
use futures_util::future::try_join_all;

use super::history::HistoryReader;
use crate::connections::Connection;
use crate::ports::{Clock, LogReads, Randomness, StoreError, Subscriptions};
use crate::time::UnixMillis;

/// What a connection is subscribed to.
pub(super) struct Subscribes {
    /// What the client has asked for.
    pub(super) asked: Option<Subscribed>,
    /// What a rule has done when the connection was opened.
    pub(super) auto: Vec<AutoSubscribed>,
}

/// `hello`: answered with what the client should know about its connection.
pub(super) fn reply(
    frame_id: Option<FrameId>,
    connection: &Connection,
    limits: Limits,
    subscribes: Subscribes,
    connection_lifetime: Duration,
    now: UnixMillis,
) -> ServerFrame {
    let connection_ends = connection.connected_at.plus(connection_lifetime);
    ServerFrame::Welcome(Envelope {
        version: Version,
        id: None,
        timestamp: Some(now.to_timestamp()),
        data: Welcome {
            connection_id: connection.id.clone(),
            user_id: connection.user_id.clone(),
            connected_at: connection.connected_at.to_timestamp(),
            token_expires_at: connection.token_expires_at.to_millis().to_timestamp(),
            connection_expires_at: connection_ends.to_timestamp(),
            limits,
            subscribed: subscribes.asked,
            auto_subscribed: subscribes.auto,
            keeps_locks: connection.first.is_some(),
        },
        correlation_id: frame_id,
    })
}

/// The channels that a rule has subscribed the connection to, unless it has left
/// them. Their positions are read after the subscriptions were written, so every
/// later message is posted.
pub(super) async fn auto_subscribed<S, C, R>(
    reader: &HistoryReader<'_, S, C, R>,
    connection: &Connection,
) -> Result<Vec<AutoSubscribed>, StoreError>
where
    S: LogReads + Subscriptions,
    C: Clock,
    R: Randomness,
{
    let channels = reader.rules.auto_subscribe(&connection.claims);
    if channels.is_empty() {
        return Ok(Vec::new());
    }
    let store = reader.log.store;
    let found = store.find_subscriptions(&connection.id, &channels).await?;
    let now = reader.now();
    let live = found.into_iter().filter(|one| !one.ends_at.has_passed(now));
    let named = live.map(async |one| {
        let log = reader.log_of(&Address::Channel(one.channel.clone()));
        let position = match log {
            Some(log) => Some(reader.log.newest(&log).await?),
            None => None,
        };
        Ok(AutoSubscribed {
            channel: one.channel,
            position,
        })
    });
    try_join_all(named).await
}
