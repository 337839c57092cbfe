use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use belfry_protocol::ConnectionId;
use futures_util::future::join;
use proptest::prelude::*;

use super::super::settle::LONGEST;
use super::super::{BELIEVED, Delivery, DeliverySettings, Post, Tally};
use crate::broadcast::Close;
use crate::connections::Recipient;
use crate::ports::{Clock, MetricEvent, Outbox, PostError, Randomness};
use crate::testing::{
    FakeMetrics, FakeOutbox, SeededRandomness, TestClock, connection, connection_id,
};
use crate::time::UnixMillis;

const CONCURRENCY: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long a listed row is believed.
const FRESH: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symptom {
    ServerErrors,
    Silence,
}

/// A socket API that fails for a while, for a share of the posts.
struct Failing {
    clock: TestClock,
    outage: Range<UnixMillis>,
    share: f64,
    symptom: Symptom,
    random: SeededRandomness,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// When posts began.
    posts: Vec<UnixMillis>,
    accepted: HashSet<ConnectionId>,
    failed: HashMap<ConnectionId, u32>,
}

impl Outbox for Failing {
    async fn post(&self, id: &ConnectionId, _: &str, timeout: Duration) -> Result<(), PostError> {
        let now = self.clock.now();
        self.log.lock().unwrap().posts.push(now);
        let fails = self.outage.contains(&now) && self.random.fraction() < self.share;
        let takes = if fails && self.symptom == Symptom::Silence {
            timeout
        } else {
            Duration::from_millis(5)
        };
        self.clock.sleep(takes).await;
        let mut log = self.log.lock().unwrap();
        if !fails {
            assert!(log.accepted.insert(id.clone()), "twice: {id}");
            return Ok(());
        }
        *log.failed.entry(id.clone()).or_default() += 1;
        Err(match self.symptom {
            Symptom::ServerErrors => PostError::Unavailable("500".into()),
            Symptom::Silence => PostError::TimedOut,
        })
    }

    async fn close(&self, _: &ConnectionId) -> Result<(), PostError> {
        Ok(())
    }
}

struct Outage {
    starts: Duration,
    lasts: Duration,
    share: f64,
    symptom: Symptom,
}

struct Outcome {
    tally: Tally,
    log: Log,
    outage: Range<UnixMillis>,
    pauses: usize,
    ended: UnixMillis,
}

fn post(id: &str) -> Post {
    Post {
        recipient: Recipient::from(&connection(id, "u")),
        frames: ["{}".into()].into(),
        accepted: 0,
        close: Close::Never,
    }
}

/// Posts to `count` connections, and reads rows again as a segment's run does.
async fn post_during(outage: Outage, count: usize, per_second: u32, seed: u64) -> Outcome {
    let clock = TestClock::default();
    let starts = clock.now().plus(outage.starts);
    let api = Failing {
        outage: starts..starts.plus(outage.lasts),
        share: outage.share,
        symptom: outage.symptom,
        random: SeededRandomness::with_seed(seed),
        log: Mutex::default(),
        clock,
    };
    let metrics = FakeMetrics::default();
    let ids = (0..count).map(|n| format!("c{n:05}")).collect();
    let random = SeededRandomness::with_seed(seed.wrapping_add(1));
    let (tally, ended) = deliver(&api, &api.clock, &metrics, &random, ids, per_second.into()).await;
    let pauses = metrics.take().into_iter();
    Outcome {
        pauses: pauses
            .filter(|event| *event == MetricEvent::PostingPaused)
            .count(),
        outage: api.outage.clone(),
        log: api.log.into_inner().unwrap(),
        tally,
        ended,
    }
}

