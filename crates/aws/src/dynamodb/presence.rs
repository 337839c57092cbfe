//! Presence in the table `Subscriptions`: an item for each user in a channel,
//! `u#<userId>`, with the set of the user's connections there.
//!
//! `belfry_core::presence` states the invariants. A user who has left stays as
//! an absent item for an hour, so that the times of the user's changes rise.

use std::time::Duration;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure, Select,
};
use belfry_core::UnixMillis;
use belfry_core::connections::{Connection, shard_of};
use belfry_core::hooks::PendingEvent;
use belfry_core::ports::{
    Arrival, DueCount, Leave, LeaveOutcome, Presence, PresentUser, PresentUsers, StoreError,
};
use belfry_protocol::{ChannelName, PresenceInfo, UserId};

use super::departures::{due_item, due_key};
use super::row::{Item, integer, member_key, number, string, text};
use super::transaction::send_past_transactions;
use super::{DynamoDb, failed, sdk_failed, state, written};

const QUERY: &str = "Query";

const UPDATE: &str = "UpdateItem";

/// How long an absent user's item is kept.
const ABSENT: Duration = Duration::from_secs(60 * 60);

/// How often a change is written while others change the same user.
const ATTEMPTS: u32 = 8;

/// Counts are due at multiples of this, so that many arrivals make one due.
const COUNT_EVERY: u64 = 60_000;

pub(super) const LEAVE: &str = "leave";

pub(super) const COUNT: &str = "count";

impl Presence for DynamoDb {
    async fn present(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<PresentUsers, StoreError> {
        let (mut users, mut from) = (Vec::new(), None);
        // A page can be empty before the end: absent users are left out.
        loop {
            let page = self
                .users_of(channel)
                .set_exclusive_start_key(from)
                .limit(i32::try_from(limit).unwrap_or(i32::MAX).saturating_add(1))
                .send()
                .await
                .map_err(|error| sdk_failed(QUERY, &error))?;
            users.extend(page.items().iter().filter_map(present_user));
            from = page.last_evaluated_key;
            if from.is_none() || users.len() > limit {
                break;
            }
        }
        let more = users.len() > limit;
        users.truncate(limit);
        Ok(PresentUsers { users, more })
    }

    async fn announced(&self, channel: &ChannelName, user: &UserId) -> Result<(), StoreError> {
        let update = self
            .update_user(channel, user)
            .update_expression("SET isAnnounced = :yes")
            .condition_expression("attribute_exists(channel) AND attribute_not_exists(absentBy)")
            .expression_attribute_values(":yes", AttributeValue::Bool(true));
        written(UPDATE, send_past_transactions(update).await).map(drop)
    }

    async fn make_absent(
        &self,
        leave: &Leave,
        now: UnixMillis,
    ) -> Result<LeaveOutcome, StoreError> {
        let name = format!("{}#{}", leave.due_at.0, leave.connection);
        let mut at = now;
        for _ in 0..ATTEMPTS {
            let end = at.plus(ABSENT).to_seconds();
            let update = self
                .update_user(&leave.channel, &leave.user)
                .update_expression(
                    "SET absentBy = :by, changedAt = :at, expiresAt = :end REMOVE isAnnounced",
                )
                .condition_expression(
                    "leavesAt <= :now AND attribute_not_exists(connections) AND attribute_not_exists(absentBy) AND changedAt < :at",
                )
                .expression_attribute_values(":by", text(&name))
                .expression_attribute_values(":now", number(now.0))
                .expression_attribute_values(":at", number(at.0))
                .expression_attribute_values(":end", number(end.0))
                .return_values_on_condition_check_failure(
                    ReturnValuesOnConditionCheckFailure::AllOld,
                );
            let event = PendingEvent::left(&leave.channel, &leave.user, at);
            let old = match Box::pin(self.update_with_event(update, Some(&event))).await? {
                None => return Ok(LeaveOutcome::Absent(at)),
                Some(old) => old,
            };
            let left = integer(&old, "leavesAt").is_ok_and(|left| left <= now.0);
            let changed_at = UnixMillis(integer(&old, "changedAt").unwrap_or(0));
            let absent_by = string(&old, "absentBy").ok();
            if !left || old.contains_key(CONNECTIONS) {
                let info = string(&old, "info").ok().and_then(PresenceInfo::from_json);
                let unannounced =
                    info.filter(|_| absent_by.is_none() && !old.contains_key("isAnnounced"));
                return Ok(match unannounced {
                    None => LeaveOutcome::AsKnown,
                    Some(info) => LeaveOutcome::Unannounced(Arrival {
                        channel: leave.channel.clone(),
                        info,
                        is_update: true,
                        at: changed_at,
                    }),
                });
            }
            if let Some(by) = absent_by {
                return Ok(if by == name {
                    LeaveOutcome::Absent(changed_at)
                } else {
                    LeaveOutcome::AsKnown
                });
            }
            at = changed_at.plus(Duration::from_millis(1));
        }
        Err(failed(UPDATE, "the user changed at every attempt"))
    }

    async fn forget_leave(&self, leave: &Leave) -> Result<(), StoreError> {
        self.delete(&self.tables.state, leave_key(leave)).await
    }

    async fn count_later(&self, channel: &ChannelName, now: UnixMillis) -> Result<(), StoreError> {
        let due = DueCount {
            channel: channel.clone(),
            due_at: UnixMillis((now.0 / COUNT_EVERY + 1) * COUNT_EVERY),
        };
        let item = due_item(count_key(&due), due.due_at, [("channel", channel.as_str())]);
        self.put_state(item).await
    }

    async fn count(&self, channel: &ChannelName, now: UnixMillis) -> Result<u64, StoreError> {
        let mut pages = self
            .users_of(channel)
            .select(Select::Count)
            .into_paginator()
            .send();
        let mut count = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| sdk_failed(QUERY, &error))?;
            count += u64::try_from(page.count()).unwrap_or(0);
        }
        let put = self
            .client
            .put_item()
            .table_name(&self.tables.subscriptions)
            .set_item(Some(counted_key(channel)))
            .item("count", number(count))
            .item("expiresAt", number(now.plus(ABSENT).to_seconds().0));
        let put = put.send().await;
        put.map_err(|error| sdk_failed("PutItem", &error))?;
        Ok(count)
    }

    async fn last_count(&self, channel: &ChannelName) -> Result<Option<u64>, StoreError> {
        let item = self
            .item(&self.tables.subscriptions, counted_key(channel))
            .await?;
        Ok(item.and_then(|item| integer(&item, "count").ok()))
    }

    async fn forget_count(&self, due: &DueCount) -> Result<(), StoreError> {
        self.delete(&self.tables.state, count_key(due)).await
    }
}

