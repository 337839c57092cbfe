//! What the stack's tables say about open connections, whichever tables they
//! are: an item belongs to a connection if one of its keys ends in the
//! connection's id. The item's `userId` is the connection's user, and its
//! `channel` one that the connection is in.

use std::collections::{BTreeSet, HashMap, HashSet};

use dynoxide::Database;
use dynoxide::actions::scan::ScanRequest;
use dynoxide::types::AttributeValue;

use crate::ids::CONNECTION_ID_LENGTH;
use crate::template::TableSpec;

/// Items of each table that are looked at.
const MAX_ITEMS: usize = 2_000;

const USER: &str = "userId";
const CHANNEL: &str = "channel";

/// The stack's tables, with the names of their keys.
#[derive(Clone)]
pub(crate) struct KeyedTables {
    database: Database,
    keys: Vec<(String, Vec<String>)>,
}

/// What the tables say about one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionItems {
    pub user_id: Option<String>,
    pub channels: BTreeSet<String>,
}

type Item = HashMap<String, AttributeValue>;

impl KeyedTables {
    pub(crate) fn new(database: Database, tables: &[TableSpec]) -> Self {
        let keys = |table: &TableSpec| {
            let schema = table.create["KeySchema"].as_array().into_iter().flatten();
            let names = schema.filter_map(|key| key["AttributeName"].as_str());
            (table.name.clone(), names.map(str::to_owned).collect())
        };
        Self {
            database,
            keys: tables.iter().map(keys).collect(),
        }
    }

    /// What is known about these connections. Reads the tables, so it blocks.
    pub(crate) fn about(&self, ids: &HashSet<String>) -> HashMap<String, ConnectionItems> {
        let mut about = HashMap::<String, ConnectionItems>::new();
        if ids.is_empty() {
            return about;
        }
        for (table, keys) in &self.keys {
            for item in self.items(table, keys) {
                let owner = keys.iter().find_map(|key| owner(text(&item, key)?, ids));
                let Some(owner) = owner else { continue };
                let known = about.entry(owner.to_owned()).or_default();
                if let Some(user) = text(&item, USER) {
                    known.user_id = Some(user.to_owned());
                }
                known
                    .channels
                    .extend(text(&item, CHANNEL).map(str::to_owned));
            }
        }
        about
    }

    /// The first items of a table, with what is needed of them.
    fn items(&self, table: &str, keys: &[String]) -> Vec<Item> {
        let mut names: BTreeSet<_> = keys.iter().map(String::as_str).collect();
        names.extend([USER, CHANNEL]);
        let mut items = Vec::new();
        let mut start = None;
        loop {
            let page = self.database.scan(ScanRequest {
                table_name: table.to_owned(),
                attributes_to_get: Some(names.iter().map(|&name| name.to_owned()).collect()),
                limit: Some(MAX_ITEMS - items.len()),
                exclusive_start_key: start,
                ..ScanRequest::default()
            });
            // The stack's user may have deleted the table.
            let Ok(page) = page else { return items };
            items.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key;
            if start.is_none() || items.len() >= MAX_ITEMS {
                return items;
            }
        }
    }
}

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    match item.get(name)? {
        AttributeValue::S(text) => Some(text),
        _ => None,
    }
}

/// The id in which a key ends.
fn owner<'a>(key: &'a str, ids: &HashSet<String>) -> Option<&'a str> {
    let end = key.get(key.len().checked_sub(CONNECTION_ID_LENGTH)?..)?;
    ids.contains(end).then_some(end)
}
