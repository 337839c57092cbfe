use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use belfry_protocol::{ChannelName, ConnectionId, List, Target, UserId};
use futures_util::future::{join, try_join_all};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::content::{Content, Frames, Publisher};
use super::{Broadcast, BroadcastError, Post};
use crate::connections::{Recipient, shard_of};
use crate::log::LogKey;
use crate::ports::{
    Clock, Consistency, Cursor, Listing, LogAppends, LogReads, Metrics, Randomness, Recipients,
    Segment, StoreError, Subscribers,
};
use crate::time::UnixMillis;

/// Maximum concurrent queries if a broadcast names many users. Their connections
/// become one page, which must fit into a checkpoint if time runs out: 8 users
/// have at most 16,000, at twice the highest `MaxConnectionsPerUser`.
const QUERIES: usize = 8;

/// Connections in a page. Of named users there may be more: the last users of
/// a page may have as many as `MaxConnectionsPerUser` allows.
const PAGE: usize = 1_000;

/// How long after it was read a page is posted to. If posts are slow, what is
/// left is read again: the row alone tells that its session has ended if a
/// sign-out could not close the connection.
const FRESH: Duration = Duration::from_secs(30);

/// The recipients of a broadcast, each once.
#[derive(Debug)]
pub(super) struct Audience {
    members: Members,
    excluded: HashSet<ConnectionId>,
    /// If only a share of the connections is meant.
    share: Share,
    /// If those that are opened later are not meant: clients that come back are
    /// not asked again.
    opened_before: Option<UnixMillis>,
    /// Strong if the message is kept. A client that connects reads the log after
    /// its row is written, and the listing comes after the message was appended:
    /// so either the client finds the message, or the listing finds the client.
    /// Strong for several messages to users, too: only the rows say who accepts
    /// them in one frame.
    consistency: Consistency,
}

/// A share of all connections, which operators choose. The connections of a smaller share belong to a
/// larger one, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    percent: u32,
}

impl Share {
    const WHOLE: Self = Self { percent: 100 };

    pub(crate) fn of(percent: u32) -> Self {
        Self { percent }
    }

    pub(crate) fn has(self, id: &ConnectionId) -> bool {
        shard_of(id, 100) < self.percent
    }
}

#[derive(Debug)]
enum Members {
    Everyone,
    Users(Vec<UserId>),
    Connections(Vec<ConnectionId>),
    Subscribers(ChannelName, Listing),
}

/// A page of the recipients.
#[derive(Debug)]
pub(super) struct AudiencePage {
    /// What to post to open connections.
    pub(super) posts: Vec<Post>,
    /// Connections that the caller named and that are not open.
    pub(super) missing: Vec<ConnectionId>,
    /// Where the listing continues; `None` at the end.
    pub(super) next: Option<Cursor>,
    read_at: UnixMillis,
}

impl AudiencePage {
    /// From then on nobody is posted to because of this page.
    pub(super) fn fresh_until(&self) -> UnixMillis {
        self.read_at.plus(FRESH)
    }
}

impl Audience {
    pub(super) fn new(
        target: Target,
        exclude: Option<List<ConnectionId, 0, 1_000>>,
        is_kept: bool,
        is_batch: bool,
    ) -> Self {
        let to_users = matches!(target, Target::User { .. } | Target::Users { .. });
        let excluded = exclude.map(List::into_vec).unwrap_or_default();
        Self {
            members: target.into(),
            excluded: excluded.into_iter().collect(),
            share: Share::WHOLE,
            opened_before: None,
            consistency: if is_kept || is_batch && to_users {
                Consistency::Strong
            } else {
                Consistency::Eventual
            },
        }
    }

    /// The subscribers of a channel.
    pub(super) fn subscribers(
        channel: ChannelName,
        listing: Listing,
        exclude: Option<ConnectionId>,
    ) -> Self {
        Self {
            members: Members::Subscribers(channel, listing),
            excluded: exclude.into_iter().collect(),
            share: Share::WHOLE,
            opened_before: None,
            consistency: Consistency::Strong,
        }
    }