impl DynamoDb {
    /// Makes a user present by a connection. Returns what the others are to be
    /// told, if anything.
    pub(super) async fn join(
        &self,
        connection: &Connection,
        channel: &ChannelName,
        info: &PresenceInfo,
        now: UnixMillis,
    ) -> Result<Option<Arrival>, StoreError> {
        let json = info.to_json();
        // Any user's row may live that long.
        let end = state::user_expires_at(now);
        // Most often nothing changes for the others: another tab of the user.
        let unchanged = self
            .update_user(channel, &connection.user_id)
            .update_expression("ADD connections :id SET expiresAt = :end")
            .condition_expression(
                "attribute_exists(isAnnounced) AND attribute_not_exists(absentBy) AND info = :info",
            )
            .expression_attribute_values(":id", one(connection.id.as_str()))
            .expression_attribute_values(":end", number(end.0))
            .expression_attribute_values(":info", text(&json))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Some(mut old) = self.update_with_event(unchanged, None).await? else {
            return Ok(None);
        };
        for _ in 0..ATTEMPTS {
            let before = integer(&old, "changedAt").unwrap_or(0);
            let at = now.max(UnixMillis(before + 1));
            let is_update = old.contains_key("isAnnounced") && !old.contains_key("absentBy");
            let change = self
                .update_user(channel, &connection.user_id)
                .update_expression(
                    "ADD connections :id SET info = :info, changedAt = :at, expiresAt = :end REMOVE absentBy, isAnnounced",
                )
                .condition_expression("attribute_not_exists(changedAt) OR changedAt = :before")
                .expression_attribute_values(":id", one(connection.id.as_str()))
                .expression_attribute_values(":info", text(&json))
                .expression_attribute_values(":at", number(at.0))
                .expression_attribute_values(":end", number(end.0))
                .expression_attribute_values(":before", number(before))
                .return_values_on_condition_check_failure(
                    ReturnValuesOnConditionCheckFailure::AllOld,
                );
            // The others may not know of the last arrival, but the application does.
            let was_absent = before == 0 || old.contains_key("absentBy");
            let event = PendingEvent::joined(channel, &connection.user_id, at);
            let event = was_absent.then_some(&event);
            match Box::pin(self.update_with_event(change, event)).await? {
                None => {
                    return Ok(Some(Arrival {
                        channel: channel.clone(),
                        info: info.clone(),
                        is_update,
                        at,
                    }));
                }
                Some(now_there) => old = now_there,
            }
        }
        Err(failed(UPDATE, "the user changed at every attempt"))
    }

