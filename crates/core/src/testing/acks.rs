use std::ops::Bound;

use belfry_protocol::{Epoch, Position, Receipt, UserId};

use super::{FakeStore, START, Store, user_id};
use crate::log::LogKey;
use crate::ports::{ACK_LIFETIME, Acks, ReaderPage, Receipts, StoreError};
use crate::time::UnixMillis;

impl Acks for FakeStore {
    async fn acknowledge(
        &self,
        log: &LogKey,
        user: &UserId,
        position: &Position,
        now: UnixMillis,
    ) -> Result<Position, StoreError> {
        let mut state = self.working("acknowledge")?;
        let key = (log.clone(), user.clone());
        if let Some((before, moved_at)) = state.acks.get(&key) {
            let order = (&position.epoch, position.seq) > (&before.epoch, before.seq);
            if counts(*moved_at, now) && !order {
                return Ok(before.clone());
            }
        }
        state.acks.insert(key, (position.clone(), now));
        Ok(position.clone())
    }

    async fn find_ack(
        &self,
        log: &LogKey,
        user: &UserId,
        now: UnixMillis,
    ) -> Result<Option<Position>, StoreError> {
        let state = self.working("find_ack")?;
        let found = state.acks.get(&(log.clone(), user.clone()));
        let found = found.filter(|(_, moved_at)| counts(*moved_at, now));
        Ok(found.map(|(position, _)| position.clone()))
    }
}

impl Receipts for FakeStore {
    async fn readers(
        &self,
        log: &LogKey,
        from: &Position,
        after: Option<&UserId>,
        limit: usize,
        now: UnixMillis,
    ) -> Result<ReaderPage, StoreError> {
        let state = self.working("readers")?;
        let from_after = match after {
            Some(after) => Bound::Excluded((log.clone(), after.clone())),
            None => Bound::Unbounded,
        };
        let acks = state.acks.range((from_after, Bound::Unbounded));
        let of_log = acks.filter(|((key, _), _)| key == log).take(limit + 1);
        let of_log: Vec<_> = of_log.collect();
        let page = &of_log[..limit.min(of_log.len())];
        let last = page.last().filter(|_| page.len() < of_log.len());
        let next = last.map(|((_, user), _)| user.clone());
        let matching = page.iter().filter(|(_, (position, moved_at))| {
            position.epoch == from.epoch && position.seq >= from.seq && counts(*moved_at, now)
        });
        let readers = matching.map(|((_, user), (position, _))| Receipt {
            user_id: user.clone(),
            seq: position.seq,
        });
        Ok(ReaderPage {
            readers: readers.collect(),
            next,
        })
    }

    async fn acks_of_users(
        &self,
        users: &[UserId],
        now: UnixMillis,
    ) -> Result<Vec<(UserId, Position)>, StoreError> {
        let mut found = Vec::new();
        for user in users {
            let ack = self.find_ack(&LogKey::user(user), user, now).await?;
            found.extend(ack.map(|position| (user.clone(), position)));
        }
        Ok(found)
    }
}

fn counts(moved_at: UnixMillis, now: UnixMillis) -> bool {
    !moved_at.plus(ACK_LIFETIME).to_seconds().has_passed(now)
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    a_position_only_moves_forward(&new().await).await;
    positions_are_separate(&new().await).await;
    a_position_is_forgotten(&new().await).await;
    readers_are_listed_page_by_page(&new().await).await;
    users_are_asked_about_their_own_logs(&new().await).await;
}

fn room() -> LogKey {
    LogKey::channel("room:7")
}

fn at(epoch: &str, seq: u64) -> Position {
    Position {
        epoch: Epoch::parse(epoch).expect("an epoch"),
        seq,
    }
}

async fn ack<S: Store>(store: &S, log: &LogKey, user: &str, position: &Position) -> Position {
    let user = user_id(user);
    let acked = store.acknowledge(log, &user, position, START).await;
    acked.expect("acknowledge")
}

async fn find<S: Store>(store: &S, log: &LogKey, user: &str, now: UnixMillis) -> Option<Position> {
    let found = store.find_ack(log, &user_id(user), now).await;
    found.expect("find_ack")
}