    /// A share of the connections that were opened before a time.
    pub(super) fn opened_before(time: UnixMillis, target: Target, share: Share) -> Self {
        let members = Members::from(target);
        Self {
            // Connections that are named are meant, whatever their clock says.
            opened_before: match members {
                Members::Connections(_) => None,
                _ => Some(time),
            },
            members,
            excluded: HashSet::new(),
            share,
            // One that was opened just before is meant, too.
            consistency: Consistency::Strong,
        }
    }

    fn has(&self, recipient: &Recipient) -> bool {
        let is_late = |time| recipient.connected_at > time;
        self.has_id(&recipient.id) && !self.opened_before.is_some_and(is_late)
    }

    fn has_id(&self, id: &ConnectionId) -> bool {
        self.share.has(id) && !self.excluded.contains(id)
    }

    /// The log that keeps a message to these recipients. `None` if there are
    /// several.
    pub(super) fn log(&self) -> Option<LogKey> {
        match &self.members {
            Members::Everyone => Some(LogKey::all()),
            Members::Subscribers(channel, _) => Some(LogKey::channel(channel.as_str())),
            Members::Users(users) => match users.as_slice() {
                [user] => Some(LogKey::user(user)),
                _ => None,
            },
            Members::Connections(_) => None,
        }
    }

    /// The users that were named.
    pub(super) fn users(&self) -> &[UserId] {
        match &self.members {
            Members::Users(users) => users,
            _ => &[],
        }
    }

    /// The channel whose subscribers these are.
    pub(super) fn channel(&self) -> Option<&ChannelName> {
        match &self.members {
            Members::Subscribers(channel, _) => Some(channel),
            _ => None,
        }
    }

    /// The number of users or connections that were named; `None` for everyone
    /// and for subscribers.
    pub(super) fn named(&self) -> Option<usize> {
        match &self.members {
            Members::Everyone | Members::Subscribers(..) => None,
            Members::Users(users) => Some(users.len()),
            Members::Connections(ids) => Some(ids.len()),
        }
    }
}

impl From<Target> for Members {
    fn from(target: Target) -> Self {
        // Sorted and distinct, so that an index says what comes next.
        fn distinct<T: Ord>(list: Vec<T>) -> Vec<T> {
            BTreeSet::from_iter(list).into_iter().collect()
        }
        match target {
            Target::All {} => Self::Everyone,
            Target::Channel { channel } => Self::Subscribers(channel, Listing::All),
            Target::User { user_id } => Self::Users(vec![user_id]),
            Target::Users { user_ids } => Self::Users(distinct(user_ids.into_vec())),
            Target::Connections { connection_ids } => {
                Self::Connections(distinct(connection_ids.into_vec()))
            }
        }
    }
}

/// Lists the recipients of broadcasts.
pub(super) struct Lister<'a, S, C, R, M> {
    pub(super) store: &'a S,
    pub(super) publisher: Publisher<'a, S, C, R, M>,
}

