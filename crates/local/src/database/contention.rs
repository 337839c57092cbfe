//! Transactions that hold their items for a while, as in DynamoDB: any other
//! write to one of these items is refused meanwhile. The embedded DynamoDB runs one
//! call after the other, so its transactions never meet.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use dynoxide::types::normalize_dynamo_number;
use serde_json::Value;

use crate::template::TableSpec;

/// Tokens of committed transactions that are remembered: three minutes of 500
/// transactions a second.
const MAX_COMMITTED_TOKENS: usize = 100_000;

/// The members of a transaction's item that name its kind.
const KINDS: [&str; 5] = ["Put", "Update", "Delete", "ConditionCheck", "Get"];

/// Why a call is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// A transaction holds the item.
    Item,
    /// Whether a transaction holds each item, in the order of the request.
    Items(Vec<bool>),
    /// A transaction with the same token has not ended.
    InProgress,
}

/// A table, and the item's key in a canonical form.
type ItemKey = (String, String);

pub(super) struct Contention {
    /// The key attributes of the template's tables. A `PutItem` to another table
    /// meets no transaction.
    key_attributes: HashMap<String, Vec<String>>,
    transactions: Mutex<Transactions>,
    /// Read without the lock.
    holds: AtomicUsize,
}

#[derive(Default)]
struct Transactions {
    held: HashSet<ItemKey>,
    tokens: HashSet<String>,
    committed: CommittedTokens,
}

/// DynamoDB answers a repeated token of a committed transaction at once,
/// whatever holds the items by then.
#[derive(Default)]
struct CommittedTokens {
    tokens: HashSet<String>,
    oldest_first: VecDeque<String>,
}

/// A transaction's hold on its items. Dropping it releases them.
pub(super) struct Hold {
    contention: Arc<Contention>,
    items: Vec<ItemKey>,
    token: Option<String>,
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
            transactions: Mutex::default(),
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
                let transactions = self.lock();
                match item.is_some_and(|item| transactions.held.contains(&item)) {
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
                let token = body["ClientRequestToken"].as_str();
                let mut transactions = self.lock();
                if token.is_some_and(|token| transactions.committed.tokens.contains(token)) {
                    return Ok(None);
                }
                if token.is_some_and(|token| transactions.tokens.contains(token)) {
                    return Err(Conflict::InProgress);
                }
                transactions.check(&items)?;
                Ok(holds().then(|| self.hold(&mut transactions, items, token)))
            }
            _ => Ok(None),
        }
    }

    fn hold(
        self: &Arc<Self>,
        transactions: &mut Transactions,
        items: Vec<Option<ItemKey>>,
        token: Option<&str>,
    ) -> Hold {
        let items = items.into_iter().flatten();
        // DynamoDB refuses a transaction that names an item twice.
        let items = items.filter(|item| transactions.held.insert(item.clone()));
        let hold = Hold {
            contention: Arc::clone(self),
            items: items.collect(),
            token: token.map(str::to_owned),
        };
        transactions.tokens.extend(hold.token.clone());
        self.holds.fetch_add(1, Ordering::AcqRel);
        hold
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

    fn lock(&self) -> MutexGuard<'_, Transactions> {
        self.transactions
            .lock()
            .expect("no code panics while holding the lock")
    }
}

impl Transactions {
    fn check(&self, items: &[Option<ItemKey>]) -> Result<(), Conflict> {
        let is_held = |item: &Option<ItemKey>| item.as_ref().is_some_and(|i| self.held.contains(i));
        let held: Vec<_> = items.iter().map(is_held).collect();
        if held.contains(&true) {
            Err(Conflict::Items(held))
        } else {
            Ok(())
        }
    }
}

impl CommittedTokens {
    fn insert(&mut self, token: &str) {
        if self.tokens.insert(token.to_owned()) {
            self.oldest_first.push_back(token.to_owned());
        }
        if self.oldest_first.len() > MAX_COMMITTED_TOKENS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.tokens.remove(&oldest);
        }
    }
}

impl Hold {
    /// The transaction has written its items.
    pub(super) fn commit(self) {
        if let Some(token) = &self.token {
            self.contention.lock().committed.insert(token);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut transactions = self.contention.lock();
        for item in &self.items {
            transactions.held.remove(item);
        }
        if let Some(token) = &self.token {
            transactions.tokens.remove(token);
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

    fn transaction(items: &[Value], token: Option<&str>) -> Value {
        json!({"TransactItems": items, "ClientRequestToken": token})
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
        let hold = begin(&contention, &transaction(&[update("a"), update("b")], None)).unwrap();
        let other = transaction(&[update("c"), update("b")], None);
        let reasons = || Some(Conflict::Items(vec![false, true]));
        assert_eq!(
            refusal(&contention, "TransactWriteItems", &other),
            reasons()
        );
        let get = |id| json!({"Get": {"TableName": "Rows", "Key": {"id": {"S": id}}}});
        let read = transaction(&[get("c"), get("b")], None);
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
        let _hold = begin(&contention, &transaction(&[update("a")], None)).unwrap();
        let refused = transaction(&[update("b"), update("a")], None);
        assert!(begin(&contention, &refused).is_err());
        assert!(begin(&contention, &transaction(&[update("b")], None)).is_ok());
    }

    #[test]
    fn an_item_is_its_table_and_its_key() {
        let contention = contention();
        let key = |sk: &str| json!({"sk": {"N": sk}, "pk": {"S": "p"}});
        let delete = json!({"Delete": {"TableName": "State", "Key": key("1")}});
        let _hold = begin(&contention, &transaction(&[delete], None)).unwrap();
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
    fn a_repeated_token_is_in_progress_and_then_answered_at_once() {
        let contention = contention();
        let named = transaction(&[update("a")], Some("t"));
        let hold = begin(&contention, &named).unwrap().unwrap();
        assert_eq!(
            refusal(&contention, "TransactWriteItems", &named),
            Some(Conflict::InProgress)
        );
        hold.commit();
        let _hold = begin(&contention, &transaction(&[update("a")], Some("u"))).unwrap();
        assert!(matches!(begin(&contention, &named), Ok(None)));
    }

    #[test]
    fn a_cancelled_transaction_may_be_repeated_with_its_token() {
        let contention = contention();
        let named = transaction(&[update("a")], Some("t"));
        drop(begin(&contention, &named).unwrap());
        assert!(matches!(begin(&contention, &named), Ok(Some(_))));
    }

    #[test]
    fn a_malformed_request_is_left_to_dynamodb() {
        let contention = contention();
        let _hold = begin(&contention, &transaction(&[update("a")], None)).unwrap();
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

    #[test]
    fn the_memory_of_committed_tokens_is_bounded() {
        let mut committed = CommittedTokens::default();
        for n in 0..=MAX_COMMITTED_TOKENS {
            committed.insert(&n.to_string());
        }
        assert_eq!(committed.tokens.len(), MAX_COMMITTED_TOKENS);
        assert!(!committed.tokens.contains("0"));
    }
}