    /// Ends a user's presence by a connection. Returns whether that was the last
    /// one.
    ///
    /// Invariant: the leave is due before the connection leaves the set, so
    /// whoever does this may die and the user does not stay. A repetition finds
    /// that the connection has left, and keeps what is due.
    pub(super) async fn leave(&self, leave: &Leave) -> Result<bool, StoreError> {
        let attributes = [
            ("channel", leave.channel.as_str()),
            ("userId", leave.user.as_str()),
            ("connectionId", leave.connection.as_str()),
        ];
        self.put_state(due_item(leave_key(leave), leave.due_at, attributes))
            .await?;
        let update = self
            .update_user(&leave.channel, &leave.user)
            .update_expression("DELETE connections :id SET leavesAt = :due")
            .condition_expression("contains(connections, :one)")
            .expression_attribute_values(":id", one(leave.connection.as_str()))
            .expression_attribute_values(":one", text(leave.connection.as_str()))
            .expression_attribute_values(":due", number(leave.due_at.0))
            .return_values(ReturnValue::AllNew);
        // If others are left, or the connection had left before, the sweep finds
        // that out.
        match send_past_transactions(update).await {
            Ok(output) => {
                let user = output.attributes.unwrap_or_default();
                Ok(!user.contains_key(CONNECTIONS))
            }
            Err(error) if super::condition_failed(&error) => Ok(false),
            Err(error) => Err(sdk_failed(UPDATE, &error)),
        }
    }

    /// A query of the users who are present in a channel.
    fn users_of(&self, channel: &ChannelName) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.tables.subscriptions)
            .key_condition_expression("channel = :channel AND begins_with(#member, :users)")
            .filter_expression("attribute_not_exists(absentBy)")
            // `member` is a reserved word of DynamoDB.
            .expression_attribute_names("#member", "member")
            .expression_attribute_values(":channel", text(channel.as_str()))
            .expression_attribute_values(":users", text(USERS))
            .consistent_read(true)
    }

    fn update_user(&self, channel: &ChannelName, user: &UserId) -> UpdateItemFluentBuilder {
        let update = self.client.update_item();
        update
            .table_name(&self.tables.subscriptions)
            .set_key(Some(user_key(channel, user)))
    }

    async fn put_state(&self, item: Item) -> Result<(), StoreError> {
        let put = self.client.put_item().table_name(&self.tables.state);
        let put = put.set_item(Some(item)).send().await;
        put.map(drop).map_err(|error| sdk_failed("PutItem", &error))
    }
}

/// The attribute with the set of a user's connections. DynamoDB removes it with
/// its last member.
const CONNECTIONS: &str = "connections";

/// The prefix of the sort keys of users.
const USERS: &str = "u#";

fn user_key(channel: &ChannelName, user: &UserId) -> Item {
    member_key(channel.as_str(), &format!("{USERS}{user}"))
}

fn counted_key(channel: &ChannelName) -> Item {
    member_key(channel.as_str(), "p#count")
}

/// Each connection has a due item of its own: another one of the user may leave
/// in the same millisecond.
fn leave_key(leave: &Leave) -> Item {
    let id = &leave.connection;
    due_key(
        LEAVE,
        leave.due_at,
        shard_of(id, super::departures::SHARDS),
        &format!("{id}#{}", leave.channel),
    )
}

fn count_key(due: &DueCount) -> Item {
    // Spread over the shards by time.
    let shard = u32::try_from(due.due_at.0 / COUNT_EVERY % u64::from(super::departures::SHARDS));
    due_key(COUNT, due.due_at, shard.unwrap_or(0), due.channel.as_str())
}

/// Reads a leave that is due.
pub(super) fn due_leave(item: &Item, due_at: UnixMillis) -> Option<Leave> {
    Some(Leave {
        channel: ChannelName::parse(string(item, "channel").ok()?).ok()?,
        user: UserId::parse(string(item, "userId").ok()?).ok()?,
        connection: belfry_protocol::ConnectionId::parse(string(item, "connectionId").ok()?)
            .ok()?,
        due_at,
    })
}

/// Reads a count that is due.
pub(super) fn due_count(item: &Item, due_at: UnixMillis) -> Option<DueCount> {
    Some(DueCount {
        channel: ChannelName::parse(string(item, "channel").ok()?).ok()?,
        due_at,
    })
}

fn present_user(item: &Item) -> Option<PresentUser> {
    let connections = item.get(CONNECTIONS).and_then(|set| set.as_ss().ok());
    let user = string(item, "member").ok()?.strip_prefix(USERS)?;
    Some(PresentUser {
        user_id: UserId::parse(user).ok()?,
        connections: connections.map_or(0, |set| set.len() as u64),
        info: PresenceInfo::from_json(string(item, "info").ok()?)?,
    })
}

fn one(id: &str) -> AttributeValue {
    AttributeValue::Ss(vec![id.to_owned()])
}

/// The item that did not meet a condition; empty if there was none. `None` if
/// the write was made.
pub(super) fn refused(
    result: Result<(), aws_sdk_dynamodb::error::SdkError<UpdateItemError>>,
) -> Result<Option<Item>, StoreError> {
    let error = match result {
        Ok(()) => return Ok(None),
        Err(error) => error,
    };
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
            Ok(Some(refused.item().cloned().unwrap_or_default()))
        }
        _ => Err(sdk_failed(UPDATE, &error)),
    }
}
