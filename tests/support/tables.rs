//! The rows of a stack's tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use tokio::task::JoinHandle;

use crate::stack::Stack;

/// Pause between two counts, so that counting does not load the database.
const BETWEEN_COUNTS: Duration = Duration::from_millis(20);

pub type Item = HashMap<String, AttributeValue>;

impl Stack {
    pub async fn row(&self, id: &str) -> Option<Item> {
        let key = AttributeValue::S(id.to_owned());
        let get = self
            .dynamodb()
            .get_item()
            .table_name("Connections")
            .key("connectionId", key)
            .consistent_read(true);
        get.send().await.expect("GetItem").item
    }

    /// Counts the connections' rows, over all pages.
    ///
    /// # Panics
    /// If the scan fails.
    pub async fn rows(&self) -> usize {
        scan(self.dynamodb(), "Connections").await.len()
    }

    /// Counts the subscriptions of all connections.
    ///
    /// # Panics
    /// If the scan fails.
    pub async fn subscriptions(&self) -> usize {
        self.subscription_items().await.len()
    }

    /// The items of the table `Subscriptions`.
    ///
    /// # Panics
    /// If the scan fails.
    pub async fn subscription_items(&self) -> Vec<Item> {
        scan(self.dynamodb(), "Subscriptions").await
    }

    /// Makes every row a minute older, as if each handshake had ended long ago.
    ///
    /// # Panics
    /// If a row cannot be read or written.
    pub async fn age_rows(&self) {
        for row in scan(self.dynamodb(), "Connections").await {
            let connected_at = row["connectedAt"].as_n().expect("a number");
            let connected_at: u64 = connected_at.parse().expect("a number");
            let update = self
                .dynamodb()
                .update_item()
                .table_name("Connections")
                .key("connectionId", row["connectionId"].clone())
                .update_expression("SET connectedAt = :earlier")
                .condition_expression("attribute_exists(connectionId)")
                .expression_attribute_values(
                    ":earlier",
                    AttributeValue::N((connected_at - 60_000).to_string()),
                );
            match update.send().await {
                Ok(_) => {}
                // The row is gone meanwhile.
                Err(error) => assert!(
                    error
                        .as_service_error()
                        .is_some_and(|error| { error.is_conditional_check_failed_exception() }),
                    "{error:?}"
                ),
            }
        }
    }

    pub async fn connection_ids(&self) -> Vec<String> {
        let rows = scan(self.dynamodb(), "Connections").await;
        let ids = rows.iter().map(|row| text_of(row, "connectionId"));
        ids.collect()
    }

    /// The items of the table `State`.
    ///
    /// # Panics
    /// If the scan fails.
    pub async fn state(&self) -> Vec<Item> {
        scan(self.dynamodb(), "State").await
    }

    /// The items of `State` about subscriptions: connections' channels, and
    /// departures.
    ///
    /// # Panics
    /// If the scan fails.
    pub async fn session_items(&self) -> Vec<Item> {
        let mut items = self.state().await;
        items.retain(|item| {
            let pk = text_of(item, "pk");
            pk.starts_with("session#") || pk.starts_with("due#")
        });
        items
    }

    /// Makes everything due, as if every connection had ended long ago. No frame
    /// may be under way.
    ///
    /// # Panics
    /// If an item cannot be read or written.
    pub async fn age_departures(&self) {
        for mut item in self.session_items().await {
            let key = text_of(&item, "sk");
            let Some((due_at, rest)) = key.split_once('#') else {
                continue;
            };
            let due_at: u64 = due_at.parse().expect("a time");
            // Counts are in the shard of their minute, one of sixteen.
            let minutes = if rest.starts_with("count#") { 16 } else { 1 };
            let earlier = format!("{:013}#{rest}", due_at - minutes * 60_000);
            let delete = self.dynamodb().delete_item().table_name("State");
            let delete = delete
                .key("pk", item["pk"].clone())
                .key("sk", item["sk"].clone());
            item.insert("sk".into(), AttributeValue::S(earlier));
            let put = self.dynamodb().put_item().table_name("State");
            let put = put.set_item(Some(item));
            put.send().await.expect("PutItem");
            delete.send().await.expect("DeleteItem");
        }
    }

    /// Makes every event that the application is to be told of more than a day
    /// old.
    ///
    /// # Panics
    /// If an item cannot be read or written.
    pub async fn age_hook_events(&self) {
        for mut item in self.state().await {
            if !text_of(&item, "pk").starts_with("hooks#") {
                continue;
            }
            let key = text_of(&item, "sk");
            let [subject, at, kind] = key.split('#').collect::<Vec<_>>()[..] else {
                panic!("{key}")
            };
            let at: u64 = at.parse().expect("a time");
            let at = at - 25 * 60 * 60 * 1_000;
            let delete = self.dynamodb().delete_item().table_name("State");
            let delete = delete
                .key("pk", item["pk"].clone())
                .key("sk", item["sk"].clone());
            item.insert("at".into(), AttributeValue::N(at.to_string()));
            let earlier = format!("{subject}#{at:013}#{kind}");
            item.insert("sk".into(), AttributeValue::S(earlier));
            let put = self.dynamodb().put_item().table_name("State");
            put.set_item(Some(item)).send().await.expect("PutItem");
            delete.send().await.expect("DeleteItem");
        }
    }

