use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};
use belfry_core::connections::{
    Connection, ConnectionLimits, END_BY_SIGN_OUT, Recipient, shard_of,
};
use belfry_core::hooks::{HookSubject, PendingEvent};
use belfry_core::ports::{Admission, Admissions, Admitted, Removals, StoreError};
use belfry_protocol::ConnectionId;
use futures_util::future::join;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::Consistency::Strong;
use super::row::{self, CONNECTION_ID, Item, Row, number, text};
use super::shard_counters::{SHARDS, share_of_limit};
use super::transaction::{
    Condition, IMPATIENT, Transaction, TransactionAttempt, back_off, send_past_transactions,
};
use super::{BATCH, DynamoDb, failed, key, state, wanted, written};
use crate::randomness::SystemRandomness;

const OPERATION: &str = "TransactWriteItems";

/// How often the look at the end is repeated if it fails.
const LOOK_RETRIES: u32 = 2;

/// Time limit for the write that makes a row due early.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Where a new connection is counted.
enum CountedIn<'a> {
    /// In a shard with room.
    Shard(u32),
    /// Instead of a connection of the same user, which no longer counts.
    Predecessor(&'a Row),
}

impl CountedIn<'_> {
    fn shard(&self) -> u32 {
        match self {
            Self::Shard(shard) => *shard,
            Self::Predecessor(old) => old.shard,
        }
    }

    /// The predecessor, if it may hold locks.
    fn hands_locks_on(&self) -> Option<&Connection> {
        match self {
            Self::Predecessor(old) if old.connection.has_session => Some(&old.connection),
            Self::Predecessor(_) | Self::Shard(_) => None,
        }
    }
}

/// Result of one transaction.
enum WriteResult {
    Final(Admitted),
    /// The user's set is full. Holds its ids.
    UserAtCapacity(Vec<String>),
    /// The shard has no room, or the predecessor was replaced already.
    NoRoom,
}

impl Admissions for DynamoDb {
    /// Three invariants, which a read after the row is written preserves:
    ///
    /// - After `disconnect` of the same connection no row is left, in whatever
    ///   order the two run. This function writes the row first and looks for
    ///   the tombstone afterwards; `disconnect` writes the tombstone first and
    ///   looks for the row afterwards. The later one sees the other's write.
    /// - Nobody is let in without a row. The answer to the write may have come
    ///   late, and DynamoDB repeats the answer to a named attempt without
    ///   writing again, while a sign-out, a broadcast or an operator removed
    ///   the row. (None of them does after that read: see
    ///   `Recipient::may_be_pending`. A sign-out leaves the row to a sweep.)
    /// - A read that fails removes nothing. A second handling of the same handshake
    ///   may have let the client in with this very row. A sweep finds out.
    async fn admit(
        &self,
        admission: Admission<'_>,
        limits: ConnectionLimits,
    ) -> Result<Admitted, StoreError> {
        let connection = admission.connection;
        // On the heap: their state must not be a part of every caller's future.
        let written = Box::pin(self.write_somewhere(admission, limits)).await;
        let admitted = match written {
            Ok(Admitted::Yes) => {
                let subject = HookSubject::Connection(connection.id.clone());
                let delivery = Box::pin(self.start_delivery(&subject));
                join(Box::pin(self.confirm(connection)), delivery).await.0
            }
            refused_or_failed => refused_or_failed,
        };
        if admitted.is_err() {
            let due = self.check_after_handshake(connection);
            // The client waits. Without this write, the row's first ping finds
            // out, some minutes later.
            let _ = timeout(CHECK_TIMEOUT, Box::pin(due)).await;
        }
        admitted
    }
}

impl DynamoDb {
    /// The look at the end, repeated if it fails. Removes the row of a
    /// connection that has ended: a client that is refused gets no
    /// `$disconnect`, so the row would count for long.
    async fn confirm(&self, connection: &Connection) -> Result<Admitted, StoreError> {
        let (begun, mut retries) = (Instant::now(), 0);
        let admitted = loop {
            match self.is_still_admitted(connection).await {
                Ok(admitted) => break admitted,
                Err(error) if retries == LOOK_RETRIES || begun.elapsed() > IMPATIENT => {
                    return Err(error);
                }
                Err(_) => back_off(retries, &SystemRandomness).await,
            }
            retries += 1;
        };
        if admitted != Admitted::Yes {
            let seen = Recipient::from(connection);
            self.remove_unchanged(&seen, connection.connected_at)
                .await?;
        }
        Ok(admitted)
    }

