//! The store on DynamoDB: a shared client, and one file for each port or group
//! of ports.
//!
//! A connection's row is in the table `Connections`. The table `State` has its
//! id in its user's set and its count in a shard's counter (see `state.rs`).
//! One transaction writes all three, and one removes them: if a function dies
//! in between, the counts still match the rows. Frames and sweeps write
//! single items.

mod acks;
mod admissions;
mod broadcast_records;
mod connection_listing;
mod connection_lookup;
mod counter_audit;
mod departures;
mod disconnections;
mod due_connections;
mod hooks;
mod locks;
mod log_purges;
mod logs;
mod new_broadcasts;
mod presence;
mod reader_limits;
mod recipients;
mod removals;
mod row;
mod segments;
mod session_refresh;
mod sessions;
mod shard_counters;
mod sign_outs;
mod state;
mod subscription_counts;
mod subscriptions;
mod transaction;

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::KeysAndAttributes;
use belfry_core::ports::{Consistency, StoreError};
use belfry_core::presence::PRESENCE_GRACE;
use belfry_protocol::ConnectionId;

use self::hooks::Hooks;
use self::row::{CONNECTION_ID, Item, Row, text};
use crate::clock::SystemClock;
use crate::lambda::LambdaHooks;
use crate::metrics::EmfMetrics;
use crate::sdk_error::describe;

/// The condition of a live row. DynamoDB may keep rows for days after their
/// TTL, so every read has it.
const IS_LIVE: &str = "expiresAt > :now";

/// DynamoDB's limit for one batch.
const BATCH: usize = 100;

/// How often DynamoDB may leave a part of a batch unprocessed before the read
/// fails.
const BATCH_ATTEMPTS: u32 = 6;

const BATCH_GET: &str = "BatchGetItem";

/// The names of the tables.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Live connections and nothing else.
    pub connections: String,
    /// Logs of channels.
    pub messages: String,
    /// Subscriptions to channels.
    pub subscriptions: String,
    /// Everything else that is remembered.
    pub state: String,
}

/// Implements every store port on DynamoDB tables.
#[derive(Debug, Clone)]
pub struct DynamoDb {
    client: Client,
    tables: Tables,
    presence_grace: Duration,
    hooks: Option<Hooks>,
}

impl DynamoDb {
    #[must_use]
    pub fn new(client: Client, tables: Tables) -> Self {
        Self {
            client,
            tables,
            presence_grace: PRESENCE_GRACE,
            hooks: None,
        }
    }

    /// Sets how long a user who has lost the last connection stays present.
    #[must_use]
    pub fn with_presence_grace(self, presence_grace: Duration) -> Self {
        Self {
            presence_grace,
            ..self
        }
    }

    /// Writes events for the application's hook, and has `function` deliver them.
    #[must_use]
    pub fn with_hooks(self, function: LambdaHooks, metrics: EmfMetrics<SystemClock>) -> Self {
        Self {
            hooks: Some(Hooks { function, metrics }),
            ..self
        }
    }

    /// A connection's row, live or not, by a consistent read.
    async fn row(&self, id: &ConnectionId) -> Result<Option<Row>, StoreError> {
        let item = self.item(&self.tables.connections, key(id)).await?;
        let row = item.as_ref().map(row::row).transpose();
        row.map_err(|error| failed("GetItem", error))
    }

    /// An item, by a consistent read.
    async fn item(&self, table: &str, key: Item) -> Result<Option<Item>, StoreError> {
        let get = self.client.get_item().table_name(table).set_key(Some(key));
        let answer = get.consistent_read(true).send().await;
        let answer = answer.map_err(|error| sdk_failed("GetItem", &error))?;
        Ok(answer.item)
    }

    /// Deletes an item. One that does not exist is no error.
    async fn delete(&self, table: &str, key: Item) -> Result<(), StoreError> {
        let delete = self.client.delete_item().table_name(table);
        let deleted = delete.set_key(Some(key)).send().await;
        deleted
            .map(drop)
            .map_err(|error| sdk_failed("DeleteItem", &error))
    }

    /// The wanted items of a table. Missing items are left out.
    async fn batch(&self, table: &str, wanted: KeysAndAttributes) -> Result<Vec<Item>, StoreError> {
        let wanted = HashMap::from([(table.to_owned(), wanted)]);
        let found = self.batch_of_tables(wanted).await?;
        Ok(found.into_values().flatten().collect())
    }

    /// The same for several tables, in one call.
    async fn batch_of_tables(
        &self,
        mut wanted: HashMap<String, KeysAndAttributes>,
    ) -> Result<HashMap<String, Vec<Item>>, StoreError> {
        let mut items: HashMap<String, Vec<Item>> = HashMap::new();
        for attempt in 0..BATCH_ATTEMPTS {
            let get = self.client.batch_get_item().set_request_items(Some(wanted));
            let answer = get.send().await;
            let answer = answer.map_err(|error| sdk_failed(BATCH_GET, &error))?;
            for (table, found) in answer.responses.into_iter().flatten() {
                items.entry(table).or_default().extend(found);
            }
            wanted = answer.unprocessed_keys.unwrap_or_default();
            if wanted.is_empty() {
                return Ok(items);
            }
            tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
        }
        Err(failed(BATCH_GET, "some keys were never processed"))
    }
}

/// The items to read in a batch, at most [`BATCH`] of them, with these attributes
/// or whole.
fn wanted<'a>(
    keys: Vec<Item>,
    attributes: impl Into<Option<&'a str>>,
    consistency: Consistency,
) -> Result<KeysAndAttributes, StoreError> {
    KeysAndAttributes::builder()
        .set_keys(Some(keys))
        .set_projection_expression(attributes.into().map(str::to_owned))
        .consistent_read(consistency == Consistency::Strong)
        .build()
        .map_err(|error| failed(BATCH_GET, error))
}

/// The key of a connection's row.
fn key(id: &ConnectionId) -> Item {
    Item::from([(CONNECTION_ID.to_owned(), text(id.as_str()))])
}

/// Whether a write was not made because its condition did not hold.
fn condition_failed<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.code() == Some("ConditionalCheckFailedException")
}

/// Whether a conditional write was made.
fn written<T, E>(
    operation: &'static str,
    sent: Result<T, SdkError<E, HttpResponse>>,
) -> Result<bool, StoreError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match sent {
        Ok(_) => Ok(true),
        Err(error) if condition_failed(&error) => Ok(false),
        Err(error) => Err(sdk_failed(operation, &error)),
    }
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