    /// The items of a channel's log: its entries, and its head at the end.
    ///
    /// # Panics
    /// If the query fails.
    pub async fn log_items(&self, channel: &str) -> Vec<Item> {
        let query = self
            .dynamodb()
            .query()
            .table_name("Messages")
            .key_condition_expression("channel = :channel")
            .expression_attribute_values(":channel", AttributeValue::S(channel.into()))
            .consistent_read(true);
        let items = query.into_paginator().items().send();
        let items = items.collect::<Result<Vec<_>, _>>().await;
        items.expect("Query")
    }

    /// Ends the retention of a channel's messages up to a number, as time does.
    ///
    /// # Panics
    /// If an item cannot be read or written.
    pub async fn expire_messages(&self, channel: &str, last: u64) {
        let ended = AttributeValue::N("1".into());
        for mut item in self.log_items(channel).await {
            let seq: u64 = item["seq"].as_n().expect("a number").parse().expect("seq");
            let attribute = match item.contains_key("entryExpiresAt") {
                true => "entryExpiresAt",
                false => "expiresAt",
            };
            if seq <= last {
                item.insert(attribute.into(), ended.clone());
                let put = self.dynamodb().put_item().table_name("Messages");
                put.set_item(Some(item)).send().await.expect("PutItem");
            }
        }
    }

    /// Deletes items of a channel's log. Its head is the one with
    /// `entryExpiresAt`.
    ///
    /// # Panics
    /// If an item cannot be deleted.
    pub async fn delete_log_items(&self, channel: &str, wanted: impl Fn(&Item) -> bool) {
        for item in self.log_items(channel).await {
            if wanted(&item) {
                let delete = self.dynamodb().delete_item().table_name("Messages");
                let delete = delete
                    .key("channel", item["channel"].clone())
                    .key("position", item["position"].clone());
                delete.send().await.expect("DeleteItem");
            }
        }
    }

    /// Checks that there are this many rows, and that the counters and the
    /// users' sets agree with them. No event may be in flight.
    ///
    /// # Panics
    /// If they differ.
    pub async fn expect_connections(&self, count: usize) {
        let rows = scan(self.dynamodb(), "Connections").await;
        assert_eq!(rows.len(), count);
        let mut of_users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in &rows {
            let user = format!("user#{}", text_of(row, "userId"));
            let of_user = of_users.entry(user).or_default();
            of_user.insert(text_of(row, "connectionId"));
        }
        let Places { sets, counters } = self.places().await;
        assert_eq!(sets, of_users, "the users' sets");
        assert!(counters.iter().all(|count| *count >= 0), "{counters:?}");
        let counted: i64 = counters.iter().sum();
        assert_eq!(usize::try_from(counted), Ok(count), "the counters");
    }

    /// The places that are taken.
    pub async fn places(&self) -> Places {
        let mut places = Places::default();
        for item in self.state().await {
            if let Some(AttributeValue::Ss(ids)) = item.get("connectionIds") {
                let ids = ids.iter().cloned().collect();
                places.sets.insert(text_of(&item, "pk"), ids);
            }
            if let Some(AttributeValue::N(connections)) = item.get("connections") {
                let count = connections.parse().expect("a number");
                places.counters.push(count);
            }
        }
        places
    }

    /// Counts the rows repeatedly until stopped.
    #[must_use]
    pub fn watch_rows(&self) -> RowWatch {
        let client = self.dynamodb().clone();
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let counting = tokio::spawn(async move {
            let mut most = 0;
            while !*stopped.borrow_and_update() {
                most = most.max(scan(&client, "Connections").await.len());
                tokio::time::sleep(BETWEEN_COUNTS).await;
            }
            most
        });
        RowWatch { stop, counting }
    }
}

/// Which connections count toward the limits.
#[derive(Debug, Default)]
pub struct Places {
    /// Connection ids by the key of their user's item.
    pub sets: BTreeMap<String, BTreeSet<String>>,
    /// What each shard counts.
    pub counters: Vec<i64>,
}

/// Counts rows in the background.
pub struct RowWatch {
    stop: tokio::sync::watch::Sender<bool>,
    counting: JoinHandle<usize>,
}

impl RowWatch {
    /// Stops, and returns the highest count.
    ///
    /// # Panics
    /// If a scan failed.
    pub async fn stop(self) -> usize {
        self.stop.send_replace(true);
        self.counting.await.expect("counted")
    }
}

/// A text of an item.
///
/// # Panics
/// If there is none with this name.
#[must_use]
pub fn text_of(item: &Item, name: &str) -> String {
    item[name].as_s().expect("a text").clone()
}

async fn scan(client: &aws_sdk_dynamodb::Client, table: &str) -> Vec<Item> {
    let pages = client.scan().table_name(table).consistent_read(true);
    let items = pages.into_paginator().items().send();
    let items = items.collect::<Result<Vec<_>, _>>().await;
    items.expect("Scan")
}