/// Posts to connections until each is counted, and reads rows again as a
/// segment's run does. Returns the time of the end, too.
async fn deliver<O: Outbox>(
    api: &O,
    clock: &TestClock,
    metrics: &FakeMetrics,
    random: &SeededRandomness,
    ids: Vec<String>,
    per_second: f64,
) -> (Tally, UnixMillis) {
    let settings = DeliverySettings {
        concurrency: CONCURRENCY,
        post_timeout: TIMEOUT,
        posts_per_second: per_second,
    };
    let deadline = clock.now().plus(Duration::from_secs(3_000));
    let mut delivery = Delivery::new(api, clock, metrics, random, settings, deadline);
    let mut tally = Tally::default();
    let ids: Vec<_> = ids.iter().map(|id| connection_id(id)).collect();
    let mut pages: VecDeque<_> = ids.chunks(100).map(<[_]>::to_vec).collect();
    loop {
        if let Some(page) = pages.pop_front() {
            let posts = page.iter().map(|id| post(id.as_str()));
            let fresh_until = clock.now().plus(FRESH);
            delivery
                .post(posts.collect(), fresh_until, &mut tally)
                .await;
        } else {
            delivery.retry_waiting(&mut tally).await;
        }
        let again: Vec<_> = delivery.take_unattempted().collect();
        if !again.is_empty() {
            pages.push_front(again);
        } else if pages.is_empty() && delivery.waiting().is_empty() {
            break;
        }
        assert!(clock.now() < deadline, "it never ends");
    }
    (tally, clock.now())
}

fn in_paused_time<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

/// The most posts that begin within a second.
fn busiest_second(posts: &[UnixMillis]) -> usize {
    let second = Duration::from_secs(1);
    let within = |from: usize| posts[from..].partition_point(|at| at.since(posts[from]) < second);
    (0..posts.len()).map(within).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    // However long the API fails, and for whatever share of the posts: nobody is
    // counted as failed whose message the API refused, nobody is forgotten or
    // counted twice, few posts are made in vain, and there is no storm, neither
    // during the outage nor after it.
    #[test]
    fn an_outage_costs_time_and_no_messages(
        count in 20_usize..400,
        per_second in 20_u32..1_000,
        starts in 0.0..1.2_f64,
        lasts in prop_oneof![0_u64..3_000, 0_u64..900_000],
        share in prop_oneof![Just(1.0), 0.05..1.0_f64],
        is_silent in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let work = Duration::from_secs_f64(count as f64 / f64::from(per_second));
        let symptom = if is_silent { Symptom::Silence } else { Symptom::ServerErrors };
        let lasts = Duration::from_millis(lasts);
        let outage = Outage { starts: work.mul_f64(starts), lasts, share, symptom };
        let Outcome { tally, log, outage, pauses, ended } =
            in_paused_time(post_during(outage, count, per_second, seed));
        let failed = tally.failures.failed;
        prop_assert_eq!(tally.success + failed, count as u64, "{:?}", tally.failures);
        prop_assert_eq!(tally.success, log.accepted.len() as u64);
        match symptom {
            // An outage that only the last few meet is not told from their own
            // trouble.
            Symptom::ServerErrors if lasts > LONGEST => prop_assert!(failed < 5, "{failed}"),
            Symptom::ServerErrors => prop_assert_eq!(failed, 0),
            // A timeout counts as failed only if others are answered meanwhile.
            Symptom::Silence if share == 1.0 => {
                let is_blip = lasts <= TIMEOUT * 2;
                let most = 4 + if is_blip { CONCURRENCY as u64 } else { 0 };
                prop_assert!(failed <= most, "{failed}");
            }
            Symptom::Silence => {
                let timed_out = log.failed.keys().filter(|id| !log.accepted.contains(*id));
                prop_assert_eq!(failed, timed_out.count() as u64);
            }
        }
        let busiest = busiest_second(&log.posts);
        prop_assert!(busiest <= 2 * per_second as usize, "{busiest} of {per_second}");
        if share == 1.0 {
            let in_vain: u32 = log.failed.values().sum();
            let probes = 4 + lasts.as_secs() / 8;
            // Fewer than five that are left are retried every second or so.
            let retries = if pauses == 0 { 4 * (8 + 2 * lasts.as_secs()) } else { probes };
            prop_assert!(u64::from(in_vain) <= CONCURRENCY as u64 + 5 + retries, "{in_vain}");
            prop_assert!(pauses as u64 <= probes + 1, "{pauses} pauses");
        }
        // The last pause, the last timeout, and a rate that recovers.
        let late = ended.since(outage.end);
        let longest = Duration::from_secs(30) + work * 2;
        prop_assert!(late <= longest, "{late:?} after the end, {work:?} of work");
    }
}

