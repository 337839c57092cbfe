//! Everything that can happen to a connection, in every order, while calls to
//! the database conflict, are throttled, lose their answers, or come late.

use std::sync::LazyLock;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use belfry_aws::DynamoDb;
use belfry_core::channels::Claims;
use belfry_core::connections::{Connection, Recipient};
use belfry_core::hooks::HookSubject;
use belfry_core::liveness::Liveness;
use belfry_core::locks::{LockKeeper, release_all};
use belfry_core::ports::{
    Admission, Admissions, Admitted, ConnectionLookup, Departures, Disconnections, DueConnections,
    Extension, HookEvents, JoinsPresence, Listing, LockKey, Locks, Presence, Removals, Segment,
    SessionRefresh, Sessions, SignOuts, StoreError, SubscribeResult, Subscribers, Subscription,
    Subscriptions, Touched,
};
use belfry_core::presence::PRESENCE_GRACE;
use belfry_core::testing::{BUCKET, LIMITS, START, TestClock, connection, connection_id, user_id};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{ChannelName, LockName, PresenceInfo};

use crate::database::{endpoint, expect_counters, expect_sets, tables};
use crate::hooks::hooked;
use crate::proxy::{Proxy, Trouble};

/// Something that happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Incident {
    /// The handshake, possibly repeated.
    Connect,
    Disconnect,
    /// A sweep or a broadcast finds it gone.
    Removal,
    /// Another connection replaces it.
    Successor,
    Frame,
    NewToken,
    /// A sweep pings it.
    Ping,
    SignOut,
    Subscribe,
    Unsubscribe,
    Lock,
}

use Incident::{
    Connect, Disconnect, Frame, Lock, NewToken, Ping, Removal, SignOut, Subscribe, Successor,
    Unsubscribe,
};

const ALL: [Incident; 11] = [
    Connect,
    Disconnect,
    Removal,
    Successor,
    Frame,
    NewToken,
    Ping,
    SignOut,
    Subscribe,
    Unsubscribe,
    Lock,
];

/// The incidents that end a connection.
const ENDS: [Incident; 3] = [Disconnect, Removal, SignOut];

/// How an incident that waited at a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Continues,
    Dies,
    /// The call fails, and each later one of its operation.
    Fails,
}

/// A connection with a user of its own in a shared database.
#[derive(Debug, Clone)]
struct Story {
    id: String,
    user: String,
}

impl Story {
    fn number(n: usize) -> Self {
        Self {
            id: format!("c{n}"),
            user: format!("user-{n}"),
        }
    }

    fn successor(&self) -> String {
        format!("{}-successor", self.id)
    }

    fn channel(&self) -> ChannelName {
        ChannelName::parse(format!("of:{}", self.id)).unwrap()
    }

    fn lock(&self) -> LockKey {
        LockKey {
            channel: self.channel(),
            name: LockName::parse("title").unwrap(),
        }
    }

    /// The connection whose client an incident may let in.
    fn id_of(&self, what: Incident) -> String {
        if what == Successor {
            self.successor()
        } else {
            self.id.clone()
        }
    }

