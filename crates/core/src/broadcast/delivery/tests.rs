mod outage;

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use super::*;
use crate::broadcast::content::Frames;
use crate::connections::Recipient;
use crate::testing::{FakeMetrics, SeededRandomness, TestClock, connection, connection_id};

/// A socket API that records when posts came, refuses some of them, and takes a
/// while.
#[derive(Default)]
struct Busy {
    clock: TestClock,
    /// The latency of a post, at least 5 ms.
    takes: Duration,
    /// Accepts one post in this many and throttles the others.
    one_in: u32,
    /// Clients that do not read.
    frozen: HashSet<ConnectionId>,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    calls: u32,
    taken: HashMap<ConnectionId, UnixMillis>,
    frozen_calls: u32,
}

impl Outbox for Busy {
    async fn post(&self, id: &ConnectionId, _: &str, _: Duration) -> Result<(), PostError> {
        let takes = self.takes.max(Duration::from_millis(5));
        self.clock.sleep(takes).await;
        let mut log = self.log.lock().unwrap();
        if self.frozen.contains(id) {
            log.frozen_calls += 1;
            return Err(PostError::Throttled);
        }
        log.calls += 1;
        if self.one_in > 1 && !log.calls.is_multiple_of(self.one_in) {
            return Err(PostError::Throttled);
        }
        assert_eq!(
            log.taken.insert(id.clone(), self.clock.now()),
            None,
            "twice"
        );
        Ok(())
    }

    async fn close(&self, _: &ConnectionId) -> Result<(), PostError> {
        Ok(())
    }
}

/// Posts to `count` connections at `per_second`. Returns the tally and the time
/// until the last post was accepted.
async fn post_to(busy: &Busy, count: usize, per_second: u32, limit: Duration) -> (Tally, Duration) {
    let begun = busy.clock.now();
    let settings = DeliverySettings {
        concurrency: 64,
        post_timeout: Duration::from_secs(3),
        posts_per_second: f64::from(per_second),
    };
    let posts = (0..count).map(|n| {
        let recipient = Recipient::from(&connection(&format!("c{n:05}"), "u"));
        Frames::one("{}".into()).to_recipient(recipient)
    });
    let mut tally = Tally::default();
    let deadline = begun.plus(limit);
    let random = SeededRandomness::default();
    let metrics = FakeMetrics::default();
    let mut delivery = Delivery::new(busy, &busy.clock, &metrics, &random, settings, deadline);
    delivery.post(posts.collect(), deadline, &mut tally).await;
    delivery.retry_waiting(&mut tally).await;
    delivery.give_up(&mut tally);
    let log = busy.log.lock().unwrap();
    let last = log.taken.values().max().copied().unwrap_or(begun);
    (tally, last.since(begun))
}

#[tokio::test(start_paused = true)]
async fn the_configured_rate_is_kept() {
    let busy = Busy::default();
    let (tally, took) = post_to(&busy, 5_000, 1_000, Duration::from_secs(60)).await;
    assert_eq!(tally.success, 5_000);
    assert!((4_900..=5_100).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_client_delays_nobody() {
    let busy = Busy {
        frozen: HashSet::from([connection_id("c00000")]),
        ..Busy::default()
    };
    let begun = busy.clock.now();
    let (tally, took) = post_to(&busy, 5_000, 1_000, Duration::from_secs(60)).await;
    assert_eq!((tally.success, tally.failures.throttled), (4_999, 1));
    assert!(took <= Duration::from_millis(5_100), "{took:?}");
    // It was tried for a while, and not all the time.
    let patience = busy.clock.now().since(begun);
    assert!((10..=13).contains(&patience.as_secs()), "{patience:?}");
    let attempts = busy.log.lock().unwrap().frozen_calls;
    assert!((8..60).contains(&attempts), "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn many_stuck_clients_do_not_slow_the_others() {
    for one_in in [10, 5] {
        let frozen = (0..5_000).step_by(one_in);
        let busy = Busy {
            frozen: frozen.map(|n| connection_id(&format!("c{n:05}"))).collect(),
            ..Busy::default()
        };
        let (tally, took) = post_to(&busy, 5_000, 625, Duration::from_secs(885)).await;
        let stuck = 5_000 / one_in as u64;
        assert_eq!(tally.failures.throttled, stuck);
        assert_eq!(tally.success, 5_000 - stuck);
        assert!(took <= Duration::from_secs(60), "1 in {one_in}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_begins_only_with_its_whole_time_left() {
    let slow = Busy {
        takes: Duration::from_secs(2),
        ..Busy::default()
    };
    let (tally, _) = post_to(&slow, 1_000, 100, Duration::from_secs(10)).await;
    assert_eq!(tally.failures.failed, 0, "none was cut short");
    assert_eq!(tally.success + tally.failures.not_attempted, 1_000);
    assert!(tally.success >= 200, "{}", tally.success);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_account_slows_it_down_and_everyone_is_reached() {
    let busy = Busy {
        one_in: 2,
        ..Busy::default()
    };
    let (tally, took) = post_to(&busy, 5_000, 1_000, Duration::from_secs(600)).await;
    assert_eq!(tally.success, 5_000, "{:?}", tally.failures);
    assert_eq!(tally.failures.total(), 0);
    let calls = busy.log.lock().unwrap().calls;
    assert!(calls < 10_100, "{calls} calls for 5,000 messages");
    assert!(
        took > Duration::from_secs(20),
        "it did not slow down: {took:?}"
    );
}
