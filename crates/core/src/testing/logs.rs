use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use belfry_protocol::{Epoch, Position};

use super::{FakeStore, START, Store};
use crate::log::{AppendId, Entry, Head, LogKey};
use crate::ports::{
    Advanced, CLOCK_LEEWAY, DeletedPage, DeletedTo, LogAppends, LogPeeks, LogPurges, LogReads,
    Memory, StoreError, Tail,
};
use crate::time::{UnixMillis, UnixSeconds};

/// Entries in a page: few, so that tests turn pages.
const PAGE: usize = 3;

#[derive(Default)]
pub(super) struct Logs {
    logs: BTreeMap<LogKey, Log>,
    /// Where, and until when that is remembered.
    appends: HashMap<(AppendId, LogKey), (Position, UnixSeconds)>,
}

#[derive(Default)]
struct Log {
    head: Option<(Head, UnixSeconds)>,
    entries: BTreeMap<(Epoch, u64), Entry>,
}

impl FakeStore {
    /// Deletes what has expired, as a store does at some time.
    pub fn delete_expired_log_entries(&self, now: UnixMillis) {
        for log in self.logs.lock().expect("no panic").logs.values_mut() {
            log.head.take_if(|(_, end)| end.has_passed(now));
            log.entries
                .retain(|_, entry| !entry.expires_at.has_passed(now));
        }
    }
}

impl LogReads for FakeStore {
    async fn head(&self, log: &LogKey) -> Result<Option<Head>, StoreError> {
        let logs = self.logs("head")?;
        let head = logs.logs.get(log).and_then(|log| log.head.as_ref());
        Ok(head.map(|(head, _)| head.clone()))
    }

    async fn entries(
        &self,
        log: &LogKey,
        epoch: &Epoch,
        numbers: RangeInclusive<u64>,
    ) -> Result<Vec<Entry>, StoreError> {
        let logs = self.logs("entries")?;
        let key = |n: &u64| (epoch.clone(), *n);
        let keys = key(numbers.start())..=key(numbers.end());
        let entries = logs.logs.get(log).map(|log| log.entries.range(keys));
        let page = entries.into_iter().flatten().take(PAGE);
        Ok(page.map(|(_, entry)| entry.clone()).collect())
    }
}

impl LogPeeks for FakeStore {
    async fn peek(&self, keys: &[LogKey]) -> Result<HashMap<LogKey, Position>, StoreError> {
        let logs = self.logs("peek")?;
        let head = |key: &LogKey| logs.logs.get(key)?.head.as_ref();
        let found = keys
            .iter()
            .filter_map(|key| Some((key.clone(), head(key)?.0.position())));
        Ok(found.collect())
    }
}

impl LogPurges for FakeStore {
    async fn delete_superseded(
        &self,
        log: &LogKey,
        after: Option<&DeletedTo>,
    ) -> Result<DeletedPage, StoreError> {
        let mut logs = self.logs("delete_superseded")?;
        let Log { head, entries } = logs.logs.entry(log.clone()).or_default();
        let rest = entries.keys();
        let rest = rest.filter(|key| after.is_none_or(|after| *key > after));
        let page: Vec<_> = rest.take(PAGE).cloned().collect();
        let next = page.last().filter(|_| page.len() == PAGE).cloned();
        let epoch = head.as_ref().map(|(head, _)| &head.epoch);
        let superseded = page.iter().filter(|key| Some(&key.0) != epoch);
        let deleted = superseded.filter_map(|key| entries.remove(key)).count();
        Ok(DeletedPage {
            deleted: deleted as u64,
            next,
        })
    }
}

impl LogAppends for FakeStore {
    async fn tail(&self, log: &LogKey) -> Result<Option<Tail>, StoreError> {
        let logs = self.logs("tail")?;
        let tail = logs.logs.get(log).and_then(|log| {
            let (head, _) = log.head.as_ref()?;
            let key = (head.epoch.clone(), head.newest.seq);
            Some(Tail {
                head: head.clone(),
                is_stored: log.entries.contains_key(&key),
            })
        });
        Ok(tail)
    }