/// What an API answers at a connection, again and again.
const TROUBLES: [&[PostError]; 3] = [
    &[PostError::Unavailable(String::new())],
    &[PostError::Throttled, PostError::Unavailable(String::new())],
    &[
        PostError::Unavailable(String::new()),
        PostError::Unavailable(String::new()),
        PostError::Throttled,
        PostError::Throttled,
    ],
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // Connections that always refuse keep nobody waiting for ever, whether or not
    // others are left, and however they refuse. The others are reached, and each
    // is counted once.
    #[test]
    fn connections_that_always_fail_are_given_up_even_alone(
        failing in proptest::collection::vec(0..TROUBLES.len(), 1..5),
        others in prop_oneof![Just(0), 1_usize..200],
        first in any::<bool>(),
        per_second in 20_u32..1_000,
        seed in any::<u64>(),
    ) {
        let (tally, took) = in_paused_time(async {
            let (clock, api) = (TestClock::default(), FakeOutbox::default());
            // In the order of their names.
            let prefix = if first { "a" } else { "z" };
            let mut ids: Vec<_> = (0..others).map(|n| format!("c{n:03}")).collect();
            for id in &ids {
                api.open(id);
            }
            for (n, trouble) in failing.iter().enumerate() {
                let id = format!("{prefix}{n}");
                let answers = TROUBLES[*trouble].iter().cycle().take(5_000);
                api.answer(&id, answers.cloned().map(Err));
                ids.push(id);
            }
            ids.sort_unstable();
            let begun = clock.now();
            let metrics = FakeMetrics::default();
            let random = SeededRandomness::with_seed(seed);
            let (tally, ended) = deliver(&api, &clock, &metrics, &random, ids, per_second.into()).await;
            for n in 0..others {
                assert_eq!(api.posted(&format!("c{n:03}")).len(), 1);
            }
            (tally, ended.since(begun))
        });
        prop_assert_eq!(tally.success, others as u64);
        let given_up = tally.failures.failed + tally.failures.throttled;
        prop_assert_eq!(given_up, failing.len() as u64);
        prop_assert_eq!(tally.failures.total(), given_up);
        // The last attempt may wait for others whose rows are not old yet.
        let work = Duration::from_secs_f64(others as f64 / f64::from(per_second));
        let longest = LONGEST + BELIEVED + work * 2;
        prop_assert!(took <= longest, "{took:?}");
    }
}

/// Whatever the API did to everyone, a connection has its own five minutes
/// afterwards.
#[test]
fn the_time_of_an_outage_counts_against_nobody() {
    let (tally, took) = in_paused_time(async {
        let (clock, api) = (TestClock::default(), FakeOutbox::default());
        let ids: Vec<_> = (0..5).map(|n| format!("c{n}")).collect();
        for id in &ids {
            api.open(id);
        }
        api.go_down();
        let recovers = async {
            clock.sleep(LONGEST * 3).await;
            api.recover();
            for id in &ids {
                let fails = Err(PostError::Unavailable("500".into()));
                api.answer(id, vec![fails; if id == "c0" { 20 } else { 1 }]);
            }
        };
        let begun = clock.now();
        let (metrics, random) = (FakeMetrics::default(), SeededRandomness::default());
        let delivering = deliver(&api, &clock, &metrics, &random, ids.clone(), 100.0);
        let ((tally, ended), ()) = join(delivering, recovers).await;
        (tally, ended.since(begun))
    });
    assert_eq!((tally.success, tally.failures.total()), (5, 0));
    assert!(took < LONGEST * 3 + BELIEVED * 2, "{took:?}");
}

