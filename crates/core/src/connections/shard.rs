use std::hash::Hasher;

use belfry_protocol::ConnectionId;
use fnv::FnvHasher;

/// The shard of a connection. It never changes, not even in another build of
/// Belfry, and shards have about equally many connections.
#[must_use]
pub fn shard_of(id: &ConnectionId, shards: u32) -> u32 {
    let mut hasher = FnvHasher::default();
    hasher.write(id.as_str().as_bytes());
    u32::try_from(hasher.finish() % u64::from(shards)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_about_equal() {
        let mut counts = [0; 16];
        for n in 0..16_000_u32 {
            let id = ConnectionId::parse(format!("R0oXAd{n:05}CH6w=")).unwrap();
            counts[shard_of(&id, 16) as usize] += 1;
        }
        let about_equal = |count| (700..1_300).contains(count);
        assert!(counts.iter().all(about_equal), "{counts:?}");
    }
}