    /// Returns whether a client was let in.
    async fn happen(&self, what: Incident, store: &DynamoDb) -> Result<bool, StoreError> {
        let row = connection(&self.id, &self.user);
        let admission = Admission {
            connection: &row,
            token_issued_at: START.to_seconds(),
            replaces: None,
        };
        match what {
            Connect => return Ok(store.admit(admission, LIMITS).await? == Admitted::Yes),
            Disconnect => store.disconnect(&row.id, START).await?,
            Removal => {
                store
                    .remove_unchanged(&Recipient::from(&row), START)
                    .await?
            }
            Successor => {
                let successor = connection(&self.successor(), &self.user);
                let admission = Admission {
                    connection: &successor,
                    replaces: Some(&row.id),
                    ..admission
                };
                return Ok(store.admit(admission, LIMITS).await? == Admitted::Yes);
            }
            Frame => drop(store.touch(&row.id, &BUCKET, START).await?),
            Subscribe => {
                let begun = store.begin_session(&row.id, &BUCKET, START).await?;
                if let Touched::Live(row) = begun {
                    let subscription = Subscription {
                        channel: self.channel(),
                        ends_at: row.token_expires_at,
                        allowed: None,
                        presence: JoinsPresence::With(PresenceInfo::default()),
                        actions: belfry_core::channels::Actions::default(),
                    };
                    let wanted = [subscription];
                    let subscribed = store.subscribe(&row, &wanted, 50, START).await?;
                    if let SubscribeResult::Subscribed { arrivals, .. } = subscribed
                        && !arrivals.is_empty()
                    {
                        store.announced(&self.channel(), &row.user_id).await?;
                    }
                }
            }
            Unsubscribe => {
                if let Touched::Live(row) = store.touch(&row.id, &BUCKET, START).await? {
                    let channels = [self.channel()];
                    let left = store.unsubscribe(&row, &channels, START).await?;
                    keeper(store).unlock_all(&row, &left.locks).await?;
                    for leave in &left.leaves {
                        store.make_absent(leave, START).await?;
                        store.forget_leave(leave).await?;
                    }
                }
            }
            // A subscription came before, whose frame has marked the row.
            Lock => {
                let begun = store.begin_session(&row.id, &BUCKET, START).await?;
                if let Touched::Live(row) = begun {
                    let lifetime = Duration::from_secs(30);
                    keeper(store).lock(&row, &self.lock(), lifetime).await?;
                }
            }
            NewToken => {
                let extension = Extension {
                    user_id: user_id(&self.user),
                    expires_at: UnixSeconds(row.token_expires_at.0 + 60),
                    claims: Claims::default(),
                };
                let extended = store.extend(&row.id, &extension, &BUCKET, START);
                extended.await?;
            }
            Ping => {
                let pinged = Liveness {
                    pinged_at: Some(START),
                    ..Liveness::due_at(START)
                };
                if let Some(row) = store.find(&row.id).await? {
                    store.record_liveness(&row, &pinged).await?;
                }
            }
            // Signs the user out as `Operator` does.
            SignOut => {
                let user = &row.user_id;
                let ids = store.sign_out(user, START.to_seconds(), START).await?;
                for id in ids {
                    if let Some(row) = store.end_session(user, &id, START).await? {
                        store
                            .remove_unchanged(&Recipient::from(&row), START)
                            .await?;
                    }
                }
            }
        }
        Ok(false)
    }
}

/// Functions' clocks do not matter here.
fn keeper(store: &DynamoDb) -> LockKeeper<'_, DynamoDb, TestClock> {
    static CLOCK: LazyLock<TestClock> = LazyLock::new(TestClock::default);
    LockKeeper {
        store,
        clock: &CLOCK,
    }
}

pub(crate) fn store_at(endpoint: &str) -> DynamoDb {
    DynamoDb::new(crate::clients(endpoint).dynamodb(), tables())
}

/// Expects that rows, sets and counters agree, that nothing is negative and no
/// row partial. A disconnected connection has no row. A connection that was
/// admitted, and neither disconnected nor removed nor signed out, has one.
///
/// `let_in` are connections whose client was let in after everything else that
/// ends them.
///
/// `store` reaches the database without trouble.
///
/// `begun` are the incidents that have begun, `done` those that certainly ended.
async fn expect_consistent(
    client: &Client,
    store: &DynamoDb,
    story: &Story,
    (begun, done): (&[Incident], &[Incident]),
    let_in: &[String],
    context: &str,
) {
    let row = async |id: &str| {
        let row = store.find(&connection_id(id)).await;
        row.unwrap_or_else(|error| panic!("{context}: {error}"))
    };
    let (first, successor) = (row(&story.id).await, row(&story.successor()).await);
    if done.contains(&Disconnect) {
        assert_eq!(first, None, "{context}: a ghost");
    }
    let is_ended = ENDS.iter().any(|end| begun.contains(end));
    if done.contains(&Connect) && !is_ended {
        assert!(first.is_some(), "{context}: it was admitted");
    }
    if done.contains(&Successor) && !begun.contains(&SignOut) {
        assert!(successor.is_some(), "{context}: the successor was admitted");
    }
    for id in let_in {
        assert!(row(id).await.is_some(), "{context}: let in without a row");
    }
    expect_counters(client, context).await;
    expect_sets(client, context).await;
    // A sweep, when no frame can be under way any more.
    let later = START.plus(Duration::from_secs(60));
    for departure in store.due_list(later).await.unwrap().departures {
        let locks = store.depart(&departure).await.unwrap();
        let released = release_all(store, &departure.lock_owner, &locks).await;
        released.unwrap();
        store.forget_departure(&departure).await.unwrap();
    }
    let later = later.plus(PRESENCE_GRACE);
    for leave in store.due_list(later).await.unwrap().leaves {
        store.make_absent(&leave, later).await.unwrap();
        store.forget_leave(&leave).await.unwrap();
    }
    let whole = Segment { index: 0, total: 1 };
    let channel = story.channel();
    let page = store
        .subscribers(&channel, Listing::All, whole, None, 10, START)
        .await;
    let subscribers = page.unwrap().recipients.len();
    let present = store.present(&channel, 10).await.unwrap().users.len();
    if first.is_none() {
        assert_eq!(subscribers, 0, "{context}: it outlives its connection");
        assert_eq!(present, 0, "{context}: its user is still present");
        let lock = store.find_lock(&story.lock()).await.unwrap();
        let until = lock.map_or(UnixMillis(0), |lock| lock.until);
        assert_eq!(until, UnixMillis(0), "{context}: its lock is still held");
    }
    // Nobody has told the application of anything, so all of it waits.
    let ids = [(story.id.clone(), first), (story.successor(), successor)];
    for (id, row) in ids {
        let told = events(store, HookSubject::Connection(connection_id(&id))).await;
        let expected: &[&[&str]] = match row {
            Some(_) => &[&["connection.opened"]],
            None => &[&[], &["connection.opened", "connection.closed"]],
        };
        assert!(expected.contains(&&told[..]), "{context}: {id}: {told:?}");
    }
    let told = events(store, HookSubject::Member(channel, user_id(&story.user))).await;
    let in_turn = ["presence.joined", "presence.left"].into_iter().cycle();
    let in_turn: Vec<_> = in_turn.take(told.len()).collect();
    assert_eq!(told, in_turn, "{context}");
    assert_eq!(told.len() % 2, present, "{context}: {told:?}");
}