    /// Makes the row due when the handshake is over, unless it is due earlier
    /// or a frame came: then there is a client.
    async fn check_after_handshake(&self, connection: &Connection) -> Result<bool, StoreError> {
        let due_at = Recipient::from(connection).handshake_ends_at();
        let update = self
            .client
            .update_item()
            .table_name(&self.tables.connections)
            .set_key(Some(key(&connection.id)))
            .update_expression("SET dueAt = :due")
            .condition_expression("connectedAt = :seen AND lastSeenAt = :seen AND dueAt > :due")
            .expression_attribute_values(":seen", number(connection.connected_at.0))
            .expression_attribute_values(":due", number(due_at.0));
        written("UpdateItem", send_past_transactions(update).await)
    }

    async fn is_still_admitted(&self, connection: &Connection) -> Result<Admitted, StoreError> {
        let (rows, state) = (&self.tables.connections, &self.tables.state);
        let row = wanted(
            vec![key(&connection.id)],
            "connectedAt, tokenExpiresAt",
            Strong,
        )?;
        let tombstone = wanted(vec![state::tombstone(&connection.id)], "pk", Strong)?;
        let wanted = HashMap::from([(rows.clone(), row), (state.clone(), tombstone)]);
        let found = self.batch_of_tables(wanted).await?;
        let item = |table| found.get(table).and_then(|items| items.first());
        let number = |row: &Item, name| row::integer(row, name).ok();
        let is_same = |row: &&Item| number(row, "connectedAt") == Some(connection.connected_at.0);
        Ok(match item(rows).filter(is_same) {
            Some(row) if number(row, "tokenExpiresAt") == Some(END_BY_SIGN_OUT.0) => {
                Admitted::SignedOut
            }
            // Ids are not used twice, so a tombstone counts however old it is.
            Some(_) if item(state).is_none() => Admitted::Yes,
            _ => Admitted::Ended,
        })
    }

    async fn write_somewhere(
        &self,
        admission: Admission<'_>,
        limits: ConnectionLimits,
    ) -> Result<Admitted, StoreError> {
        if let Some(old) = self.predecessor(admission).await? {
            let counted_in = CountedIn::Predecessor(&old);
            match self.write(admission, &counted_in, limits, false).await? {
                WriteResult::Final(inserted) => return Ok(inserted),
                WriteResult::UserAtCapacity(_) => return Ok(Admitted::UserAtCapacity),
                // It closed, or another successor was faster.
                WriteResult::NoRoom => {}
            }
        }
        // Always the same shard first: a handshake that is handled twice must
        // begin with the same transaction.
        let mut candidates = vec![shard_of(&admission.connection.id, SHARDS)];
        let (mut is_first, mut has_listed, mut has_dropped_stale) = (true, false, false);
        loop {
            let Some(shard) = candidates.pop() else {
                if has_listed {
                    return Ok(Admitted::AtCapacity);
                }
                has_listed = true;
                candidates = self.shards_with_room(limits.total).await?;
                continue;
            };
            let written = self
                .write(admission, &CountedIn::Shard(shard), limits, is_first)
                .await?;
            is_first = false;
            match written {
                WriteResult::Final(inserted) => return Ok(inserted),
                WriteResult::NoRoom => {}
                WriteResult::UserAtCapacity(_) if has_dropped_stale => {
                    return Ok(Admitted::UserAtCapacity);
                }
                WriteResult::UserAtCapacity(ids) => {
                    has_dropped_stale = true;
                    if !self.drop_stale(admission.connection, &ids).await? {
                        return Ok(Admitted::UserAtCapacity);
                    }
                    candidates.push(shard);
                }
            }
        }
    }

    /// The connection to replace, if it is one of the same user's that was neither
    /// replaced yet nor signed out.
    async fn predecessor(&self, admission: Admission<'_>) -> Result<Option<Row>, StoreError> {
        let Some(id) = admission.replaces else {
            return Ok(None);
        };
        let row = self.row(id).await?;
        Ok(row.filter(|row| {
            row.connection.user_id == admission.connection.user_id
                && row.connection.liveness.replaced_at.is_none()
                && !row.connection.is_signed_out()
        }))
    }

