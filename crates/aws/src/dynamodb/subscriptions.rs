//! Subscriptions: an item for each in the table `Subscriptions`, and the set of
//! a connection's channels in `State`.
//!
//! Invariants:
//! - Every subscription's channel is in its connection's set: a channel is
//!   added to the set before the subscription is written, and removed after it
//!   is deleted. So the set tells what to delete. When a connection ends, its
//!   set stays until its departure is due: a frame that has added a channel may
//!   still write the subscription.
//! - No subscription outlives its connection by more than a sweep. The frame
//!   that subscribes marks the row first and looks for it at the end; whoever
//!   removes a marked row notes a departure in the same transaction. If the
//!   frame does not find the row, it deletes what it has written. If it dies
//!   before that, the departure is due when no frame can be under way any more.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::{
    AttributeValue, DeleteRequest, PutRequest, ReturnValue, WriteRequest,
};
use belfry_core::channels::Actions;
use belfry_core::connections::{Connection, Recipient, shard_of};
use belfry_core::locks::release_all;
use belfry_core::ports::{
    JoinsPresence, Leave, Left, ListedLock, Listing, Locks, Segment, StoreError, SubscribeResult,
    SubscriberPage, Subscribers, Subscription, Subscriptions,
};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{Action, ChannelName, ConnectionId, UserId};
use futures_util::future::try_join_all;

use super::locks::{HOLDERS, listed_in};
use super::recipients::{Unreadable, skip_unreadable};
use super::row::{ACCEPTS_BATCH, Item, integer, member_key, number, string, text};
use super::transaction::send_past_transactions;
use super::{
    BATCH_ATTEMPTS, Consistency, DynamoDb, condition_failed, failed, sdk_failed, state, wanted,
    written,
};

const QUERY: &str = "Query";

const UPDATE: &str = "UpdateItem";

const BATCH_WRITE: &str = "BatchWriteItem";

/// DynamoDB's limit for one batch of writes.
const WRITES: usize = 25;

/// The values of the hash that orders a channel's subscribers.
const HASHES: u32 = 256;

impl Subscriptions for DynamoDb {
    async fn subscribe(
        &self,
        connection: &Connection,
        wanted: &[Subscription],
        most: usize,
        now: UnixMillis,
    ) -> Result<SubscribeResult, StoreError> {
        let before = self.add_channels(connection, wanted).await?;
        let is_new = |one: &&Subscription| !before.channels.contains(one.channel.as_str());
        let room = most.saturating_sub(before.channels.len());
        let too_many = wanted.iter().filter(is_new).skip(room);
        let too_many: Vec<_> = too_many.map(|one| one.channel.clone()).collect();
        if !too_many.is_empty() {
            self.drop_channels(&connection.id, &too_many).await?;
        }
        let wanted = wanted.iter().filter(|one| !too_many.contains(&one.channel));
        let wanted: Vec<_> = wanted.collect();
        // The others are told what comes of it, so it ends first.
        let ended = wanted.iter().filter(|one| {
            one.presence == JoinsPresence::No && before.present.contains(one.channel.as_str())
        });
        let ended: Vec<_> = ended.map(|one| &one.channel).collect();
        let leaves = self.leave_now(connection, &ended, now).await?;
        self.drop_present(&connection.id, &ended).await?;
        let mut puts = Vec::new();
        for one in &wanted {
            let put = PutRequest::builder().set_item(Some(item(connection, one)));
            let put = put.build().map_err(|error| failed(BATCH_WRITE, error))?;
            puts.push(WriteRequest::builder().put_request(put).build());
        }
        self.write_subscriptions(puts).await?;
        let joined = wanted.iter().filter_map(|one| match &one.presence {
            JoinsPresence::With(info) => Some(self.join(connection, &one.channel, info, now)),
            JoinsPresence::No | JoinsPresence::AsBefore => None,
        });
        let arrivals = try_join_all(joined).await?;
        if self.is_in_session(connection).await? {
            return Ok(SubscribeResult::Subscribed {
                too_many,
                arrivals: arrivals.into_iter().flatten().collect(),
                leaves,
            });
        }
        self.leave_channels(connection, now).await?;
        Ok(SubscribeResult::Ended)
    }