impl<S, C, R, M> Lister<'_, S, C, R, M>
where
    S: Recipients + Subscribers + LogAppends + LogReads,
    C: Clock,
    R: Randomness,
    M: Metrics,
{
    /// A page of a segment: connections whose row is live and whose token has
    /// not expired.
    pub(super) async fn page(
        &self,
        broadcast: &Broadcast,
        segment: Segment,
        from: Option<&Cursor>,
        now: UnixMillis,
    ) -> Result<AudiencePage, BroadcastError> {
        let (audience, content) = (&broadcast.audience, &broadcast.content);
        let (mut posts, missing, next) = match &audience.members {
            Members::Everyone => {
                let (after, consistency) = (after(from)?, audience.consistency);
                let page = self.store.scan(segment, after, consistency, now).await?;
                let posts = self.address(content, page.recipients).await?;
                (posts, Vec::new(), page.next.map(Cursor::After))
            }
            Members::Subscribers(channel, listing) => {
                let after = after(from)?;
                let subscribers = self
                    .store
                    .subscribers(channel, *listing, segment, after, PAGE, now);
                let page = subscribers.await?;
                let posts = self.address(content, page.recipients).await?;
                (posts, Vec::new(), page.next.map(Cursor::After))
            }
            Members::Users(users) => {
                let (mut posts, mut next) = (Vec::new(), from.cloned());
                loop {
                    let (some, after) = slice(users, segment, next.as_ref(), QUERIES)?;
                    let listings = some.iter().map(|user| self.to_user(broadcast, user, now));
                    posts.extend(try_join_all(listings).await?.into_iter().flatten());
                    next = after;
                    if next.is_none() || posts.len() >= PAGE {
                        break;
                    }
                }
                (posts, Vec::new(), next)
            }
            Members::Connections(ids) => {
                let (ids, next) = slice(ids, segment, from, PAGE)?;
                let page = self.of_ids(content, ids, next, now).await?;
                (page.posts, page.missing, page.next)
            }
        };
        posts.retain(|post| post.may_be_made(now));
        // A listing that lags may show a row twice.
        posts.sort_unstable();
        posts.dedup_by(|a, b| a.recipient.id == b.recipient.id);
        posts.retain(|post| audience.has(&post.recipient));
        let missing = missing.into_iter().filter(|id| audience.has_id(id));
        Ok(AudiencePage {
            posts,
            missing: missing.collect(),
            next,
            read_at: now,
        })
    }

    /// A page of connections whose listing is done.
    pub(super) async fn of_ids(
        &self,
        content: &Content,
        ids: &[ConnectionId],
        next: Option<Cursor>,
        now: UnixMillis,
    ) -> Result<AudiencePage, BroadcastError> {
        let found = self.store.of_ids(ids, now).await?;
        let mut posts = self.address(content, found).await?;
        posts.retain(|post| post.may_be_made(now));
        let open: HashSet<_> = posts.iter().map(|post| &post.recipient.id).collect();
        let missing = ids.iter().filter(|id| !open.contains(id));
        Ok(AudiencePage {
            missing: missing.cloned().collect(),
            posts,
            next,
            read_at: now,
        })
    }

    /// The posts to a user. If each user's message is kept, it is appended
    /// first.
    async fn to_user(
        &self,
        broadcast: &Broadcast,
        user: &UserId,
        now: UnixMillis,
    ) -> Result<Vec<Post>, BroadcastError> {
        let consistency = broadcast.audience.consistency;
        let listing = self.store.of_user(user, consistency, now);
        let (frames, recipients) = match &broadcast.content {
            Content::Frames(frames) => (frames.clone(), listing.await?),
            Content::Kept(message) => {
                let log = LogKey::user(user);
                let published = self.publisher.publish(message, &log).await?;
                let stored = self.publisher.store(&log, &published);
                let ((), recipients) = join(stored, listing).await;
                (published.frames, recipients?)
            }
        };
        Ok(posts(recipients, &frames))
    }

    /// The posts to recipients that were listed before.
    async fn address(
        &self,
        content: &Content,
        recipients: Vec<Recipient>,
    ) -> Result<Vec<Post>, BroadcastError> {
        let message = match content {
            Content::Frames(frames) => return Ok(posts(recipients, frames)),
            Content::Kept(message) => message,
        };
        let mut users = BTreeMap::<UserId, Vec<Recipient>>::new();
        for recipient in recipients {
            let user = recipient.user_id.clone();
            users.entry(user).or_default().push(recipient);
        }
        let addressed = users.into_iter().map(async |(user, recipients)| {
            let log = LogKey::user(&user);
            let published = self.publisher.find_or_publish(message, &log).await?;
            Ok::<_, BroadcastError>(posts(recipients, &published.frames))
        });
        let addressed = stream::iter(addressed).buffer_unordered(QUERIES);
        addressed.try_concat().await
    }
}

