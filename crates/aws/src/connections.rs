//! The connection store on DynamoDB.
//!
//! A connection's row stands in the table `Connections`; what it takes stands
//! in `State`: its id in its user's set, and a place in one of the counters
//! (see `state.rs`). One transaction writes the three together and one removes
//! them together, so whoever may die in between, the places taken are those of
//! the rows. Frames and sweeps write single items.

mod admission;
mod audit;
mod broadcasts;
mod frames;
mod listings;
mod places;
mod removal;
mod sweeping;
mod transaction;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use belfry_core::ports::{
    Admission, ConnectionStore, Cursor, DueCursor, DuePage, Extended, Extension, Inserted, Page,
    Places, RecipientStore, Segment, StoreError, SweepStore, Touched,
};
use belfry_core::{Budget, Connection, Recipient, UnixMillis, UnixSeconds, Watch};
use belfry_protocol::{ConnectionId, UserId};

use crate::row::{self, CONNECTION_ID, Item, Row, text};
use crate::sdk_error::describe;

/// A live row: one whose time has not come. DynamoDB may keep rows for days
/// after that, so every read asks.
const IS_LIVE: &str = "expiresAt > :now";

/// The names of the tables.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Live connections and nothing else.
    pub connections: String,
    /// What they take, and what else must be remembered.
    pub state: String,
}

/// The connections in two DynamoDB tables.
#[derive(Debug, Clone)]
pub struct DynamoConnections {
    client: Client,
    tables: Tables,
}

impl DynamoConnections {
    /// A store on existing tables.
    #[must_use]
    pub fn new(client: Client, tables: Tables) -> Self {
        Self { client, tables }
    }

    /// The row as it is at this moment, live or not.
    async fn row(&self, id: &ConnectionId) -> Result<Option<Row>, StoreError> {
        const OPERATION: &str = "GetItem";
        let item = self.item(&self.tables.connections, key(id)).await?;
        let row = item.as_ref().map(row::row).transpose();
        row.map_err(|error| failed(OPERATION, error))
    }

    /// An item as it is at this moment.
    async fn item(&self, table: &str, key: Item) -> Result<Option<Item>, StoreError> {
        let get = self.client.get_item().table_name(table).set_key(Some(key));
        let answer = get.consistent_read(true).send().await;
        let answer = answer.map_err(|error| sdk_failed("GetItem", &error))?;
        Ok(answer.item)
    }
}

/// What takes several calls is on the heap: its state must not be a part of
/// every caller's.
impl ConnectionStore for DynamoConnections {
    async fn insert(
        &self,
        admission: Admission<'_>,
        places: Places,
    ) -> Result<Inserted, StoreError> {
        Box::pin(self.admit(admission, places)).await
    }

    async fn touch(
        &self,
        id: &ConnectionId,
        budget: &Budget,
        now: UnixMillis,
    ) -> Result<Touched, StoreError> {
        Box::pin(self.count_frame(id, budget, now)).await
    }

    async fn extend(
        &self,
        id: &ConnectionId,
        extension: &Extension,
        budget: &Budget,
        now: UnixMillis,
    ) -> Result<Extended, StoreError> {
        Box::pin(self.move_token_end(id, extension, budget, now)).await
    }

    async fn signed_out_at(&self, user: &UserId) -> Result<Option<UnixSeconds>, StoreError> {
        self.mark(user).await
    }

    async fn disconnect(&self, id: &ConnectionId, now: UnixMillis) -> Result<(), StoreError> {
        Box::pin(self.forget(id, now)).await
    }
}

impl RecipientStore for DynamoConnections {
    async fn remove_unchanged(&self, seen: &Recipient) -> Result<(), StoreError> {
        Box::pin(self.forget_unchanged(seen)).await
    }

    async fn of_user(&self, user: &UserId, now: UnixMillis) -> Result<Vec<Recipient>, StoreError> {
        self.query_user(user, now).await
    }

    async fn of_ids(
        &self,
        ids: &[ConnectionId],
        now: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        self.read_batches(ids, now).await
    }

    async fn scan(
        &self,
        segment: Segment,
        from: Option<Cursor>,
        now: UnixMillis,
    ) -> Result<Page, StoreError> {
        self.scan_segment(segment, from, now).await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        let slots = self.slots().await?;
        Ok(slots.iter().map(|slot| slot.counter.connections).sum())
    }
}

impl SweepStore for DynamoConnections {
    async fn due(
        &self,
        part: u32,
        from: Option<DueCursor>,
        now: UnixMillis,
    ) -> Result<DuePage, StoreError> {
        self.query_due(part, from, now).await
    }

    async fn read(&self, id: &ConnectionId) -> Result<Option<Connection>, StoreError> {
        Ok(self.row(id).await?.map(|row| row.connection))
    }

    async fn watch(&self, seen: &Connection, next: &Watch) -> Result<bool, StoreError> {
        self.write_watch(seen, next).await
    }

    async fn sign_out(
        &self,
        user: &UserId,
        now: UnixMillis,
    ) -> Result<Vec<ConnectionId>, StoreError> {
        Box::pin(self.write_mark(user, now)).await
    }

    async fn end_session(&self, seen: &Connection, now: UnixMillis) -> Result<(), StoreError> {
        self.write_end(seen, now).await
    }

    async fn audit(&self, now: UnixMillis) -> Result<(), StoreError> {
        Box::pin(self.compare_a_counter(now)).await
    }
}

fn key(id: &ConnectionId) -> Item {
    Item::from([(CONNECTION_ID.to_owned(), text(id.as_str()))])
}

/// Whether a write was not made because its condition did not hold.
fn condition_failed<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.code() == Some("ConditionalCheckFailedException")
}

fn failed(operation: &'static str, cause: impl ToString) -> StoreError {
    StoreError {
        operation,
        cause: cause.to_string(),
    }
}

fn sdk_failed<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    failed(operation, describe(error))
}
