//! A stack whose clients publish: `Default` and the workers with the real
//! rules, over a simulated store and API.

use std::time::Duration;

use belfry_core::broadcast::{Call, Delivered, Worker};
use belfry_core::frames::{Dispatcher, FrameOutcome};
use belfry_core::ports::{Clock, MetricEvent, Metrics};
use belfry_core::presence::PresenceSettings;
use belfry_core::testing::{
    FakeAuthorizer, FakeCallee, FakeVerifier, FakeWorkers, SeededRandomness, TestClock,
    connection_id,
};
use belfry_protocol::MessageId;
use futures_util::future::join_all;

use crate::population::{Population, channel};
use crate::simulation::{Account, Api, Arrivals, WORKING_TIME, delivery, fanout};
use crate::store::Store;

const RULES: &str = r#"{"version":"1.0","channels":[
    {"match":"room:*","allow":["subscribe","publish"],"history":{"seconds":86400}}]}"#;

/// Workers do not start at the same moment.
const APART: Duration = Duration::from_millis(20);

/// What `belfry cost` assumes: a message of 500 bytes.
const DATA_BYTES: usize = 500;

/// Digits of a message's number in its id, which is as long as a request's.
const DIGITS: usize = 34;

pub(crate) struct Unrecorded;

impl Metrics for Unrecorded {
    fn record(&self, _: MetricEvent) {}
}

type Frames<A> = Dispatcher<
    FakeVerifier,
    FakeAuthorizer,
    Store,
    Api<A>,
    TestClock,
    Unrecorded,
    FakeWorkers,
    SeededRandomness,
    FakeCallee,
>;

pub(crate) struct World<A> {
    pub(crate) clock: TestClock,
    pub(crate) store: Store,
    pub(crate) api: Api<A>,
    default: Frames<A>,
    worker: Worker<Store, Api<A>, TestClock, Unrecorded, FakeWorkers, SeededRandomness>,
}

impl<A: Arrivals> World<A> {
    pub(crate) fn new(
        population: Population,
        posts_per_second: u32,
        account: Account,
        arrivals: A,
    ) -> Self {
        let clock = TestClock::default();
        let store = Store::new(population, clock.clone());
        let api = Api::new(clock.clone(), account, arrivals);
        let rules = || RULES.parse().expect("rules");
        let default = Dispatcher {
            verifier: FakeVerifier,
            authorizer: FakeAuthorizer::default(),
            callee: FakeCallee::default(),
            store: store.clone(),
            outbox: api.clone(),
            clock: clock.clone(),
            metrics: Unrecorded,
            workers: FakeWorkers::default(),
            random: SeededRandomness::default(),
            rules: rules(),
            delivery: delivery(posts_per_second),
            fanout: fanout(),
            presence: PresenceSettings { announced: 100 },
            max_message_bytes: 32_768,
            messages_per_minute: 600,
            connection_lifetime: Duration::from_secs(7_200),
        };
        let worker = Worker {
            rules: rules(),
            store: store.clone(),
            outbox: api.clone(),
            clock: clock.clone(),
            metrics: Unrecorded,
            workers: FakeWorkers::default(),
            random: SeededRandomness::default(),
            delivery: delivery(posts_per_second),
        };
        Self {
            clock,
            store,
            api,
            default,
            worker,
        }
    }

    /// A client that is not subscribed publishes a message with this number.
    pub(crate) async fn publish(&self, room: u32, message: u32) -> FrameOutcome {
        let channel = channel(room);
        // As JSON it has two quotes.
        let data = "x".repeat(DATA_BYTES - 2);
        let frame = format!(
            r#"{{"type":"publish","version":"1.0","data":{{"channel":"{channel}","kind":"chat","data":"{data}"}}}}"#
        );
        let request = format!("m-{message:0DIGITS$}");
        let request = MessageId::parse(request).expect("an id");
        let publisher = connection_id(&format!("p{message}"));
        let answer = self.default.handle(&publisher, Some(&frame), &request);
        answer.await.outcome
    }

    /// Runs the workers that were asked to start.
    pub(crate) async fn work(&self) -> Vec<Delivered> {
        let started = self.default.workers.take().into_iter();
        let work = started.map(async |(message_id, segment)| {
            self.clock.sleep(APART * segment).await;
            let call = Call {
                message_id,
                is_named: true,
                owner: format!("worker {segment}"),
                deadline: self.clock.now().plus(WORKING_TIME),
            };
            self.worker.work_on(segment, call).await.expect("worked")
        });
        let delivered = join_all(work).await;
        assert_eq!(self.worker.workers.started(), 0, "time ran out");
        delivered
    }
}

/// The number of the message that a frame carries.
pub(crate) fn message_of(frame: &str) -> u32 {
    const START: &str = r#""id":"m-"#;
    let from = frame.find(START).expect("a message's id") + START.len();
    frame[from..from + DIGITS].parse().expect("a number")
}