async fn a_position_only_moves_forward<S: Store>(store: &S) {
    assert_eq!(find(store, &room(), "alice", START).await, None);
    for (position, counts) in [
        (at("e1", 5), at("e1", 5)),
        (at("e1", 5), at("e1", 5)),
        (at("e1", 4), at("e1", 5)),
        (at("e1", 10), at("e1", 10)),
        (at("e0", 99), at("e1", 10)),
        (at("e2", 1), at("e2", 1)),
        (at("e1", 11), at("e2", 1)),
        (at("e2", u64::MAX), at("e2", u64::MAX)),
    ] {
        let acked = ack(store, &room(), "alice", &position).await;
        assert_eq!(acked, counts, "{position:?}");
        let found = find(store, &room(), "alice", START).await;
        assert_eq!(found, Some(counts), "{position:?}");
    }
}

async fn positions_are_separate<S: Store>(store: &S) {
    let logs = [room(), LogKey::all(), LogKey::user(&user_id("alice"))];
    for (seq, log) in (1..).zip(&logs) {
        ack(store, log, "alice", &at("e1", seq)).await;
        ack(store, log, "bob", &at("e1", seq + 10)).await;
    }
    for (seq, log) in (1..).zip(&logs) {
        let of_alice = find(store, log, "alice", START).await;
        assert_eq!(of_alice, Some(at("e1", seq)));
        let of_bob = find(store, log, "bob", START).await;
        assert_eq!(of_bob, Some(at("e1", seq + 10)));
    }
}

async fn a_position_is_forgotten<S: Store>(store: &S) {
    ack(store, &room(), "alice", &at("e1", 5)).await;
    let end = START.plus(ACK_LIFETIME);
    let before = UnixMillis(end.0 - 1_000);
    let found = find(store, &room(), "alice", before).await;
    assert_eq!(found, Some(at("e1", 5)));
    assert_eq!(find(store, &room(), "alice", end).await, None);
    let page = store.readers(&room(), &at("e1", 1), None, 10, end).await;
    assert_eq!(page.expect("readers").readers, []);
    // Then it may be anywhere, as if there had been none.
    let (alice, first) = (user_id("alice"), at("e1", 1));
    let acked = store.acknowledge(&room(), &alice, &first, end).await;
    assert_eq!(acked, Ok(first));
}

async fn readers_are_listed_page_by_page<S: Store>(store: &S) {
    for (user, epoch, seq) in [
        ("alice", "e1", 5),
        ("bob", "e1", 4),
        ("carol", "e1", 9),
        ("dave", "e0", 9),
        ("erin", "e1", 6),
    ] {
        ack(store, &room(), user, &at(epoch, seq)).await;
    }
    ack(store, &LogKey::channel("room:8"), "zoe", &at("e1", 9)).await;
    for limit in [1, 2, 5, 100] {
        let (mut readers, mut after) = (Vec::new(), None);
        loop {
            let page = store
                .readers(&room(), &at("e1", 5), after.as_ref(), limit, START)
                .await
                .expect("readers");
            assert!(page.readers.len() <= limit);
            readers.extend(page.readers);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let readers: Vec<_> = readers
            .iter()
            .map(|reader| (reader.user_id.as_str(), reader.seq))
            .collect();
        assert_eq!(readers, [("alice", 5), ("carol", 9), ("erin", 6)]);
    }
}

async fn users_are_asked_about_their_own_logs<S: Store>(store: &S) {
    let users: Vec<_> = (0..120).map(|n| user_id(&format!("user-{n}"))).collect();
    ack(store, &room(), "user-1", &at("e1", 1)).await;
    for n in [3, 119] {
        let log = LogKey::user(&users[n]);
        ack(store, &log, &format!("user-{n}"), &at("e1", n as u64)).await;
    }
    let found = store.acks_of_users(&users, START).await;
    let mut found = found.expect("acks_of_users");
    found.sort_by_key(|(_, position)| position.seq);
    let expected = [3, 119].map(|n| (users[n].clone(), at("e1", n as u64)));
    assert_eq!(found, expected);
}
