//! The counters of connections, one for each shard.
//!
//! A single counter would be one item that every connect and disconnect of the
//! stack writes. Each shard has its share of the limit, and a connection tries
//! its own shard first.

use belfry_core::ports::{Capacity, Randomness, StoreError};

use super::row::{Item, integer};
use super::{Consistency, DynamoDb, failed, state, wanted};
use crate::randomness::SystemRandomness;

/// The number of shards. DynamoDB cancels a transaction whose items another one
/// holds, usually for 10 to 20 ms, and every connect and end writes a counter:
/// with 500 of each in a second (the account's quota of new connections),
/// sixteen counters are held nearly all the time. docs/PERFORMANCE.md has the
/// figures. A row's shard is also its partition of the due index,
/// so a shard's rows can be counted there.
pub(super) const SHARDS: u32 = 64;

/// The numbers of a shard's counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counter {
    /// Connections that count now.
    pub(super) connections: u64,
    /// Connections that were ever counted.
    pub(super) inserted: u64,
}

/// A counter as an audit noted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) counter: Counter,
    /// When, in milliseconds.
    pub(super) at: u64,
}

/// A shard's item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) number: u32,
    pub(super) counter: Counter,
    /// See `counter_audit.rs`.
    pub(super) note: Option<Note>,
    pub(super) audited_at: u64,
    /// By how much the counter was too high when it was last compared.
    pub(super) suspected: u64,
}

/// A shard's share of the limit.
pub(super) fn share_of_limit(total: u64, shard: u32) -> u64 {
    total / u64::from(SHARDS) + u64::from(u64::from(shard) < total % u64::from(SHARDS))
}

impl Capacity for DynamoDb {
    async fn open_connections(&self) -> Result<u64, StoreError> {
        let shards = self.shards(Consistency::Eventual).await?;
        Ok(shards.iter().map(|shard| shard.counter.connections).sum())
    }
}

impl DynamoDb {
    /// Every shard, in the order of their numbers.
    pub(super) async fn shards(&self, consistency: Consistency) -> Result<Vec<Shard>, StoreError> {
        let keys = (0..SHARDS).map(state::shard).collect();
        let attributes = "pk, connections, inserted, notedConnections, notedInserted, notedAt, auditedAt, suspected";
        let wanted = wanted(keys, attributes, consistency)?;
        let items = self.batch(&self.tables.state, wanted).await?;
        let mut shards: Vec<_> = (0..SHARDS).map(Shard::empty).collect();
        for item in &items {
            let found = read(item)?;
            if let Some(shard) = shards.get_mut(found.number as usize) {
                *shard = found;
            }
        }
        Ok(shards)
    }

    pub(super) async fn shard(&self, number: u32) -> Result<Shard, StoreError> {
        let item = self.item(&self.tables.state, state::shard(number)).await?;
        item.as_ref().map_or_else(|| Ok(Shard::empty(number)), read)
    }

    /// Shards with room, in random order: connections that look for the last
    /// room must not all try the same shard.
    pub(super) async fn shards_with_room(&self, total: u64) -> Result<Vec<u32>, StoreError> {
        let has_room =
            |shard: &Shard| shard.counter.connections < share_of_limit(total, shard.number);
        // Capacity that was just released must be found.
        let shards = self.shards(Consistency::Strong).await?;
        let with_room = shards.iter().filter(|shard| has_room(shard));
        let mut numbers: Vec<_> = with_room.map(|shard| shard.number).collect();
        for last in (1..numbers.len()).rev() {
            numbers.swap(last, SystemRandomness.index(last + 1));
        }
        Ok(numbers)
    }
}

impl Shard {
    fn empty(number: u32) -> Self {
        Self {
            number,
            counter: Counter::default(),
            note: None,
            audited_at: 0,
            suspected: 0,
        }
    }
}

fn read(item: &Item) -> Result<Shard, StoreError> {
    let number = item.get("pk").and_then(|pk| pk.as_s().ok());
    let number = number
        .and_then(|pk| pk.strip_prefix("shard#"))
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| failed("BatchGetItem", "a shard without a number"))?;
    let field = |name| integer(item, name).unwrap_or(0);
    let note = integer(item, "notedAt").ok().map(|at| Note {
        counter: Counter {
            connections: field("notedConnections"),
            inserted: field("notedInserted"),
        },
        at,
    });
    Ok(Shard {
        number,
        counter: Counter {
            connections: field("connections"),
            inserted: field("inserted"),
        },
        note,
        audited_at: field("auditedAt"),
        suspected: field("suspected"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_add_up_to_the_limit() {
        for total in [0, 1, 15, 63, 64, 65, 100, 12_345] {
            let shares: u64 = (0..SHARDS).map(|shard| share_of_limit(total, shard)).sum();
            assert_eq!(shares, total);
        }
    }
}