    async fn unsubscribe(
        &self,
        connection: &Connection,
        channels: &[ChannelName],
        now: UnixMillis,
    ) -> Result<Left, StoreError> {
        let id = &connection.id;
        let session = self.session(id).await?;
        let present = channels.iter();
        let present = present.filter(|channel| session.present.contains(channel.as_str()));
        let present: Vec<_> = present.collect();
        let leaves = self.leave_now(connection, &present, now).await?;
        self.delete_subscriptions(id, channels).await?;
        let mut locks = self.drop_channels(id, channels).await?.locks;
        if let Some(first) = &connection.first {
            locks = self.session(first).await?.locks;
        }
        locks.retain(|one| channels.contains(&one.key.channel));
        Ok(Left { leaves, locks })
    }

    async fn channels(&self, id: &ConnectionId) -> Result<Vec<ChannelName>, StoreError> {
        Ok(self.session(id).await?.channels())
    }

    async fn find_subscriptions(
        &self,
        id: &ConnectionId,
        channels: &[ChannelName],
    ) -> Result<Vec<Subscription>, StoreError> {
        let distinct: BTreeSet<_> = channels.iter().collect();
        if distinct.is_empty() {
            return Ok(Vec::new());
        }
        let keys = distinct.iter().map(|channel| subscription_key(channel, id));
        let keys = keys.collect();
        let attributes = "channel, endsAt, allowed, actions, isPresent";
        let wanted = wanted(keys, attributes, Consistency::Strong)?;
        let items = self.batch(&self.tables.subscriptions, wanted).await?;
        let read = |item: &Item| subscription(item).ok_or_else(malformed);
        items.iter().map(read).collect()
    }
}

impl Subscribers for DynamoDb {
    async fn subscribers(
        &self,
        channel: &ChannelName,
        listing: Listing,
        segment: Segment,
        after: Option<&ConnectionId>,
        limit: usize,
        now: UnixMillis,
    ) -> Result<SubscriberPage, StoreError> {
        let first = segment.index * HASHES / segment.total;
        let last = (segment.index + 1) * HASHES / segment.total;
        if first == last {
            return Ok(SubscriberPage {
                recipients: Vec::new(),
                next: None,
                about: 0,
            });
        }
        let mut query = self
            .client
            .query()
            .table_name(&self.tables.subscriptions)
            .key_condition_expression("channel = :channel AND #member BETWEEN :first AND :last")
            // `member` is a reserved word of DynamoDB.
            .expression_attribute_names("#member", "member")
            .filter_expression(match listing {
                Listing::All => "endsAt > :now",
                Listing::Present => "endsAt > :now AND attribute_exists(isPresent)",
                Listing::Allowed(_) => "endsAt > :now AND contains(actions, :action)",
            })
            .expression_attribute_values(":channel", text(channel.as_str()))
            .expression_attribute_values(":first", text(format!("c#{first:02x}")))
            .expression_attribute_values(":last", text(format!("c#{:02x}~", last - 1)))
            .expression_attribute_values(":now", number(now.to_seconds().0))
            .set_exclusive_start_key(after.map(|id| subscription_key(channel, id)))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .consistent_read(true);
        if let Listing::Allowed(action) = listing {
            query = query.expression_attribute_values(":action", text(action.as_str()));
        }
        let page = query.send().await;
        let page = page.map_err(|error| sdk_failed(QUERY, &error))?;
        let recipients = skip_unreadable(page.items().iter().map(|item| {
            recipient(item).ok_or_else(|| Unreadable {
                id: string(item, "member").unwrap_or_default().to_owned(),
                reason: MALFORMED.into(),
            })
        }));
        let next = match page.last_evaluated_key() {
            None => None,
            Some(last) => Some(connection_id(last).ok_or_else(malformed)?),
        };
        let read = u64::try_from(page.scanned_count()).unwrap_or(0);
        let about = match &next {
            None => read,
            // Subscribers are listed by their hash, which is even.
            Some(id) => {
                let covered = u64::from(shard_of(id, HASHES).saturating_sub(first) + 1);
                read * u64::from(last - first) / covered
            }
        };
        Ok(SubscriberPage {
            recipients,
            next,
            about,
        })
    }

