//! Locks: an item for each in its channel's partition of `Subscriptions`, and
//! the list of an owner's locks in the item of `State` that has the channels of
//! the connection of that name. If others have replaced it, the set `holders`
//! there names the connections that are left.
//!
//! An item stays when its lock is released, with `lockedUntil` 0, because the
//! next fencing number must be higher. It expires a day after its last end; by
//! then the time is higher than the number.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use belfry_core::UnixMillis;
use belfry_core::connections::Connection;
use belfry_core::ports::{
    FreeLock, ListedLock, LockKey, LockPage, LockState, Locks, StoreError, Swapped,
};
use belfry_protocol::{ChannelName, ConnectionId, LockName, UserId};

use super::row::{Item, integer, member_key, number, string, text};
use super::transaction::send_past_transactions;
use super::{DynamoDb, failed, key as row_key, row, sdk_failed, state, written};

/// How long an item is kept after its lock's end.
const KEPT: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

const UPDATE: &str = "UpdateItem";

const QUERY: &str = "Query";

const MALFORMED: &str = "a malformed lock";

/// The prefix of the sort keys of locks.
const LOCKS: &str = "l#";

/// Only of a lock that an operator has released.
const REVOKED: &str = "isRevoked";

const SET_LOCK: &str = "SET userId = :user, connectionId = :id, connectedAt = :connected, \
     lockedUntil = :until, fencing = :fencing, expiresAt = :end";

/// The connections of an owner that has more than one.
pub(super) const HOLDERS: &str = "holders";

/// The most locks of a channel that a listing reads, free ones included.
const READ: i32 = 1_000;

impl Locks for DynamoDb {
    async fn find_lock(&self, key: &LockKey) -> Result<Option<LockState>, StoreError> {
        let item = self.item(&self.tables.subscriptions, item_key(key)).await?;
        item.as_ref().map(lock).transpose()
    }

    async fn held_locks(
        &self,
        channel: &ChannelName,
        limit: usize,
        now: UnixMillis,
    ) -> Result<LockPage, StoreError> {
        let page = self
            .client
            .query()
            .table_name(&self.tables.subscriptions)
            .key_condition_expression("channel = :channel AND begins_with(#member, :locks)")
            .filter_expression("lockedUntil > :now")
            // `member` is a reserved word of DynamoDB.
            .expression_attribute_names("#member", "member")
            .expression_attribute_values(":channel", text(channel.as_str()))
            .expression_attribute_values(":locks", text(LOCKS))
            .expression_attribute_values(":now", number(now.0))
            .limit(READ)
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| sdk_failed(QUERY, &error))?;
        let of_page = page.items().iter().map(|item| {
            let read = || LockName::parse(string(item, "member").ok()?.strip_prefix(LOCKS)?).ok();
            let name = read().ok_or_else(|| failed(QUERY, MALFORMED))?;
            Ok((name, lock(item)?))
        });
        let mut locks = of_page.collect::<Result<Vec<_>, StoreError>>()?;
        let more = locks.len() > limit || page.last_evaluated_key().is_some();
        locks.truncate(limit);
        Ok(LockPage { locks, more })
    }

    async fn list_lock(
        &self,
        connection: &Connection,
        lock: &ListedLock,
        most: usize,
    ) -> Result<bool, StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::session(connection.lock_owner())))
            .update_expression("ADD heldLocks :names SET expiresAt = :end")
            .condition_expression(
                "attribute_not_exists(heldLocks) OR size(heldLocks) < :most \
                 OR contains(heldLocks, :name)",
            )
            .expression_attribute_values(":names", AttributeValue::Ss(vec![listed(lock)]))
            .expression_attribute_values(":name", text(listed(lock)))
            .expression_attribute_values(":most", number(most as u64))
            .expression_attribute_values(":end", number(state::session_expires_at(connection).0));
        written(UPDATE, send_past_transactions(update).await)
    }

    async fn listed_locks(&self, owner: &ConnectionId) -> Result<Vec<ListedLock>, StoreError> {
        let session = self.item(&self.tables.state, state::session(owner)).await?;
        Ok(listed_in(session.as_ref()))
    }

    async fn unlist_locks(
        &self,
        owner: &ConnectionId,
        locks: &[ListedLock],
    ) -> Result<(), StoreError> {
        let names = locks.iter().map(listed).collect();
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::session(owner)))
            .update_expression("DELETE heldLocks :names")
            // Creates nothing.
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":names", AttributeValue::Ss(names));
        written(UPDATE, send_past_transactions(update).await).map(drop)
    }

    async fn swap_lock(
        &self,
        key: &LockKey,
        seen: Option<&LockState>,
        new: &LockState,
    ) -> Result<Swapped, StoreError> {
        let mut update = self
            .client
            .update_item()
            .table_name(&self.tables.subscriptions)
            .set_key(Some(item_key(key)))
            .update_expression(if new.is_revoked {
                format!("{SET_LOCK}, {REVOKED} = :revoked")
            } else {
                format!("{SET_LOCK} REMOVE {REVOKED}")
            })
            .expression_attribute_values(":user", text(new.user_id.as_str()))
            .expression_attribute_values(":id", text(new.owner.as_str()))
            .expression_attribute_values(":connected", number(new.connected_at.0))
            .expression_attribute_values(":until", number(new.until.0))
            .expression_attribute_values(":fencing", number(new.fencing))
            .expression_attribute_values(":end", number(new.until.plus(KEPT).to_seconds().0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if new.is_revoked {
            update = update.expression_attribute_values(":revoked", AttributeValue::Bool(true));
        }
        update = match seen {
            None => update.condition_expression("attribute_not_exists(channel)"),
            // A fencing number belongs to one holder.
            Some(seen) => update
                .condition_expression(
                    "fencing = :seenFencing AND lockedUntil = :seenUntil \
                     AND connectedAt = :seenConnected",
                )
                .expression_attribute_values(":seenConnected", number(seen.connected_at.0))
                .expression_attribute_values(":seenFencing", number(seen.fencing))
                .expression_attribute_values(":seenUntil", number(seen.until.0)),
        };
        match update.send().await {
            Ok(_) => Ok(Swapped::Yes),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    let now = refused.item().map(lock).transpose()?;
                    Ok(Swapped::No(now))
                }
                _ => Err(sdk_failed(UPDATE, &error)),
            },
        }
    }

    async fn release_lock(
        &self,
        key: &LockKey,
        owner: &ConnectionId,
        opened_by: UnixMillis,
    ) -> Result<Option<FreeLock>, StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.subscriptions)
            .set_key(Some(item_key(key)))
            .update_expression("SET lockedUntil = :released")
            .condition_expression("connectionId = :id AND connectedAt <= :openedBy")
            .expression_attribute_values(":openedBy", number(opened_by.0))
            .expression_attribute_values(":released", number(0))
            .expression_attribute_values(":id", text(owner.as_str()))
            .return_values(ReturnValue::AllNew);
        match update.send().await {
            Ok(released) => {
                let item = released.attributes.unwrap_or_default();
                Ok(Some(FreeLock {
                    key: key.clone(),
                    fencing: lock(&item)?.fencing,
                }))
            }
            Err(error) if super::condition_failed(&error) => Ok(None),
            Err(error) => Err(sdk_failed(UPDATE, &error)),
        }
    }

    async fn is_in_session(&self, connection: &Connection) -> Result<bool, StoreError> {
        let item = self
            .item(&self.tables.connections, row_key(&connection.id))
            .await?;
        let Some(item) = item else { return Ok(false) };
        let row = row::connection(&item).map_err(|error| failed("GetItem", error))?;
        Ok(row.connected_at == connection.connected_at && !row.is_signed_out())
    }
}

