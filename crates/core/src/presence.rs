//! Who is present in a channel.
//!
//! A user is present in a channel by one or more connections whose
//! subscriptions say so. The others are told when a user comes and goes, not
//! when a connection does.
//!
//! Invariants:
//! - A user joins by a write to the user's own item, so users who come together
//!   do not contend. That write says whether the user was there already.
//! - **A leave is due before the connection is taken out of the item.** So
//!   nobody who is at it can die and leave a user behind for ever: when the
//!   leave is due, a sweep looks whether the user has come back. If not, it
//!   makes the user absent, tells the others, and forgets the leave, in this
//!   order. A repetition tells them again.
//! - The times of a user's changes rise, whatever the clocks say, so a client can
//!   tell which of two announcements is the later one.
//! - Presence ends with its subscription, and a subscription with its
//!   connection: see `Departures`.

mod announcer;
#[cfg(test)]
mod tests;

use std::time::Duration;

use belfry_protocol::{ChannelName, Member, Present, PresentInChannel};

pub(crate) use announcer::{Announcement, Announcer, Change};

use crate::fitting::fitting;
use crate::ports::{Presence, PresentUsers, StoreError};

/// How presence is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresenceSettings {
    /// The most users in a channel who are announced one by one, and listed. Of
    /// more, only their number is announced.
    pub announced: usize,
}

/// The default of [`PresenceSettings::announced`].
pub const PRESENCE_ANNOUNCED: usize = 100;

/// How long a user who has lost the last connection stays present, by default.
pub const PRESENCE_GRACE: Duration = Duration::from_secs(60);

/// Who is present in a channel.
pub(crate) async fn present<S: Presence>(
    store: &S,
    channel: &ChannelName,
    settings: PresenceSettings,
) -> Result<Present, StoreError> {
    let PresentUsers { users, more } = store.present(channel, settings.announced).await?;
    let known = users.len() as u64;
    let count = if more {
        store.last_count(channel).await?.unwrap_or(0).max(known + 1)
    } else {
        known
    };
    let members = users.into_iter().map(|user| Member {
        user_id: user.user_id,
        connections: user.connections,
        info: user.info,
    });
    Ok(Present {
        members: members.collect(),
        count,
        more,
    })
}

/// Who is present in a channel, for a server or an operator.
///
/// # Errors
/// [`StoreError`].
pub async fn present_in<S: Presence>(
    store: &S,
    channel: ChannelName,
    settings: PresenceSettings,
) -> Result<PresentInChannel, StoreError> {
    Ok(PresentInChannel {
        present: present(store, &channel, settings).await?,
        channel,
    })
}

/// As many of the members as fit into the bytes that are left.
pub(crate) fn within(mut present: Present, bytes: &mut usize) -> Present {
    let all = present.members.len();
    present.members = fitting(present.members, bytes, serde_json::to_string);
    present.more |= present.members.len() < all;
    present
}