    async fn remove_subscriber(
        &self,
        channel: &ChannelName,
        seen: &Recipient,
    ) -> Result<(), StoreError> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.tables.subscriptions)
            .set_key(Some(subscription_key(channel, &seen.id)))
            .condition_expression("connectedAt = :seen")
            .expression_attribute_values(":seen", number(seen.connected_at.0));
        written("DeleteItem", delete.send().await).map(drop)
    }
}

impl DynamoDb {
    /// Ends what a connection has in channels, its locks included. Its sets and
    /// its list stay.
    pub(super) async fn leave_channels(
        &self,
        connection: &Connection,
        left_at: UnixMillis,
    ) -> Result<(), StoreError> {
        let owner = connection.lock_owner();
        let locks = self.end_subscriptions(&connection.id, owner, left_at);
        let locks = locks.await?;
        release_all(self, owner, &locks).await.map(drop)
    }

    /// Deletes every subscription of a connection that has ended at a time, and
    /// ends its user's presence after the grace period. Its sets stay. Returns the
    /// list of locks, unless another connection holds them, too.
    pub(super) async fn end_subscriptions(
        &self,
        id: &ConnectionId,
        lock_owner: &ConnectionId,
        left_at: UnixMillis,
    ) -> Result<Vec<ListedLock>, StoreError> {
        let session = self.session(id).await?;
        self.delete_subscriptions(id, &session.channels()).await?;
        if let Some(user) = &session.user {
            let due_at = left_at.plus(self.presence_grace);
            let left = session.present().into_iter().map(async |channel| {
                let leave = Leave {
                    channel,
                    user: user.clone(),
                    connection: id.clone(),
                    due_at,
                };
                self.leave(&leave).await
            });
            try_join_all(left).await?;
        }
        if id == lock_owner && !session.has_holders {
            return Ok(session.locks);
        }
        self.leave_owner(id, lock_owner).await
    }

    /// Ends a user's presence by a connection in channels. Returns where that was
    /// the last one.
    async fn leave_now(
        &self,
        connection: &Connection,
        channels: &[&ChannelName],
        now: UnixMillis,
    ) -> Result<Vec<Leave>, StoreError> {
        let left = channels.iter().map(async |channel| {
            let leave = Leave {
                channel: (*channel).clone(),
                user: connection.user_id.clone(),
                connection: connection.id.clone(),
                due_at: now,
            };
            Ok::<_, StoreError>(self.leave(&leave).await?.then_some(leave))
        });
        Ok(try_join_all(left).await?.into_iter().flatten().collect())
    }

    async fn delete_subscriptions(
        &self,
        id: &ConnectionId,
        channels: &[ChannelName],
    ) -> Result<(), StoreError> {
        let mut deletes = Vec::new();
        for channel in channels {
            let delete = DeleteRequest::builder().set_key(Some(subscription_key(channel, id)));
            let delete = delete.build().map_err(|error| failed(BATCH_WRITE, error))?;
            deletes.push(WriteRequest::builder().delete_request(delete).build());
        }
        self.write_subscriptions(deletes).await
    }

    async fn session(&self, id: &ConnectionId) -> Result<Session, StoreError> {
        let session = self.item(&self.tables.state, state::session(id)).await?;
        Ok(Session::read(session.as_ref()))
    }