impl DynamoDb {
    /// Makes a connection hold the locks of the one that it replaces.
    pub(super) fn join_owner(
        &self,
        connection: &Connection,
        old: &Connection,
    ) -> Result<TransactWriteItem, StoreError> {
        let both = vec![old.id.to_string(), connection.id.to_string()];
        let update = Update::builder()
            .table_name(&self.tables.state)
            .set_key(Some(state::session(old.lock_owner())))
            .update_expression("ADD holders :both SET expiresAt = :end")
            .expression_attribute_values(":both", AttributeValue::Ss(both))
            .expression_attribute_values(":end", number(state::session_expires_at(connection).0))
            .build()
            .map_err(|error| failed("TransactWriteItems", error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// Takes a connection that has ended off the set of its owner. Returns the
    /// owner's locks if it was the last one.
    pub(super) async fn leave_owner(
        &self,
        id: &ConnectionId,
        owner: &ConnectionId,
    ) -> Result<Vec<ListedLock>, StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.state)
            .set_key(Some(state::session(owner)))
            .update_expression("DELETE holders :id")
            // Creates nothing.
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":id", AttributeValue::Ss(vec![id.to_string()]))
            .return_values(ReturnValue::AllNew);
        let left = match send_past_transactions(update).await {
            Ok(updated) => updated.attributes,
            Err(error) if super::condition_failed(&error) => None,
            Err(error) => return Err(sdk_failed(UPDATE, &error)),
        };
        // DynamoDB has no empty sets.
        let left = left.filter(|left| !left.contains_key(HOLDERS));
        Ok(listed_in(left.as_ref()))
    }
}

/// The locks in the item of a connection.
pub(super) fn listed_in(session: Option<&Item>) -> Vec<ListedLock> {
    let names = session.and_then(|session| session.get("heldLocks")?.as_ss().ok());
    let names = names.into_iter().flatten();
    names.filter_map(|name| parse(name)).collect()
}

fn item_key(key: &LockKey) -> Item {
    member_key(key.channel.as_str(), &format!("{LOCKS}{}", key.name))
}

/// A lock in a connection's list. No name contains a space.
fn listed(lock: &ListedLock) -> String {
    let ListedLock { key, fencing } = lock;
    format!("{} {} {fencing}", key.channel, key.name)
}

fn parse(listed: &str) -> Option<ListedLock> {
    let (lock, fencing) = listed.rsplit_once(' ')?;
    let (channel, name) = lock.split_once(' ')?;
    Some(ListedLock {
        key: LockKey {
            channel: ChannelName::parse(channel).ok()?,
            name: LockName::parse(name).ok()?,
        },
        fencing: fencing.parse().ok()?,
    })
}

fn lock(item: &Item) -> Result<LockState, StoreError> {
    let read = || {
        Some(LockState {
            user_id: UserId::parse(string(item, "userId").ok()?).ok()?,
            owner: ConnectionId::parse(string(item, "connectionId").ok()?).ok()?,
            connected_at: UnixMillis(integer(item, "connectedAt").ok()?),
            until: UnixMillis(integer(item, "lockedUntil").ok()?),
            is_revoked: item.contains_key(REVOKED),
            fencing: integer(item, "fencing").ok()?,
        })
    };
    read().ok_or_else(|| failed("GetItem", MALFORMED))
}
