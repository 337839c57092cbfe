//! Transactions that hold their items for a while, as in DynamoDB: any other
//! write to one of these items is refused meanwhile. The embedded DynamoDB runs one
//! call after the other, so its transactions never meet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use dynoxide::types::normalize_dynamo_number;
use serde_json::Value;

use crate::template::TableSpec;

/// The members of a transaction's item that name its kind.
const KINDS: [&str; 5] = ["Put", "Update", "Delete", "ConditionCheck", "Get"];

/// Why a call is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// A transaction holds the item.
    Item,
    /// Whether a transaction holds each item, in the order of the request.
    Items(Vec<bool>),
}

/// A table, and the item's key in a canonical form.
type ItemKey = (String, String);

pub(super) struct Contention {
    /// The key attributes of the template's tables. A `PutItem` to another table
    /// meets no transaction.
    key_attributes: HashMap<String, Vec<String>>,
    held: Mutex<HeldItems>,
    /// Read without the lock.
    holds: AtomicUsize,
}

/// The items that transactions hold.
#[derive(Default)]
struct HeldItems(HashSet<ItemKey>);

/// A transaction's hold on its items. Dropping it releases them.
pub(super) struct Hold {
    contention: Arc<Contention>,
    items: Vec<ItemKey>,
}

impl Contention {
    pub(super) fn new(tables: &[TableSpec]) -> Self {
        let key_attributes = tables.iter().map(|table| {
            let schema = table.create["KeySchema"].as_array();
            let names = schema.into_iter().flatten();
            let names = names.filter_map(|key| Some(key["AttributeName"].as_str()?.to_owned()));
            (table.name.clone(), names.collect())
        });
        Self {
            key_attributes: key_attributes.collect(),
            held: Mutex::default(),
            holds: AtomicUsize::new(0),
        }
    }

    pub(super) fn holds_items(&self) -> bool {
        self.holds.load(Ordering::Acquire) > 0
    }

    /// Admits a call or refuses it. If `holds` says so, an admitted write
    /// transaction holds its items from now on.
    pub(super) fn admit(
        self: &Arc<Self>,
        operation: &str,
        body: &Value,
        holds: impl FnOnce() -> bool,
    ) -> Result<Option<Hold>, Conflict> {
        match operation {
            "PutItem" | "UpdateItem" | "DeleteItem" => {
                let item = self.item_key(body);
                match item.is_some_and(|item| self.lock().0.contains(&item)) {
                    true => Err(Conflict::Item),
                    false => Ok(None),
                }
            }
            "TransactGetItems" => {
                let items = self.transaction_items(body);
                self.lock().check(&items).map(|()| None)
            }
            "TransactWriteItems" => {
                let items = self.transaction_items(body);
                let mut held = self.lock();
                held.check(&items)?;
                Ok(holds().then(|| self.hold(&mut held, items)))
            }
            _ => Ok(None),
        }
    }

    fn hold(self: &Arc<Self>, held: &mut HeldItems, items: Vec<Option<ItemKey>>) -> Hold {
        let items = items.into_iter().flatten();
        // DynamoDB refuses a transaction that names an item twice.
        let items = items.filter(|item| held.0.insert(item.clone())).collect();
        self.holds.fetch_add(1, Ordering::AcqRel);
        Hold {
            contention: Arc::clone(self),
            items,
        }
    }

    /// The keys of a transaction's items; `None` for an item that DynamoDB will
    /// refuse.
    fn transaction_items(&self, body: &Value) -> Vec<Option<ItemKey>> {
        let items = body["TransactItems"].as_array().into_iter().flatten();
        let key = |item: &Value| {
            let requests = KINDS.iter().filter_map(|kind| item.get(kind));
            requests.into_iter().find_map(|item| self.item_key(item))
        };
        items.map(key).collect()
    }

    fn item_key(&self, request: &Value) -> Option<ItemKey> {
        let table = request["TableName"].as_str()?;
        // The name, also of an ARN that ends in `table/Connections`.
        let table = table.rsplit('/').next()?;
        let key: BTreeMap<&str, &Value> = match request.get("Key") {
            Some(key) => {
                let attributes = key.as_object()?.iter();
                attributes
                    .map(|(name, value)| (name.as_str(), value))
                    .collect()
            }
            None => {
                let item = request.get("Item")?;
                let names = self.key_attributes.get(table)?.iter();
                let attributes = names.map(|name| Some((name.as_str(), item.get(name)?)));
                attributes.collect::<Option<_>>()?
            }
        };
        let key = key
            .into_iter()
            .map(|(name, value)| match value["N"].as_str() {
                Some(number) => format!("{name}:N:{}", normalize_dynamo_number(number)),
                None => format!("{name}:{value}"),
            });
        Some((table.to_owned(), key.collect::<Vec<_>>().join(",")))
    }

    fn lock(&self) -> MutexGuard<'_, HeldItems> {
        self.held
            .lock()
            .expect("no code panics while holding the lock")
    }
}