    /// Adds channels to a connection's sets. Returns what they held before.
    async fn add_channels(
        &self,
        connection: &Connection,
        wanted: &[Subscription],
    ) -> Result<Session, StoreError> {
        let names = wanted.iter().map(|one| one.channel.to_string()).collect();
        let present = wanted
            .iter()
            .filter(|one| one.presence != JoinsPresence::No);
        let present: Vec<_> = present.map(|one| one.channel.to_string()).collect();
        let sets = if present.is_empty() {
            "ADD channels :names"
        } else {
            "ADD channels :names, present :present"
        };
        let present = (!present.is_empty()).then_some(AttributeValue::Ss(present));
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::session(&connection.id)))
            .update_expression(format!("{sets} SET expiresAt = :end, userId = :user"))
            .expression_attribute_values(":names", AttributeValue::Ss(names))
            .expression_attribute_values(":end", number(state::session_expires_at(connection).0))
            .expression_attribute_values(":user", text(connection.user_id.as_str()))
            .return_values(ReturnValue::AllOld);
        let update = match present {
            Some(present) => update.expression_attribute_values(":present", present),
            None => update,
        };
        let updated = send_past_transactions(update).await;
        let updated = updated.map_err(|error| sdk_failed(UPDATE, &error))?;
        Ok(Session::read(updated.attributes()))
    }

    /// Takes channels out of a connection's sets. Returns what is left.
    async fn drop_channels(
        &self,
        id: &ConnectionId,
        channels: &[ChannelName],
    ) -> Result<Session, StoreError> {
        let names = channels.iter().map(ToString::to_string).collect();
        self.drop_names(id, "DELETE channels :names, present :names", names)
            .await
    }

    async fn drop_present(
        &self,
        id: &ConnectionId,
        channels: &[&ChannelName],
    ) -> Result<(), StoreError> {
        if channels.is_empty() {
            return Ok(());
        }
        let names = channels.iter().map(ToString::to_string).collect();
        let dropped = self.drop_names(id, "DELETE present :names", names);
        dropped.await.map(drop)
    }

    async fn drop_names(
        &self,
        id: &ConnectionId,
        expression: &str,
        names: Vec<String>,
    ) -> Result<Session, StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::session(id)))
            .update_expression(expression)
            // Creates nothing.
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":names", AttributeValue::Ss(names))
            .return_values(ReturnValue::AllNew);
        match send_past_transactions(update).await {
            Ok(updated) => Ok(Session::read(updated.attributes())),
            Err(error) if condition_failed(&error) => Ok(Session::read(None)),
            Err(error) => Err(sdk_failed(UPDATE, &error)),
        }
    }

    async fn write_subscriptions(&self, writes: Vec<WriteRequest>) -> Result<(), StoreError> {
        self.write_batches(&self.tables.subscriptions, writes).await
    }

    /// Writes the items of a table, batch by batch.
    pub(super) async fn write_batches(
        &self,
        table: &str,
        writes: Vec<WriteRequest>,
    ) -> Result<(), StoreError> {
        for batch in writes.chunks(WRITES) {
            let mut wanted = HashMap::from([(table.to_owned(), batch.to_vec())]);
            for attempt in 0.. {
                let write = self.client.batch_write_item();
                let written = write.set_request_items(Some(wanted)).send().await;
                let written = written.map_err(|error| sdk_failed(BATCH_WRITE, &error))?;
                wanted = written.unprocessed_items.unwrap_or_default();
                if wanted.is_empty() {
                    break;
                }
                if attempt == BATCH_ATTEMPTS {
                    return Err(failed(BATCH_WRITE, "some items were never processed"));
                }
                tokio::time::sleep(std::time::Duration::from_millis(20 << attempt)).await;
            }
        }
        Ok(())
    }
}

/// The key of a subscription. Its hash spreads the subscribers of a channel
/// evenly, so that ranges of it are segments.
fn subscription_key(channel: &ChannelName, id: &ConnectionId) -> Item {
    let member = format!("c#{:02x}#{id}", shard_of(id, HASHES));
    member_key(channel.as_str(), &member)
}

