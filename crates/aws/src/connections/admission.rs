//! Letting a connection in: its row, its user's set and a place, or nothing.

use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};
use belfry_core::ports::{Admission, Inserted, Places, StoreError};
use belfry_core::{Connection, Recipient, part_of};
use belfry_protocol::ConnectionId;
use uuid::Uuid;

use super::listings::BATCH;
use super::places::{SLOTS, capacity};
use super::transaction::{Attempt, Condition, IMPATIENT, Transaction};
use super::{DynamoConnections, failed, key};
use crate::row::{self, CONNECTION_ID, Item, Row, number, text};
use crate::state;

const OPERATION: &str = "TransactWriteItems";

/// Where a new connection's place comes from.
enum Place<'a> {
    /// A counter with a free one.
    Slot(u32),
    /// A connection of the same user, which stays without one until it closes.
    Of(&'a Row),
}

impl Place<'_> {
    fn slot(&self) -> u32 {
        match self {
            Self::Slot(slot) => *slot,
            Self::Of(old) => old.slot,
        }
    }
}

enum Written {
    Outcome(Inserted),
    /// The user's set is full; what it holds.
    UserFull(Vec<String>),
    /// The place is not free, or not to be had any more.
    NoPlace,
}

impl DynamoConnections {
    /// Invariant: after [`Self::forget`] of the same connection no row is
    /// left, in whatever order the two run. The row is written first and the
    /// tombstone looked for afterwards; `forget` writes the tombstone first
    /// and looks for the row afterwards. Whoever comes second sees the other.
    pub(super) async fn admit(
        &self,
        admission: Admission<'_>,
        places: Places,
    ) -> Result<Inserted, StoreError> {
        let inserted = self.write_somewhere(admission, places).await?;
        if inserted != Inserted::Yes {
            return Ok(inserted);
        }
        let has_ended = self.has_ended(&admission.connection.id).await;
        if let Ok(false) = has_ended {
            return Ok(Inserted::Yes);
        }
        // Also where it cannot be told: a client that is refused gets no
        // `$disconnect`, so nobody else would give its place back soon.
        let seen = Recipient::from(admission.connection);
        let removed = self.forget_unchanged(&seen).await;
        has_ended.and(removed).map(|()| Inserted::Ended)
    }

    /// Ids are not used twice, so a tombstone counts however old it is.
    async fn has_ended(&self, id: &ConnectionId) -> Result<bool, StoreError> {
        let tombstone = self.item(&self.tables.state, state::tombstone(id)).await?;
        Ok(tombstone.is_some())
    }

    async fn write_somewhere(
        &self,
        admission: Admission<'_>,
        places: Places,
    ) -> Result<Inserted, StoreError> {
        if let Some(old) = self.predecessor(admission).await? {
            let place = Place::Of(&old);
            match self.write(admission, &place, places, false).await? {
                Written::Outcome(inserted) => return Ok(inserted),
                Written::UserFull(_) => return Ok(Inserted::UserFull),
                // It closed, or another successor was faster.
                Written::NoPlace => {}
            }
        }
        // Always the same one first: a handshake that is handled twice must
        // begin with the same transaction.
        let mut candidates = vec![part_of(&admission.connection.id, SLOTS)];
        let (mut is_first, mut has_looked, mut has_cleaned) = (true, false, false);
        loop {
            let Some(slot) = candidates.pop() else {
                if has_looked {
                    return Ok(Inserted::Full);
                }
                has_looked = true;
                candidates = self.slots_with_room(places.total).await?;
                continue;
            };
            let written = self
                .write(admission, &Place::Slot(slot), places, is_first)
                .await?;
            is_first = false;
            match written {
                Written::Outcome(inserted) => return Ok(inserted),
                Written::NoPlace => {}
                Written::UserFull(_) if has_cleaned => return Ok(Inserted::UserFull),
                Written::UserFull(ids) => {
                    has_cleaned = true;
                    if !self.drop_stale(admission.connection, &ids).await? {
                        return Ok(Inserted::UserFull);
                    }
                    candidates.push(slot);
                }
            }
        }
    }

    /// The connection that is to be replaced, where it can be: a row of the
    /// same user that holds a place.
    async fn predecessor(&self, admission: Admission<'_>) -> Result<Option<Row>, StoreError> {
        let Some(id) = admission.replaces else {
            return Ok(None);
        };
        let row = self.row(id).await?;
        Ok(row.filter(|row| {
            row.connection.user_id == admission.connection.user_id
                && row.connection.watch.replaced_at.is_none()
        }))
    }

