//! The broadcaster with fakes: broadcasts that one invocation delivers, and
//! those that are split among workers.

mod actions;
mod batch;
mod kept;
mod large;
mod presence;
mod receipts;
mod small;

use std::time::Duration;

use super::{Broadcaster, DeliverySettings, FanoutSettings, Worker};
use crate::channels::ChannelRules;
use crate::presence::PresenceSettings;
use crate::testing::{
    FakeMetrics, FakeOutbox, FakeStore, FakeWorkers, SeededRandomness, TestClock,
};

type Fixture =
    Broadcaster<FakeStore, FakeOutbox, TestClock, FakeMetrics, FakeWorkers, SeededRandomness>;

/// A broadcaster with open connections of these users, old enough for a 410 to
/// be believed at once.
async fn broadcaster(
    connections: impl IntoIterator<Item = (String, &str)>,
    delivery: DeliverySettings,
    fanout: FanoutSettings,
) -> Fixture {
    let worker = Worker {
        store: FakeStore::default(),
        outbox: FakeOutbox::default(),
        clock: TestClock::default(),
        metrics: FakeMetrics::default(),
        workers: FakeWorkers::default(),
        random: SeededRandomness::default(),
        rules: ChannelRules::default(),
        delivery,
    };
    for (id, user) in connections {
        worker.store.put(&id, user).await;
        worker.outbox.open(&id);
    }
    worker.clock.advance(Duration::from_secs(60));
    let presence = PresenceSettings { announced: 1 };
    Broadcaster {
        worker,
        fanout,
        presence,
    }
}