    async fn write(
        &self,
        admission: Admission<'_>,
        counted_in: &CountedIn<'_>,
        limits: ConnectionLimits,
        is_first: bool,
    ) -> Result<WriteResult, StoreError> {
        let connection = admission.connection;
        if matches!(counted_in, CountedIn::Shard(shard) if share_of_limit(limits.total, *shard) == 0)
        {
            return Ok(WriteResult::NoRoom);
        }
        let old = counted_in.hands_locks_on();
        let row = Connection {
            has_session: connection.has_session || old.is_some(),
            first: old.map(|old| old.lock_owner().clone()),
            ..connection.clone()
        };
        let mut items = vec![
            self.put(&row, counted_in.shard())?,
            self.join_user(admission, counted_in, limits)?,
            self.count(connection, counted_in, limits)?,
        ];
        items.extend(self.put_event(&PendingEvent::opened(connection))?);
        if let Some(old) = old {
            items.push(self.join_owner(connection, old)?);
        }
        let attempt = |retries| TransactionAttempt {
            items: items.clone(),
            token: (is_first && retries == 0).then(|| name(connection)),
        };
        let conditions = match self.transact(IMPATIENT, attempt).await? {
            Transaction::Done => return Ok(WriteResult::Final(Admitted::Yes)),
            Transaction::Refused(conditions) => conditions,
        };
        Ok(match conditions.as_slice() {
            // Lambda and the SDK retry calls whose answer was lost. The same
            // handshake's row counts as written.
            [Condition::Failed(old), ..] => {
                let old = old.as_ref().and_then(|item| row::connection(item).ok());
                let same = old.is_some_and(|old| {
                    old.user_id == connection.user_id && old.connected_at == connection.connected_at
                });
                WriteResult::Final(if same {
                    Admitted::Yes
                } else {
                    Admitted::IdTaken
                })
            }
            [_, Condition::Failed(Some(user)), ..] if is_signed_out(admission, user) => {
                WriteResult::Final(Admitted::SignedOut)
            }
            [_, Condition::Failed(Some(user)), ..] if has_just_ended(connection, user) => {
                WriteResult::Final(Admitted::Ended)
            }
            [_, Condition::Failed(user), ..] => {
                WriteResult::UserAtCapacity(connection_ids(user.as_ref()))
            }
            _ => WriteResult::NoRoom,
        })
    }