/// Time alone says little about a connection that seldom has its turn.
#[test]
fn a_connection_has_several_attempts_at_any_rate() {
    let (tally, took) = in_paused_time(async {
        let (clock, api) = (TestClock::default(), FakeOutbox::default());
        api.open("c0");
        let fails = Err(PostError::Unavailable("500".into()));
        api.answer("c0", vec![fails; 4]);
        let begun = clock.now();
        let (metrics, random) = (FakeMetrics::default(), SeededRandomness::default());
        let ids = vec!["c0".to_owned()];
        let delivered = deliver(&api, &clock, &metrics, &random, ids, 0.01);
        let (tally, ended) = delivered.await;
        (tally, ended.since(begun))
    });
    assert!(took > LONGEST, "{took:?}");
    assert_eq!((tally.success, tally.failures.total()), (1, 0));
}

#[test]
fn few_connections_are_given_up_only_if_the_api_answers_others() {
    for (others, given_up) in [(0, 0), (500, 3)] {
        let (tally, left) = in_paused_time(async {
            let clock = TestClock::default();
            let api = FakeOutbox::default();
            let ids: Vec<_> = (0..3 + others).map(|n| format!("c{n:03}")).collect();
            for (n, id) in ids.iter().enumerate() {
                let answer = if n < 3 {
                    Err(PostError::Unavailable("500".into()))
                } else {
                    Ok(())
                };
                api.answer(id, vec![answer; 1_000]);
            }
            let settings = DeliverySettings {
                concurrency: CONCURRENCY,
                post_timeout: TIMEOUT,
                posts_per_second: 20.0,
            };
            let (random, metrics) = (SeededRandomness::default(), FakeMetrics::default());
            let deadline = clock.now().plus(Duration::from_secs(50));
            let mut delivery = Delivery::new(&api, &clock, &metrics, &random, settings, deadline);
            let mut tally = Tally::default();
            let posts = ids.iter().map(|id| post(id));
            delivery.post(posts.collect(), deadline, &mut tally).await;
            delivery.retry_waiting(&mut tally).await;
            assert!(metrics.take().is_empty(), "it is no outage");
            (tally, delivery.waiting().len())
        });
        assert_eq!(tally.success, others as u64);
        assert_eq!(
            (tally.failures.failed, left),
            (given_up, 3 - given_up as usize)
        );
        assert!(tally.sample.iter().all(|(_, why)| why.contains("500")));
    }
}

/// A row may be old whatever its post waits for: the end of an outage, or one
/// client's own trouble.
#[test]
fn a_row_is_read_again_after_a_minute_of_retries() {
    for (count, answers) in [
        (20, TROUBLES[0]),
        (1, TROUBLES[0]),
        (1, TROUBLES[1]),
        (3, TROUBLES[2]),
    ] {
        let (again, took, tally) = in_paused_time(async {
            let (clock, api) = (TestClock::default(), FakeOutbox::default());
            let ids: Vec<_> = (0..count).map(|n| format!("c{n:02}")).collect();
            for id in &ids {
                let answers = answers.iter().cycle().take(5_000);
                api.answer(id, answers.cloned().map(Err));
            }
            let settings = DeliverySettings {
                concurrency: CONCURRENCY,
                post_timeout: TIMEOUT,
                posts_per_second: 100.0,
            };
            let (random, metrics) = (SeededRandomness::default(), FakeMetrics::default());
            let (begun, limit) = (clock.now(), Duration::from_secs(900));
            let deadline = begun.plus(limit);
            let mut delivery = Delivery::new(&api, &clock, &metrics, &random, settings, deadline);
            let mut tally = Tally::default();
            let posts = ids.iter().map(|id| post(id));
            delivery
                .post(posts.collect(), begun.plus(FRESH), &mut tally)
                .await;
            delivery.retry_waiting(&mut tally).await;
            let again = delivery.take_unattempted().count();
            (again, clock.now().since(begun), tally)
        });
        assert_eq!(again, count, "{answers:?}");
        assert_eq!((tally.success, tally.failures.total()), (0, 0));
        assert!(took < BELIEVED + Duration::from_secs(20), "{took:?}");
    }
}