    async fn advance(
        &self,
        log: &LogKey,
        from: Option<&Position>,
        to: &Head,
        expires_at: UnixSeconds,
        memory: Option<Memory<'_>>,
    ) -> Result<Advanced, StoreError> {
        let mut logs = self.logs("advance")?;
        let mark = memory.map(|memory| (memory.id.clone(), log.clone()));
        if let Some((memory, mark)) = memory.zip(mark.as_ref())
            && let Some((before, until)) = logs.appends.get(mark)
            && *until > memory.forgotten
        {
            return Ok(Advanced::Before(before.clone()));
        }
        let head = &mut logs.logs.entry(log.clone()).or_default().head;
        let now = head.as_ref().map(|(head, _)| head);
        if now.map(Head::position).as_ref() != from {
            return Ok(Advanced::Moved(now.cloned()));
        }
        *head = Some((to.clone(), expires_at));
        let remembered = mark.zip(memory);
        let remembered = remembered.map(|(mark, memory)| (mark, (to.position(), memory.until)));
        logs.appends.extend(remembered);
        Ok(Advanced::Yes)
    }

    async fn find_append(
        &self,
        log: &LogKey,
        id: &AppendId,
        now: UnixMillis,
    ) -> Result<Option<Position>, StoreError> {
        let logs = self.logs("find_append")?;
        let found = logs.appends.get(&(id.clone(), log.clone()));
        let found = found.filter(|(_, until)| *until > Memory::forgotten(now));
        Ok(found.map(|(position, _)| position.clone()))
    }