    fn put(&self, connection: &Connection, shard: u32) -> Result<TransactWriteItem, StoreError> {
        let put = Put::builder()
            .table_name(&self.tables.connections)
            .set_item(Some(row::to_item(connection, shard)))
            .condition_expression("attribute_not_exists(connectionId)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| failed(OPERATION, error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Adds the connection to its user's set, unless the set is full or the
    /// user was signed out since the token was issued.
    fn join_user(
        &self,
        admission: Admission<'_>,
        counted_in: &CountedIn<'_>,
        limits: ConnectionLimits,
    ) -> Result<TransactWriteItem, StoreError> {
        let connection = admission.connection;
        let most = match counted_in {
            CountedIn::Shard(_) => limits.per_user,
            // Both rows exist until the old one closes.
            CountedIn::Predecessor(_) => limits.per_user.saturating_mul(2),
        };
        let not_signed_out = "(attribute_not_exists(signedOutAt) OR signedOutAt < :issuedAt)";
        let has_not_ended = "(attribute_not_exists(lastEnded) OR lastEnded <> :id)";
        let has_room = "(attribute_not_exists(connectionIds) OR size(connectionIds) < :most)";
        let update = Update::builder()
            .table_name(&self.tables.state)
            .set_key(Some(state::user(&connection.user_id)))
            .update_expression("ADD connectionIds :ids SET expiresAt = :end")
            .condition_expression(format!(
                "{not_signed_out} AND {has_not_ended} AND {has_room}"
            ))
            .expression_attribute_values(":most", number(most))
            .expression_attribute_values(":ids", set(&connection.id))
            .expression_attribute_values(":id", text(connection.id.as_str()))
            .expression_attribute_values(
                ":end",
                number(state::user_expires_at(connection.connected_at).0),
            )
            .expression_attribute_values(":issuedAt", number(admission.token_issued_at.0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| failed(OPERATION, error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    fn count(
        &self,
        connection: &Connection,
        counted_in: &CountedIn<'_>,
        limits: ConnectionLimits,
    ) -> Result<TransactWriteItem, StoreError> {
        let update = match counted_in {
            CountedIn::Shard(shard) => Update::builder()
                .table_name(&self.tables.state)
                .set_key(Some(state::shard(*shard)))
                .update_expression("ADD connections :one, inserted :one")
                .condition_expression(
                    "attribute_not_exists(connections) OR connections < :capacity",
                )
                .expression_attribute_values(":one", number(1))
                .expression_attribute_values(
                    ":capacity",
                    number(share_of_limit(limits.total, *shard)),
                ),
            CountedIn::Predecessor(old) => Update::builder()
                .table_name(&self.tables.connections)
                .set_key(Some(key(&old.connection.id)))
                .update_expression("SET replacedAt = :now")
                // A sign-out has released its locks.
                .condition_expression(
                    "connectedAt = :seen AND attribute_not_exists(replacedAt) \
                     AND tokenExpiresAt > :signedOut",
                )
                .expression_attribute_values(":signedOut", number(END_BY_SIGN_OUT.0))
                .expression_attribute_values(":seen", number(old.connection.connected_at.0))
                .expression_attribute_values(":now", number(connection.connected_at.0)),
        };
        let update = update.build().map_err(|error| failed(OPERATION, error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// Removes ids without a row from a user's set: DynamoDB or an operator
    /// removed the row. Returns whether there were any.
    async fn drop_stale(&self, newcomer: &Connection, ids: &[String]) -> Result<bool, StoreError> {
        let ids: Vec<_> = ids
            .iter()
            .filter_map(|id| ConnectionId::parse(id).ok())
            .collect();
        let mut rows = Vec::new();
        for ids in ids.chunks(BATCH) {
            let keys = ids.iter().map(key).collect();
            let wanted = wanted(keys, CONNECTION_ID, Strong)?;
            rows.extend(self.batch(&self.tables.connections, wanted).await?);
        }
        let has_row = |id: &&ConnectionId| rows.contains(&key(id));
        let mut dropped = false;
        for id in ids.iter().filter(|id| !has_row(id)) {
            // A read may see a transaction's set before its row. A transaction
            // sees both or neither.
            let check = ConditionCheck::builder()
                .table_name(&self.tables.connections)
                .set_key(Some(key(id)))
                .condition_expression("attribute_not_exists(connectionId)")
                .build()
                .map_err(|error| failed(OPERATION, error))?;
            let items = vec![
                TransactWriteItem::builder().condition_check(check).build(),
                self.leave_user(newcomer, id)?,
            ];
            let done = self.transact(IMPATIENT, |_| items.clone().into()).await?;
            dropped |= matches!(done, Transaction::Done);
        }
        Ok(dropped)
    }

    /// Removes an id from the set of a connection's user.
    pub(super) fn leave_user(
        &self,
        connection: &Connection,
        id: &ConnectionId,
    ) -> Result<TransactWriteItem, StoreError> {
        let end = state::user_expires_at(connection.connected_at);
        let update = Update::builder()
            .table_name(&self.tables.state)
            .set_key(Some(state::user(&connection.user_id)))
            // If the item was lost, this creates it, so it needs an end.
            .update_expression(
                "DELETE connectionIds :ids SET lastEnded = :id, expiresAt = if_not_exists(expiresAt, :end)",
            )
            .expression_attribute_values(":ids", set(id))
            .expression_attribute_values(":id", text(id.as_str()))
            .expression_attribute_values(":end", number(end.0))
            .build()
            .map_err(|error| failed(OPERATION, error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}

/// The name of a handshake's first attempt. If a handshake is handled again
/// after its connection has ended, DynamoDB recognises the name and changes
/// nothing. (Later attempts have no name, because they may differ between two
/// handlings; for those the user's item remembers which connection ended last.)
fn name(connection: &Connection) -> String {
    let handshake = format!(
        "{} {} {} {}",
        connection.id, connection.connected_at.0, connection.user_id, connection.token_expires_at.0,
    );
    Uuid::new_v5(&Uuid::NAMESPACE_OID, handshake.as_bytes()).to_string()
}

fn set(id: &ConnectionId) -> AttributeValue {
    AttributeValue::Ss(vec![id.to_string()])
}

fn has_just_ended(connection: &Connection, user: &Item) -> bool {
    user.get("lastEnded") == Some(&text(connection.id.as_str()))
}

fn is_signed_out(admission: Admission<'_>, user: &Item) -> bool {
    let mark = row::integer(user, "signedOutAt");
    mark.is_ok_and(|mark| admission.token_issued_at.0 <= mark)
}

pub(super) fn connection_ids(user: Option<&Item>) -> Vec<String> {
    let ids = user.and_then(|user| user.get("connectionIds")?.as_ss().ok());
    ids.cloned().unwrap_or_default()
}