fn item(connection: &Connection, subscription: &Subscription) -> Item {
    let mut item = subscription_key(&subscription.channel, &connection.id);
    item.extend([
        ("userId".into(), text(connection.user_id.as_str())),
        ("connectedAt".into(), number(connection.connected_at.0)),
        ("endsAt".into(), number(subscription.ends_at.0)),
        ("expiresAt".into(), number(connection.expires_at.0)),
    ]);
    if subscription.presence != JoinsPresence::No {
        item.insert("isPresent".into(), AttributeValue::Bool(true));
    }
    if connection.accepts_batch {
        item.insert(ACCEPTS_BATCH.into(), AttributeValue::Bool(true));
    }
    if let Some(allowed) = subscription.allowed {
        item.insert("allowed".into(), names(allowed));
    }
    // DynamoDB has no empty sets.
    if !subscription.actions.is_empty() {
        item.insert("actions".into(), names(subscription.actions));
    }
    item
}

fn names(actions: Actions) -> AttributeValue {
    AttributeValue::Ss(actions.iter().map(|one| one.as_str().to_owned()).collect())
}

fn actions(names: &AttributeValue) -> Option<Actions> {
    let names = names.as_ss().ok()?;
    let known = Action::ALL.into_iter();
    Some(
        known
            .filter(|action| names.iter().any(|name| name == action.as_str()))
            .collect(),
    )
}

fn subscription(item: &Item) -> Option<Subscription> {
    let allowed = match item.get("allowed") {
        None => None,
        Some(names) => Some(actions(names)?),
    };
    Some(Subscription {
        channel: ChannelName::parse(string(item, "channel").ok()?).ok()?,
        ends_at: UnixSeconds(integer(item, "endsAt").ok()?),
        allowed,
        presence: if item.contains_key("isPresent") {
            JoinsPresence::AsBefore
        } else {
            JoinsPresence::No
        },
        // Subscriptions of before have none.
        actions: item
            .get("actions")
            .map_or(Some(Actions::default()), actions)?,
    })
}

fn recipient(item: &Item) -> Option<Recipient> {
    Some(Recipient {
        id: connection_id(item)?,
        user_id: UserId::parse(string(item, "userId").ok()?).ok()?,
        connected_at: UnixMillis(integer(item, "connectedAt").ok()?),
        token_expires_at: UnixSeconds(integer(item, "endsAt").ok()?),
        accepts_batch: item.contains_key(ACCEPTS_BATCH),
    })
}

fn connection_id(item: &Item) -> Option<ConnectionId> {
    let (_, id) = string(item, "member")
        .ok()?
        .strip_prefix("c#")?
        .split_once('#')?;
    ConnectionId::parse(id).ok()
}

/// The channels of a connection.
struct Session {
    channels: BTreeSet<String>,
    /// Those in which its user may be present by it.
    present: BTreeSet<String>,
    /// `None` if it never subscribed.
    user: Option<UserId>,
    /// Those that it holds or may hold.
    locks: Vec<ListedLock>,
    /// Whether connections that have replaced it hold them, too.
    has_holders: bool,
}

impl Session {
    fn read(item: Option<&Item>) -> Self {
        let names = |attribute: &str| {
            let set = item.and_then(|item| item.get(attribute)?.as_ss().ok());
            set.into_iter().flatten().cloned().collect()
        };
        let user = item.and_then(|item| string(item, "userId").ok());
        Self {
            channels: names("channels"),
            present: names("present"),
            user: user.and_then(|user| UserId::parse(user).ok()),
            locks: listed_in(item),
            has_holders: item.is_some_and(|item| item.contains_key(HOLDERS)),
        }
    }

    fn channels(&self) -> Vec<ChannelName> {
        parsed(&self.channels)
    }

    fn present(&self) -> Vec<ChannelName> {
        parsed(&self.present)
    }
}

fn parsed(names: &BTreeSet<String>) -> Vec<ChannelName> {
    let names = names.iter();
    names
        .filter_map(|name| ChannelName::parse(name).ok())
        .collect()
}

const MALFORMED: &str = "a malformed subscription";

fn malformed() -> StoreError {
    failed(QUERY, MALFORMED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_connection_whatever_the_id_contains() {
        let channel = ChannelName::parse("room:7").unwrap();
        for id in ["R0oXAdfD0kwCH6w=", "a#b#c", "#", "~"] {
            let id = ConnectionId::parse(id).unwrap();
            assert_eq!(connection_id(&subscription_key(&channel, &id)), Some(id));
        }
    }
}
