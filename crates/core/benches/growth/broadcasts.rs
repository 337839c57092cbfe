//! Broadcasts to 1,000 and up to 1,000,000 connections. Fails if a total is
//! wrong, or if a broadcast takes a tenth longer than its rate allows.

use std::pin::pin;
use std::time::{Duration, Instant};

use belfry_core::broadcast::{Broadcaster, Call, Worker};
use belfry_core::channels::ChannelRules;
use belfry_core::ports::Clock;
use belfry_core::presence::PresenceSettings;
use belfry_core::testing::{FakeMetrics, FakeWorkers, SeededRandomness, TestClock};
use belfry_protocol::{
    BroadcastInquiry, BroadcastReport, BroadcastRequest, MessageId, WaitSeconds,
};
use futures_util::future::{Either, join_all, select};

use crate::population::Population;
use crate::simulation::{
    Account, Api, CONNECTIONS_PER_WORKER, MAX_WORKERS, MOST, Marks, POSTS_PER_SECOND, TOLERANCE,
    WORKING_TIME, delivery, fanout, is_gone, peak_memory_mb,
};
use crate::store::{PAGE, Store};

const SIZES: [u32; 7] = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, MOST];

/// Lambda retries an asynchronous invocation after a minute (AWS: "How
/// Lambda handles errors and retries with asynchronous invocation").
const RETRIED_AFTER: Duration = Duration::from_secs(60);

type Core = Broadcaster<Store, Api<Marks>, TestClock, FakeMetrics, FakeWorkers, SeededRandomness>;

fn core(count: u32) -> Core {
    let clock = TestClock::default();
    Broadcaster {
        worker: Worker {
            rules: ChannelRules::default(),
            store: Store::new(Population::of(count), clock.clone()),
            outbox: Api::new(
                clock.clone(),
                Account::exactly(POSTS_PER_SECOND),
                Marks::default(),
            ),
            clock,
            metrics: FakeMetrics::default(),
            workers: FakeWorkers::default(),
            random: SeededRandomness::default(),
            delivery: delivery(POSTS_PER_SECOND),
        },
        fanout: fanout(),
        presence: PresenceSettings { announced: 100 },
    }
}

fn call(core: &Core, owner: &str) -> Call {
    Call {
        message_id: MessageId::parse("m").expect("an id"),
        is_named: true,
        owner: owner.into(),
        deadline: core.worker.clock.now().plus(WORKING_TIME),
    }
}

/// An invocation, which is retried if it dies.
async fn worker(core: &Core, segment: u32, dies_after: Option<Duration>) {
    let owner = format!("worker {segment}");
    if let Some(life) = dies_after {
        let work = pin!(core.worker.work_on(segment, call(core, &owner)));
        let death = pin!(core.worker.clock.sleep(life));
        if let Either::Left((done, _)) = select(work, death).await {
            done.expect("worked");
            return;
        }
        core.worker.clock.sleep(RETRIED_AFTER).await;
    }
    core.worker
        .work_on(segment, call(core, &owner))
        .await
        .expect("worked");
}

/// One broadcast, with the time until the last post.
async fn broadcast(core: &Core, dies_after: Option<Duration>) -> (BroadcastReport, Duration) {
    let request =
        r#"{"target":{"type":"all"},"message":{"type":"notification","data":{"kind":"k"}}}"#;
    let request = BroadcastRequest::parse(request).expect("a request");
    let begun = core.worker.clock.now();
    core.send(request, call(core, "caller"))
        .await
        .expect("sent");
    loop {
        let started = core.worker.workers.take();
        if started.is_empty() {
            break;
        }
        let workers = started.into_iter().map(|(_, segment)| {
            let dies_after = dies_after.filter(|_| segment == 0);
            worker(core, segment, dies_after)
        });
        join_all(workers).await;
    }
    let last_post = core.worker.outbox.figures().last_post;
    let inquiry = BroadcastInquiry::Report {
        message_id: MessageId::parse("m").expect("an id"),
        wait_seconds: WaitSeconds::default(),
    };
    let report = core
        .inquire(inquiry, call(core, "asks"))
        .await
        .expect("a report");
    (report.report, last_post.since(begun))
}

pub(crate) async fn run() {
    println!("{POSTS_PER_SECOND} posts a second among {MAX_WORKERS} workers, simulated");
    println!(
        "{:>11} {:>7} {:>6} {:>10} {:>10} {:>8} {:>10} {:>10} {:>10}",
        "connections",
        "workers",
        "killed",
        "limit",
        "last post",
        "ratio",
        "twice",
        "memory",
        "computed"
    );
    let mut plotted = Vec::new();
    for count in SIZES {
        let workers = count.div_ceil(CONNECTIONS_PER_WORKER).min(MAX_WORKERS);
        let share = f64::from(POSTS_PER_SECOND) / f64::from(MAX_WORKERS);
        let limit = f64::from(count) / (share * f64::from(workers));
        // If one invocation does it all, its caller sees it die and asks again.
        let deaths = [None, Some(limit * fastrand::f64())];
        for death in &deaths[..workers.min(2) as usize] {
            let begun = Instant::now();
            let core = core(count);
            let (report, took) = broadcast(&core, death.map(Duration::from_secs_f64)).await;
            let figures = core.worker.outbox.figures();
            let gone = (0..count).filter(|number| is_gone(*number)).count() as u64;
            assert!(report.complete, "{report:?}");
            assert_eq!(report.failures.gone, gone, "{report:?}");
            assert_eq!(report.success, u64::from(count) - gone, "{report:?}");
            assert_eq!(
                u64::from(figures.reached),
                report.success,
                "everyone was reached"
            );
            assert_eq!(figures.over_the_rate, 0, "posts beyond the rate");
            let limit = limit + death.map_or(0.0, |_| RETRIED_AFTER.as_secs_f64());
            let (took, twice) = (took.as_secs_f64(), figures.accepted - figures.reached);
            println!(
                "{count:>11} {workers:>7} {:>6} {limit:>8.1} s {took:>8.1} s {:>8.3} {twice:>10} {:>7.1} MB {:>8.1} s",
                if death.is_some() { "one" } else { "" },
                took / limit,
                peak_memory_mb(),
                begun.elapsed().as_secs_f64(),
            );
            assert!(took <= limit * TOLERANCE, "slower than its rate allows");
            assert!(twice <= PAGE, "more than a page was posted twice");
            if death.is_none() {
                plotted.push(format!("[{count}, {limit}, {took}]"));
            }
        }
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    std::fs::create_dir_all(&folder).expect("target/");
    let plotted = format!("[{}]\n", plotted.join(", "));
    std::fs::write(folder.join("growth.json"), plotted).expect("written");
}