/// The types of a subject's events. They are forgotten, because each check scans
/// the table.
async fn events(store: &DynamoDb, subject: HookSubject) -> Vec<&'static str> {
    let events = store.events_of(&subject).await.unwrap().events;
    for event in &events {
        store.forget_event(event).await.unwrap();
    }
    events.iter().map(|one| one.event.type_name()).collect()
}

/// Runs each pair, with and without an earlier row: the second incident happens
/// while the first waits at each of its calls, and then the first continues,
/// dies or fails.
async fn explore(first: Incident) {
    use Ending::{Continues, Dies, Fails};
    let hooked = hooked();
    let mut stories = 0;
    for second in ALL {
        for begins in [&[][..], &[Connect]] {
            // Each story checks the whole database, so few share one.
            let database = endpoint().await;
            let client = Client::new(&crate::sdk_config(&database));
            let direct = hooked(store_at(&database));
            for ending in [Continues, Dies, Fails] {
                for call in 0.. {
                    stories += 1;
                    let story = Story::number(stories);
                    for what in begins {
                        story.happen(*what, &direct).await.unwrap();
                    }
                    let proxy = Proxy::start(&database, Trouble::Pause, call).await;
                    let (teller, through) = (story.clone(), hooked(store_at(&proxy.endpoint)));
                    let running = tokio::spawn(async move { teller.happen(first, &through).await });
                    let mut running = running;
                    let finished = tokio::select! {
                        () = proxy.reached() => None,
                        finished = &mut running => Some(finished),
                    };
                    let has_paused = finished.is_none();
                    let is_second_in = story.happen(second, &direct).await.unwrap();
                    let mut is_done = true;
                    let mut let_in = Vec::new();
                    match (finished, ending) {
                        (Some(finished), _) => {
                            finished.unwrap().unwrap();
                        }
                        (None, Dies) => {
                            running.abort();
                            is_done = false;
                        }
                        (None, Continues | Fails) => {
                            if ending == Fails {
                                proxy.fail_from_now_on();
                            } else {
                                proxy.go_on();
                            }
                            let ended = running.await.unwrap();
                            is_done = ended.is_ok();
                            assert!(is_done || ending == Fails, "{ended:?}");
                            if ended == Ok(true) {
                                let_in.push(story.id_of(first));
                            }
                        }
                    }
                    if is_second_in && !ENDS.contains(&first) {
                        let_in.push(story.id_of(second));
                    }
                    let context = format!(
                        "{begins:?}, {first:?} waits at call {call} for {second:?}, {ending:?}"
                    );
                    // An incident that died or failed may be done in part, or
                    // completely.
                    let begun = [begins, &[second, first]].concat();
                    let done = &begun[..begun.len() - usize::from(!is_done)];
                    expect_consistent(&client, &direct, &story, (&begun, done), &let_in, &context)
                        .await;
                    if !has_paused {
                        break;
                    }
                }
            }
        }
    }
    assert!(stories > 3 * ALL.len(), "{stories}");
}

#[tokio::test]
async fn a_connect_survives_everything_else() {
    explore(Connect).await;
}

#[tokio::test]
async fn a_disconnect_survives_everything_else() {
    explore(Disconnect).await;
}

#[tokio::test]
async fn a_removal_survives_everything_else() {
    explore(Removal).await;
}

#[tokio::test]
async fn a_successor_survives_everything_else() {
    explore(Successor).await;
}

#[tokio::test]
async fn frames_and_sweeps_survive_everything_else() {
    for first in [Frame, NewToken, Ping, SignOut] {
        explore(first).await;
    }
}

