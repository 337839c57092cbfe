//! Which user and which channels each connection has, as the tables say. Reading
//! them holds up the functions' own calls, so it may take only a small share of
//! the time, however many pages are open.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::database::{ConnectionItems, KeyedTables};

/// After a look at the tables, so many times its duration pass before the next.
const REST: u32 = 20;

pub(super) struct Directory {
    tables: KeyedTables,
    /// Pages that ask at the same time wait for one look.
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    about: HashMap<String, ConnectionItems>,
    /// When the tables may be read again.
    due: Option<Instant>,
}

impl Directory {
    pub(super) fn new(tables: KeyedTables) -> Self {
        Self {
            tables,
            seen: Mutex::default(),
        }
    }

    /// What is known about these connections, from now or a moment ago.
    pub(super) async fn about(&self, ids: HashSet<String>) -> HashMap<String, ConnectionItems> {
        let mut seen = self.seen.lock().await;
        if seen.due.is_none_or(|due| due <= Instant::now()) {
            let tables = self.tables.clone();
            let look = move || {
                let started = Instant::now();
                (tables.about(&ids), started.elapsed())
            };
            // The task is lost only if the async runtime shuts down.
            let looked = tokio::task::spawn_blocking(look).await;
            let (about, took) = looked.unwrap_or_default();
            seen.about = about;
            seen.due = Some(Instant::now() + took.max(Duration::from_millis(1)) * REST);
        }
        seen.about.clone()
    }
}

#[cfg(test)]
mod tests {
    use dynoxide::Database;
    use serde_json::{Value, json};

    use super::*;
    use crate::database;
    use crate::template::TableSpec;

    const ALICE: &str = "R0oXAdfD0kwCH6w=";

    fn tables() -> (Database, Directory) {
        let key = |name, kind| json!({"AttributeName": name, "KeyType": kind});
        let table = |name: &str, keys: Vec<Value>| {
            let attributes = keys
                .iter()
                .map(|key| json!({"AttributeName": key["AttributeName"], "AttributeType": "S"}));
            TableSpec {
                name: name.to_owned(),
                create: json!({
                    "TableName": name,
                    "BillingMode": "PAY_PER_REQUEST",
                    "AttributeDefinitions": attributes.collect::<Vec<_>>(),
                    "KeySchema": keys,
                }),
                ttl_attribute: None,
            }
        };
        let specs = [
            table("People", vec![key("connectionId", "HASH")]),
            table(
                "Rooms",
                vec![key("channel", "HASH"), key("member", "RANGE")],
            ),
        ];
        let database = database::with_tables(&specs).unwrap();
        let directory = Directory::new(KeyedTables::new(database.clone(), &specs));
        (database, directory)
    }

    fn put(database: &Database, table: &str, attributes: &[(&str, &str)]) {
        let mut item = json!({});
        for (name, value) in attributes {
            item[name] = json!({"S": value});
        }
        let request = json!({"TableName": table, "Item": item});
        let request = serde_json::from_value(request).unwrap();
        database.put_item(request).unwrap();
    }

    async fn channels(directory: &Directory) -> Vec<String> {
        let mut about = directory.about([ALICE.to_owned()].into()).await;
        let alice = about.remove(ALICE).unwrap_or_default();
        alice.channels.into_iter().collect()
    }

    #[tokio::test]
    async fn items_belong_to_the_connection_that_a_key_ends_in() {
        let (database, directory) = tables();
        put(
            &database,
            "People",
            &[("connectionId", ALICE), ("userId", "alice")],
        );
        put(
            &database,
            "People",
            &[("connectionId", "x"), ("userId", "bob")],
        );
        put(
            &database,
            "Rooms",
            &[("channel", "a"), ("member", &format!("c#07#{ALICE}"))],
        );
        put(
            &database,
            "Rooms",
            &[("channel", "b"), ("member", &format!("{ALICE}#c"))],
        );
        put(&database, "Rooms", &[("channel", "c"), ("member", "é")]);
        let about = directory.about([ALICE.to_owned()].into()).await;
        assert_eq!(about.len(), 1);
        assert_eq!(about[ALICE].user_id.as_deref(), Some("alice"));
        assert_eq!(channels(&directory).await, ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_tables_rest_between_two_looks() {
        let (database, directory) = tables();
        let member = format!("c#07#{ALICE}");
        put(&database, "Rooms", &[("channel", "a"), ("member", &member)]);
        assert_eq!(channels(&directory).await, ["a"]);
        put(&database, "Rooms", &[("channel", "b"), ("member", &member)]);
        assert_eq!(channels(&directory).await, ["a"]);
        tokio::time::advance(Duration::from_millis(20)).await;
        assert_eq!(channels(&directory).await, ["a", "b"]);
    }
}