impl HeldItems {
    fn check(&self, items: &[Option<ItemKey>]) -> Result<(), Conflict> {
        let is_held = |item: &Option<ItemKey>| item.as_ref().is_some_and(|i| self.0.contains(i));
        let held: Vec<_> = items.iter().map(is_held).collect();
        if held.contains(&true) {
            Err(Conflict::Items(held))
        } else {
            Ok(())
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.contention.lock();
        for item in &self.items {
            held.0.remove(item);
        }
        self.contention.holds.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn contention() -> Arc<Contention> {
        let schema = |names: &[&str]| -> Value {
            names
                .iter()
                .map(|name| json!({"AttributeName": name}))
                .collect()
        };
        let table = |name: &str, names| TableSpec {
            name: name.to_owned(),
            create: json!({"KeySchema": schema(names)}),
            ttl_attribute: None,
        };
        Arc::new(Contention::new(&[
            table("Rows", &["id"]),
            table("State", &["pk", "sk"]),
        ]))
    }

    fn update(id: &str) -> Value {
        json!({"Update": {"TableName": "Rows", "Key": {"id": {"S": id}}}})
    }

    fn transaction(items: &[Value]) -> Value {
        json!({"TransactItems": items})
    }

    fn begin(contention: &Arc<Contention>, body: &Value) -> Result<Option<Hold>, Conflict> {
        contention.admit("TransactWriteItems", body, || true)
    }

    fn refusal(contention: &Arc<Contention>, operation: &str, body: &Value) -> Option<Conflict> {
        contention.admit(operation, body, || false).err()
    }

    #[test]
    fn a_transaction_keeps_other_writers_from_its_items_until_it_ends() {
        let contention = contention();
        let hold = begin(&contention, &transaction(&[update("a"), update("b")])).unwrap();
        let other = transaction(&[update("c"), update("b")]);
        let reasons = || Some(Conflict::Items(vec![false, true]));
        assert_eq!(
            refusal(&contention, "TransactWriteItems", &other),
            reasons()
        );
        let get = |id| json!({"Get": {"TableName": "Rows", "Key": {"id": {"S": id}}}});
        let read = transaction(&[get("c"), get("b")]);
        assert_eq!(refusal(&contention, "TransactGetItems", &read), reasons());
        let by_key = json!({"TableName": "Rows", "Key": {"id": {"S": "a"}}});
        for operation in ["UpdateItem", "DeleteItem"] {
            assert_eq!(
                refusal(&contention, operation, &by_key),
                Some(Conflict::Item)
            );
        }
        let put = json!({"TableName": "Rows", "Item": {"id": {"S": "a"}, "x": {"N": "1"}}});
        assert_eq!(refusal(&contention, "PutItem", &put), Some(Conflict::Item));
        for operation in ["GetItem", "Query", "BatchGetItem", "Scan"] {
            assert_eq!(refusal(&contention, operation, &by_key), None);
        }
        assert!(contention.holds_items());
        drop(hold);
        assert!(!contention.holds_items());
        assert_eq!(refusal(&contention, "UpdateItem", &by_key), None);
        assert_eq!(refusal(&contention, "TransactWriteItems", &other), None);
    }

    #[test]
    fn a_refused_transaction_holds_nothing() {
        let contention = contention();
        let _hold = begin(&contention, &transaction(&[update("a")])).unwrap();
        let refused = transaction(&[update("b"), update("a")]);
        assert!(begin(&contention, &refused).is_err());
        assert!(begin(&contention, &transaction(&[update("b")])).is_ok());
    }

    #[test]
    fn an_item_is_its_table_and_its_key() {
        let contention = contention();
        let key = |sk: &str| json!({"sk": {"N": sk}, "pk": {"S": "p"}});
        let delete = json!({"Delete": {"TableName": "State", "Key": key("1")}});
        let _hold = begin(&contention, &transaction(&[delete])).unwrap();
        let is_held = |table: &str, key: Value| {
            let body = json!({"TableName": table, "Key": key});
            refusal(&contention, "UpdateItem", &body).is_some()
        };
        let arn = "arn:aws:dynamodb:us-east-1:000000000000:table/State";
        assert!(is_held("State", key("1.0")));
        assert!(is_held(arn, key("1")));
        assert!(!is_held("State", key("2")));
        assert!(!is_held("Rows", key("1")));
        let item = json!({"pk": {"S": "p"}, "sk": {"N": "1"}, "x": {"S": "y"}});
        let check = json!({"TableName": "State", "Item": item});
        assert!(refusal(&contention, "PutItem", &check).is_some());
    }

    #[test]
    fn a_malformed_request_is_left_to_dynamodb() {
        let contention = contention();
        let _hold = begin(&contention, &transaction(&[update("a")])).unwrap();
        for body in [
            json!(null),
            json!([]),
            json!({"TransactItems": {"Put": 1}}),
            json!({"TransactItems": [1, {}, {"Put": 1}, {"Put": {"TableName": "Rows", "Item": 1}}]}),
            json!({"TableName": "Rows", "Key": 1}),
            json!({"TableName": 1}),
        ] {
            for operation in ["PutItem", "TransactWriteItems", "TransactGetItems"] {
                assert_eq!(refusal(&contention, operation, &body), None, "{body}");
            }
        }
    }
}