    async fn store(&self, log: &LogKey, epoch: &Epoch, entry: &Entry) -> Result<(), StoreError> {
        let mut logs = self.logs("store")?;
        let entries = &mut logs.logs.entry(log.clone()).or_default().entries;
        let key = (epoch.clone(), entry.seq);
        entries.entry(key).or_insert_with(|| entry.clone());
        Ok(())
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    a_log_begins_empty(&new().await).await;
    the_head_moves_from_where_it_is_only(&new().await).await;
    a_log_begins_once(&new().await).await;
    a_head_holds_all_that_was_appended_together(&new().await).await;
    an_entry_is_stored_once(&new().await).await;
    entries_are_listed_in_order(&new().await).await;
    a_message_is_appended_once_to_each_log(&new().await).await;
    a_message_is_forgotten_on_time(&new().await).await;
    logs_are_separate(&new().await).await;
    a_look_shows_the_newest_positions(&new().await).await;
    entries_of_other_epochs_are_deleted(&new().await).await;
    a_frame_survives_whatever_it_contains(&new().await).await;
}

const END: UnixSeconds = UnixSeconds(START.0 / 1_000 + 86_400);

fn room() -> LogKey {
    LogKey::channel("room:7")
}

fn epoch() -> Epoch {
    Epoch::parse("19b76da0800aaaaaaaa").expect("an epoch")
}

fn entry(seq: u64, id: &str) -> Entry {
    Entry {
        seq,
        append_id: AppendId(id.into()),
        expires_at: END,
        frame: format!(r#"{{"n":{seq}}}"#),
    }
}

fn head(seq: u64, id: &str) -> Head {
    Head {
        epoch: epoch(),
        frames_before: Vec::new(),
        newest: entry(seq, id),
    }
}

fn position(seq: u64) -> Position {
    head(seq, "").position()
}

async fn advance<S: Store>(store: &S, from: Option<u64>, to: &Head) -> Advanced {
    let from = from.map(position);
    let advanced = store.advance(&room(), from.as_ref(), to, END, None).await;
    advanced.expect("advance")
}

async fn a_log_begins_empty<S: Store>(store: &S) {
    assert_eq!(LogReads::head(store, &room()).await, Ok(None));
    assert_eq!(store.tail(&room()).await, Ok(None));
    assert_eq!(store.entries(&room(), &epoch(), 1..=9).await, Ok(vec![]));
    let moved = advance(store, Some(1), &head(2, "a")).await;
    assert_eq!(moved, Advanced::Moved(None));
    assert_eq!(LogReads::head(store, &room()).await, Ok(None));
}

async fn the_head_moves_from_where_it_is_only<S: Store>(store: &S) {
    assert_eq!(advance(store, None, &head(1, "a")).await, Advanced::Yes);
    assert_eq!(advance(store, Some(1), &head(2, "b")).await, Advanced::Yes);
    let at = || Advanced::Moved(Some(head(2, "b")));
    for wrong in [None, Some(1), Some(3)] {
        let moved = advance(store, wrong, &head(3, "c")).await;
        assert_eq!(moved, at(), "{wrong:?}");
    }
    let other_epoch = Position {
        epoch: Epoch::parse("other").expect("an epoch"),
        seq: 2,
    };
    let moved = store
        .advance(&room(), Some(&other_epoch), &head(3, "c"), END, None)
        .await;
    assert_eq!(moved, Ok(at()));
    assert_eq!(LogReads::head(store, &room()).await, Ok(Some(head(2, "b"))));
}

async fn a_log_begins_once<S: Store>(store: &S) {
    let other = Head {
        epoch: Epoch::parse("other").expect("an epoch"),
        ..head(1, "b")
    };
    assert_eq!(advance(store, None, &head(1, "a")).await, Advanced::Yes);
    let moved = advance(store, None, &other).await;
    assert_eq!(moved, Advanced::Moved(Some(head(1, "a"))));
}

async fn a_head_holds_all_that_was_appended_together<S: Store>(store: &S) {
    let together = Head {
        frames_before: vec!["ü".into(), String::new()],
        ..head(4, "b")
    };
    assert_eq!(advance(store, None, &head(1, "a")).await, Advanced::Yes);
    let a = head(1, "a").newest;
    assert_eq!(store.store(&room(), &epoch(), &a).await, Ok(()));
    assert_eq!(advance(store, Some(1), &together).await, Advanced::Yes);
    let found = LogReads::head(store, &room()).await;
    assert_eq!(found, Ok(Some(together.clone())));
    let moved = advance(store, Some(1), &head(2, "c")).await;
    assert_eq!(moved, Advanced::Moved(Some(together.clone())));
    // Each of its entries is stored by itself, the newest one last.
    for entry in together.entries() {
        let tail = store.tail(&room()).await.expect("tail").expect("a tail");
        assert!(!tail.is_stored, "{}", entry.seq);
        assert_eq!(tail.head, together);
        let stored = store.store(&room(), &epoch(), &entry).await;
        assert_eq!(stored, Ok(()));
    }
    let tail = store.tail(&room()).await.expect("tail").expect("a tail");
    assert!(tail.is_stored);
    let entries = store.entries(&room(), &epoch(), 2..=4).await;
    assert_eq!(entries, Ok(together.entries().collect()));
    assert_eq!(advance(store, Some(4), &head(5, "d")).await, Advanced::Yes);
    let found = LogReads::head(store, &room()).await;
    assert_eq!(found, Ok(Some(head(5, "d"))));
}

async fn an_entry_is_stored_once<S: Store>(store: &S) {
    advance(store, None, &head(1, "a")).await;
    let tail = |is_stored| {
        Ok(Some(Tail {
            head: head(1, "a"),
            is_stored,
        }))
    };
    assert_eq!(store.tail(&room()).await, tail(false));
    for id in ["a", "late"] {
        let stored = store.store(&room(), &epoch(), &entry(1, id)).await;
        assert_eq!(stored, Ok(()));
    }
    assert_eq!(store.tail(&room()).await, tail(true));
    let entries = store.entries(&room(), &epoch(), 1..=1).await;
    assert_eq!(entries, Ok(vec![entry(1, "a")]));
    // An entry of another epoch is another entry.
    let other = Epoch::parse("19b76da0801bbbbbbbb").expect("an epoch");
    let stored = store.store(&room(), &other, &entry(1, "other")).await;
    assert_eq!(stored, Ok(()));
    let entries = store.entries(&room(), &epoch(), 1..=1).await;
    assert_eq!(entries, Ok(vec![entry(1, "a")]));
    let tail = store.tail(&room()).await.expect("tail").expect("a tail");
    assert_eq!(tail.head, head(1, "a"));
}

async fn entries_are_listed_in_order<S: Store>(store: &S) {
    for seq in [10, 2, 9, 1] {
        let entry = entry(seq, "id");
        store.store(&room(), &epoch(), &entry).await.expect("store");
    }
    let mut listed = Vec::new();
    let mut from = 2;
    loop {
        let page = store.entries(&room(), &epoch(), from..=11).await;
        let page = page.expect("entries");
        let Some(last) = page.last() else { break };
        from = last.seq + 1;
        listed.extend(page.into_iter().map(|entry| entry.seq));
    }
    assert_eq!(listed, [2, 9, 10]);
    let page = store.entries(&room(), &epoch(), 2..=9).await;
    assert_eq!(page, Ok(vec![entry(2, "id"), entry(9, "id")]));
}

/// Whether or not the store has deleted it.
async fn a_message_is_forgotten_on_time<S: Store>(store: &S) {
    let end = END.to_millis().plus(CLOCK_LEEWAY);
    let append = async |from: Option<u64>, to: u64, now: UnixMillis| {
        let (from, to) = (from.map(position), head(to, "m"));
        let memory = Memory {
            id: &AppendId("m".into()),
            until: UnixSeconds(now.to_seconds().0 + 86_400),
            forgotten: Memory::forgotten(now),
        };
        let room = room();
        let advanced = store.advance(&room, from.as_ref(), &to, END, Some(memory));
        advanced.await.expect("advance")
    };
    let found = async |now| {
        let id = AppendId("m".into());
        store.find_append(&room(), &id, now).await
    };
    assert_eq!(append(None, 1, START).await, Advanced::Yes);
    // Functions' clocks differ.
    let just_before = end.minus(Duration::from_secs(1));
    let again = append(Some(1), 2, just_before).await;
    assert_eq!(again, Advanced::Before(position(1)));
    assert_eq!(found(just_before).await, Ok(Some(position(1))));
    assert_eq!(found(end).await, Ok(None));
    assert_eq!(append(Some(1), 2, end).await, Advanced::Yes);
    assert_eq!(found(end).await, Ok(Some(position(2))));
    let again = append(Some(2), 3, end).await;
    assert_eq!(again, Advanced::Before(position(2)));
}

async fn a_message_is_appended_once_to_each_log<S: Store>(store: &S) {
    let append = async |log: &LogKey, from: Option<u64>, to: u64, id: &str| {
        let (from, to) = (from.map(position), head(to, id));
        let memory = Memory {
            id: &AppendId(id.into()),
            until: END,
            forgotten: Memory::forgotten(START),
        };
        let advanced = store.advance(log, from.as_ref(), &to, END, Some(memory));
        advanced.await.expect("advance")
    };
    let (room, other) = (room(), LogKey::channel("room:8"));
    assert_eq!(append(&room, None, 1, "m").await, Advanced::Yes);
    // Wherever the head is, and wherever the caller believes it to be.
    for from in [None, Some(1)] {
        let again = append(&room, from, 2, "m").await;
        assert_eq!(again, Advanced::Before(position(1)), "{from:?}");
    }
    let moved = append(&room, None, 2, "n").await;
    assert_eq!(moved, Advanced::Moved(Some(head(1, "m"))));
    assert_eq!(append(&room, Some(1), 2, "n").await, Advanced::Yes);
    assert_eq!(append(&other, None, 1, "m").await, Advanced::Yes);
    let again = append(&room, Some(2), 3, "m").await;
    assert_eq!(again, Advanced::Before(position(1)));
    assert_eq!(LogReads::head(store, &room).await, Ok(Some(head(2, "n"))));
}

async fn logs_are_separate<S: Store>(store: &S) {
    let user = LogKey::user(&super::user_id("alice"));
    let logs = [room(), user, LogKey::all()];
    for (log, id) in logs.iter().zip(["a", "b", "c"]) {
        let advanced = store.advance(log, None, &head(1, id), END, None).await;
        assert_eq!(advanced, Ok(Advanced::Yes));
    }
    for (log, id) in logs.iter().zip(["a", "b", "c"]) {
        assert_eq!(LogReads::head(store, log).await, Ok(Some(head(1, id))));
    }
}

async fn a_look_shows_the_newest_positions<S: Store>(store: &S) {
    // More than one batch.
    let logs: Vec<_> = (0..120)
        .map(|n| LogKey::channel(&format!("room:{n}")))
        .collect();
    assert_eq!(store.peek(&logs).await, Ok(HashMap::new()));
    let first = head(1, "a");
    for log in [&logs[3], &logs[110]] {
        let advanced = store.advance(log, None, &first, END, None).await;
        assert_eq!(advanced, Ok(Advanced::Yes));
    }
    let found = store.peek(&logs).await.expect("peek");
    assert_eq!(found.len(), 2);
    for log in [&logs[3], &logs[110]] {
        assert_eq!(found.get(log), Some(&first.position()));
    }
}

async fn entries_of_other_epochs_are_deleted<S: Store>(store: &S) {
    let other = Epoch::parse("19b76da0801bbbbbbbb").expect("an epoch");
    for seq in 1..=60 {
        store
            .store(&room(), &epoch(), &entry(seq, "a"))
            .await
            .expect("store");
    }
    for seq in 61..=65 {
        store
            .store(&room(), &other, &entry(seq, "b"))
            .await
            .expect("store");
    }
    let elsewhere = LogKey::channel("room:8");
    store
        .store(&elsewhere, &epoch(), &entry(1, "a"))
        .await
        .expect("store");
    let delete_all = async || {
        let (mut deleted, mut after) = (0, None);
        loop {
            let page = store.delete_superseded(&room(), after.as_ref()).await;
            let page = page.expect("delete_superseded");
            deleted += page.deleted;
            after = page.next;
            if after.is_none() {
                return deleted;
            }
        }
    };
    let head = Head {
        epoch: other.clone(),
        ..head(66, "c")
    };
    assert_eq!(advance(store, None, &head).await, Advanced::Yes);
    assert_eq!(delete_all().await, 60);
    assert_eq!(delete_all().await, 0);
    let old = store.entries(&room(), &epoch(), 1..=60).await;
    assert_eq!(old, Ok(vec![]));
    let kept = store.entries(&room(), &other, 61..=65).await;
    assert_eq!(kept.expect("entries").first(), Some(&entry(61, "b")));
    let untouched = store.entries(&elsewhere, &epoch(), 1..=1).await;
    assert_eq!(untouched.expect("entries").len(), 1);
    // Without a head, nobody can read any of them.
    let (mut deleted, mut after) = (0, None);
    loop {
        let page = store.delete_superseded(&elsewhere, after.as_ref()).await;
        let page = page.expect("delete_superseded");
        deleted += page.deleted;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(deleted, 1);
}

async fn a_frame_survives_whatever_it_contains<S: Store>(store: &S) {
    let mut whole = head(1, "ü 🔔");
    whole.newest.frame = format!(r#"{{"text":"{}"}}"#, "🔔\\\"\\u0000".repeat(10_000));
    assert_eq!(advance(store, None, &whole).await, Advanced::Yes);
    let stored = store.store(&room(), &epoch(), &whole.newest).await;
    assert_eq!(stored, Ok(()));
    let entries = store.entries(&room(), &epoch(), 1..=1).await;
    assert_eq!(entries, Ok(vec![whole.newest.clone()]));
    assert_eq!(LogReads::head(store, &room()).await, Ok(Some(whole)));
}
