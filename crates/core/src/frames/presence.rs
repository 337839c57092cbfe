use belfry_protocol::{Action, ChannelName, PresentInChannel};

use super::history::may;
use super::permission::Judge;
use super::rejection::Rejection;
use super::subscribe::PAGE_BYTES;
use crate::connections::Connection;
use crate::ports::{Authorizer, Metrics, Presence, Subscriptions};
use crate::presence::{PresenceSettings, present, within};
use crate::time::UnixMillis;

/// `presence`: who is present in a channel.
pub(super) async fn read<A: Authorizer, M: Metrics, S: Presence + Subscriptions>(
    judge: &Judge<'_, A, M>,
    store: &S,
    connection: &Connection,
    channel: ChannelName,
    settings: PresenceSettings,
    now: UnixMillis,
) -> Result<PresentInChannel, Rejection> {
    may(judge, store, connection, &channel, Action::Presence, now).await?;
    let present = present(store, &channel, settings).await?;
    Ok(PresentInChannel {
        present: within(present, &mut PAGE_BYTES.clone()),
        channel,
    })
}