    async fn write(
        &self,
        admission: Admission<'_>,
        place: &Place<'_>,
        places: Places,
        is_first: bool,
    ) -> Result<Written, StoreError> {
        let connection = admission.connection;
        if matches!(place, Place::Slot(slot) if capacity(places.total, *slot) == 0) {
            return Ok(Written::NoPlace);
        }
        let items = [
            self.put(connection, place.slot())?,
            self.join_user(admission, place, places)?,
            self.take(connection, place, places)?,
        ];
        let attempt = |tries| Attempt {
            items: items.to_vec(),
            token: (is_first && tries == 0).then(|| name(connection)),
        };
        let conditions = match self.transact(IMPATIENT, attempt).await? {
            Transaction::Done => return Ok(Written::Outcome(Inserted::Yes)),
            Transaction::Refused(conditions) => conditions,
        };
        Ok(match conditions.as_slice() {
            // Lambda and the SDK repeat calls whose answer was lost: the same
            // handshake's row is as good as a new one.
            [Condition::Failed(old), ..] => {
                let old = old.as_ref().and_then(|item| row::connection(item).ok());
                let same = old.is_some_and(|old| {
                    old.user_id == connection.user_id && old.connected_at == connection.connected_at
                });
                Written::Outcome(if same { Inserted::Yes } else { Inserted::Taken })
            }
            [_, Condition::Failed(Some(user)), ..] if is_void(admission, user) => {
                Written::Outcome(Inserted::SignedOut)
            }
            [_, Condition::Failed(Some(user)), ..] if has_just_ended(connection, user) => {
                Written::Outcome(Inserted::Ended)
            }
            [_, Condition::Failed(user), ..] => Written::UserFull(connection_ids(user.as_ref())),
            _ => Written::NoPlace,
        })
    }

    fn put(&self, connection: &Connection, slot: u32) -> Result<TransactWriteItem, StoreError> {
        let put = Put::builder()
            .table_name(&self.tables.connections)
            .set_item(Some(row::to_item(connection, slot)))
            .condition_expression("attribute_not_exists(connectionId)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| failed(OPERATION, error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Adds the connection to its user's set, unless the set is full or the
    /// user was signed out since the token was made.
    fn join_user(
        &self,
        admission: Admission<'_>,
        place: &Place<'_>,
        places: Places,
    ) -> Result<TransactWriteItem, StoreError> {
        let connection = admission.connection;
        let most = match place {
            Place::Slot(_) => places.per_user,
            // Both are there until the old one closes: as many again, no more.
            Place::Of(_) => places.per_user.saturating_mul(2),
        };
        let is_welcome = "(attribute_not_exists(signedOutAt) OR signedOutAt < :issuedAt)";
        let has_not_ended = "(attribute_not_exists(lastEnded) OR lastEnded <> :id)";
        let has_room = "(attribute_not_exists(connectionIds) OR size(connectionIds) < :most)";
        let update = Update::builder()
            .table_name(&self.tables.state)
            .set_key(Some(state::user(&connection.user_id)))
            .update_expression("ADD connectionIds :ids SET expiresAt = :end")
            .condition_expression(format!("{is_welcome} AND {has_not_ended} AND {has_room}"))
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

    fn take(
        &self,
        connection: &Connection,
        place: &Place<'_>,
        places: Places,
    ) -> Result<TransactWriteItem, StoreError> {
        let update = match place {
            Place::Slot(slot) => Update::builder()
                .table_name(&self.tables.state)
                .set_key(Some(state::slot(*slot)))
                .update_expression("ADD connections :one, inserted :one")
                .condition_expression(
                    "attribute_not_exists(connections) OR connections < :capacity",
                )
                .expression_attribute_values(":one", number(1))
                .expression_attribute_values(":capacity", number(capacity(places.total, *slot))),
            Place::Of(old) => Update::builder()
                .table_name(&self.tables.connections)
                .set_key(Some(key(&old.connection.id)))
                .update_expression("SET replacedAt = :now")
                .condition_expression("connectedAt = :seen AND attribute_not_exists(replacedAt)")
                .expression_attribute_values(":seen", number(old.connection.connected_at.0))
                .expression_attribute_values(":now", number(connection.connected_at.0)),
        };
        let update = update.build().map_err(|error| failed(OPERATION, error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// Takes ids out of a user's set that have no row: DynamoDB or an operator
    /// removed it. Says whether there were any.
    async fn drop_stale(&self, newcomer: &Connection, ids: &[String]) -> Result<bool, StoreError> {
        let ids: Vec<_> = ids
            .iter()
            .filter_map(|id| ConnectionId::parse(id).ok())
            .collect();
        let mut rows = Vec::new();
        for ids in ids.chunks(BATCH) {
            let keys = ids.iter().map(key).collect();
            let found = self.batch(&self.tables.connections, keys, CONNECTION_ID);
            rows.extend(found.await?);
        }
        let has_row = |id: &&ConnectionId| rows.contains(&key(id));
        let mut dropped = false;
        for id in ids.iter().filter(|id| !has_row(id)) {
            // A read may see the set of a transaction and not yet its row; a
            // transaction sees both or neither.
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

    /// Takes an id out of the set of a connection's user.
    pub(super) fn leave_user(
        &self,
        connection: &Connection,
        id: &ConnectionId,
    ) -> Result<TransactWriteItem, StoreError> {
        let end = state::user_expires_at(connection.connected_at);
        let update = Update::builder()
            .table_name(&self.tables.state)
            .set_key(Some(state::user(&connection.user_id)))
            // An item that was lost is made again by this, and must end, too.
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

/// The name of a handshake's first try. A handshake that is handled a second
/// time, after its connection has ended, is the same to DynamoDB and changes
/// nothing. (Other tries have no name, since two handlings may differ in them;
/// there the user's item remembers which connection ended last.)
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

fn is_void(admission: Admission<'_>, user: &Item) -> bool {
    let mark = row::integer(user, "signedOutAt");
    mark.is_ok_and(|mark| admission.token_issued_at.0 <= mark)
}

pub(super) fn connection_ids(user: Option<&Item>) -> Vec<String> {
    let ids = user.and_then(|user| user.get("connectionIds")?.as_ss().ok());
    ids.cloned().unwrap_or_default()
}