/// The frames that each recipient gets.
pub(super) fn posts(recipients: Vec<Recipient>, frames: &Frames) -> Vec<Post> {
    let addressed = recipients
        .into_iter()
        .map(|recipient| frames.to_recipient(recipient));
    addressed.collect()
}

/// The next items of a segment of a list, and the cursor after them.
fn slice<'a, T>(
    list: &'a [T],
    segment: Segment,
    from: Option<&Cursor>,
    size: usize,
) -> Result<(&'a [T], Option<Cursor>), StoreError> {
    let border = |index: u32| list.len() * index as usize / segment.total.max(1) as usize;
    let (first, end) = (border(segment.index), border(segment.index + 1));
    let begin = match from {
        None => first,
        Some(Cursor::Index(index)) if (first..=end).contains(index) => *index,
        Some(_) => return Err(foreign_cursor()),
    };
    let stop = (begin + size).min(end);
    let next = (stop < end).then_some(Cursor::Index(stop));
    Ok((&list[begin..stop], next))
}

/// The connection after which a listing of connections continues.
fn after(from: Option<&Cursor>) -> Result<Option<&ConnectionId>, StoreError> {
    match from {
        None => Ok(None),
        Some(Cursor::After(id)) => Ok(Some(id)),
        Some(Cursor::Index(_)) => Err(foreign_cursor()),
    }
}

/// Starting the segment again would post to everyone twice.
fn foreign_cursor() -> StoreError {
    StoreError {
        operation: "continuing a segment",
        cause: "the cursor does not belong to the broadcast's target".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::log::Appender;
    use crate::ports::BroadcastKey;
    use crate::testing::{
        FakeMetrics, FakeStore, START, SeededRandomness, TestClock, connection_id,
    };
    use belfry_protocol::MessageId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_segments_together_are_the_list(
            count in 0_usize..300,
            total in 1_u32..20,
            size in 1_usize..50,
        ) {
            let list: Vec<usize> = (0..count).collect();
            let mut seen = Vec::new();
            for index in 0..total {
                let mut from: Option<Cursor> = None;
                loop {
                    let segment = Segment { index, total };
                    let (items, next) = slice(&list, segment, from.as_ref(), size).unwrap();
                    prop_assert!(items.len() <= size);
                    seen.extend_from_slice(items);
                    from = next;
                    if from.is_none() {
                        break;
                    }
                }
            }
            prop_assert_eq!(seen, list);
        }
    }

    #[tokio::test]
    async fn a_cursor_of_another_target_is_an_error() {
        let (store, clock) = (FakeStore::default(), TestClock::default());
        let lister = Lister {
            store: &store,
            publisher: Publisher {
                appender: Appender {
                    store: &store,
                    clock: &clock,
                    random: &SeededRandomness::default(),
                    metrics: &FakeMetrics::default(),
                },
            },
        };
        let whole = Segment { index: 0, total: 1 };
        let second = Segment { index: 1, total: 2 };
        let users = ["a", "b", "c", "d"]
            .map(|user| format!("{user:?}"))
            .join(",");
        let users = format!(r#"{{"type":"users","userIds":[{users}]}}"#);
        let after = || Cursor::After(connection_id("c1"));
        for (target, segment, cursor) in [
            (r#"{"type":"all"}"#, whole, Cursor::Index(1)),
            (users.as_str(), whole, after()),
            (
                r#"{"type":"connections","connectionIds":["c1"]}"#,
                whole,
                after(),
            ),
            (users.as_str(), whole, Cursor::Index(5)),
            (users.as_str(), second, Cursor::Index(1)),
        ] {
            let broadcast = Broadcast {
                key: BroadcastKey {
                    id: MessageId::parse("m").unwrap(),
                    started_at: START,
                },
                content: Content::Frames(Frames::one("{}".into())),
                position: None,
                receipts: false,
                action: None,
                audience: Audience::new(serde_json::from_str(target).unwrap(), None, false, false),
                segments: segment.total,
            };
            let page = lister.page(&broadcast, segment, Some(&cursor), START).await;
            assert!(page.is_err(), "{target} {cursor}");
        }
    }
}