#[tokio::test]
async fn a_subscription_survives_everything_else() {
    explore(Subscribe).await;
}

#[tokio::test]
async fn its_end_survives_everything_else() {
    explore(Unsubscribe).await;
}

#[tokio::test]
async fn a_lock_survives_everything_else() {
    explore(Lock).await;
}

/// Lets each incident follow one that has trouble at each of its calls, and
/// repeats both twice at the end.
async fn have_trouble(first: Incident) {
    let hooked = hooked();
    let mut stories = 0;
    for second in ALL {
        let database = endpoint().await;
        let client = Client::new(&crate::sdk_config(&database));
        let direct = hooked(store_at(&database));
        for trouble in [Trouble::Conflict, Trouble::Throttle, Trouble::LostAnswer] {
            for call in 0.. {
                stories += 1;
                let story = Story::number(stories);
                let proxy = Proxy::start(&database, trouble, call).await;
                if first != Connect {
                    story.happen(Connect, &direct).await.unwrap();
                }
                let through = hooked(store_at(&proxy.endpoint));
                story.happen(first, &through).await.unwrap();
                for what in [second, first, second, first] {
                    story.happen(what, &direct).await.unwrap();
                }
                let context = format!("{trouble:?} at call {call} of {first:?}, then {second:?}");
                let all = [Connect, first, second];
                expect_consistent(&client, &direct, &story, (&all, &all), &[], &context).await;
                if !proxy.was_reached() {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn trouble_during_a_connect_leaves_nothing_behind() {
    have_trouble(Connect).await;
}

#[tokio::test]
async fn trouble_during_a_disconnect_leaves_nothing_behind() {
    have_trouble(Disconnect).await;
}

#[tokio::test]
async fn trouble_during_a_removal_leaves_nothing_behind() {
    have_trouble(Removal).await;
}

#[tokio::test]
async fn trouble_during_a_successors_connect_leaves_nothing_behind() {
    have_trouble(Successor).await;
}

#[tokio::test]
async fn trouble_during_a_frame_leaves_nothing_behind() {
    have_trouble(Frame).await;
}

#[tokio::test]
async fn trouble_during_a_new_token_leaves_nothing_behind() {
    have_trouble(NewToken).await;
}

#[tokio::test]
async fn trouble_during_a_ping_leaves_nothing_behind() {
    have_trouble(Ping).await;
}

#[tokio::test]
async fn trouble_during_a_sign_out_leaves_nothing_behind() {
    have_trouble(SignOut).await;
}

#[tokio::test]
async fn trouble_during_a_subscription_leaves_nothing_behind() {
    have_trouble(Subscribe).await;
}

#[tokio::test]
async fn trouble_during_the_end_of_a_subscription_leaves_nothing_behind() {
    have_trouble(Unsubscribe).await;
}

#[tokio::test]
async fn trouble_during_a_lock_leaves_nothing_behind() {
    have_trouble(Lock).await;
}

#[tokio::test]
async fn a_row_of_a_handshake_that_failed_is_checked_when_the_handshake_is_over() {
    let database = endpoint().await;
    let direct = store_at(&database);
    let lost_write = Proxy::start(&database, Trouble::LostAnswers, 0).await;
    let failing_look = Proxy::start(&database, Trouble::Pause, 1).await;
    failing_look.fail_from_now_on();
    for (proxy, id) in [(lost_write, "c1"), (failing_look, "c2")] {
        let row = connection(id, id);
        let admitted = admit(&store_at(&proxy.endpoint), &row).await;
        assert!(admitted.is_err(), "{id}: {admitted:?}");
        let left = direct.find(&row.id).await.unwrap().expect("a row");
        let ends_at = Recipient::from(&row).handshake_ends_at();
        assert_eq!(left.liveness.due_at, ends_at, "{id}");
        // The same handshake, handled again.
        assert_eq!(admit(&direct, &row).await, Ok(Admitted::Yes));
    }
}

#[tokio::test]
async fn a_look_that_fails_once_is_repeated() {
    let database = endpoint().await;
    let proxy = Proxy::start(&database, Trouble::Fail, 1).await;
    let row = connection("c1", "alice");
    let admitted = admit(&store_at(&proxy.endpoint), &row).await;
    assert_eq!(admitted, Ok(Admitted::Yes));
    let left = store_at(&database).find(&row.id).await;
    assert_eq!(left, Ok(Some(row)), "it is due as usual");
}

async fn admit(store: &DynamoDb, row: &Connection) -> Result<Admitted, StoreError> {
    let admission = Admission {
        connection: row,
        token_issued_at: START.to_seconds(),
        replaces: None,
    };
    store.admit(admission, LIMITS).await
}
