//! Everything that can happen to a connection, in every order, with calls to
//! the database that conflict, are throttled, are lost, or come late because
//! something else happened first.

use aws_sdk_dynamodb::Client;
use belfry_aws::{Clients, DynamoConnections};
use belfry_core::ports::{
    Admission, ConnectionStore, Extension, RecipientStore, StoreError, SweepStore,
};
use belfry_core::testing::{BUDGET, PLACES, START, connection, connection_id, user_id};
use belfry_core::{Recipient, UnixSeconds, Watch};

use crate::database::{endpoint, expect_sets, expect_slots, tables};
use crate::proxy::{Proxy, Trouble};

/// What happens to the connection `c1` of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happening {
    /// The handshake, however often it is handled.
    Connect,
    Disconnect,
    /// A sweep or a broadcast finds it gone.
    Removal,
    /// Another connection takes over its place.
    Successor,
    Frame,
    NewToken,
    /// A sweep has pinged it.
    Ping,
    SignOut,
}

use Happening::{Connect, Disconnect, Frame, NewToken, Ping, Removal, SignOut, Successor};

const ALL: [Happening; 8] = [
    Connect, Disconnect, Removal, Successor, Frame, NewToken, Ping, SignOut,
];

/// A connection's story in a database that others use, too.
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

    async fn happen(&self, what: Happening, store: &DynamoConnections) -> Result<(), StoreError> {
        let row = connection(&self.id, &self.user);
        let admission = Admission {
            connection: &row,
            token_issued_at: START.to_seconds(),
            replaces: None,
        };
        match what {
            Connect => store.insert(admission, PLACES).await.map(drop),
            Disconnect => store.disconnect(&row.id, START).await,
            Removal => store.remove_unchanged(&Recipient::from(&row)).await,
            Successor => {
                let successor = connection(&self.successor(), &self.user);
                let admission = Admission {
                    connection: &successor,
                    replaces: Some(&row.id),
                    ..admission
                };
                store.insert(admission, PLACES).await.map(drop)
            }
            Frame => store.touch(&row.id, &BUDGET, START).await.map(drop),
            NewToken => {
                let extension = Extension {
                    user_id: user_id(&self.user),
                    expires_at: UnixSeconds(row.token_expires_at.0 + 60),
                };
                let extended = store.extend(&row.id, &extension, &BUDGET, START);
                extended.await.map(drop)
            }
            Ping => {
                let watch = Watch {
                    pinged_at: Some(START),
                    ..Watch::until(START)
                };
                match store.read(&row.id).await? {
                    Some(row) => store.watch(&row, &watch).await.map(drop),
                    None => Ok(()),
                }
            }
            SignOut => store.sign_out(&row.user_id, START).await.map(drop),
        }
    }
}

fn store_at(endpoint: &str) -> DynamoConnections {
    DynamoConnections::new(
        Clients::from(crate::sdk_config(endpoint)).dynamodb(),
        tables(),
    )
}

/// Rows, sets and counters agree, nothing is negative, no row is a part of
/// one. A connection that was disconnected has no row; one that connected and
/// was neither disconnected nor removed nor kept out has one.
///
/// `begun` is what has begun, `done` what is known to have been done.
async fn expect_right(
    client: &Client,
    story: &Story,
    (begun, done): (&[Happening], &[Happening]),
    told: &str,
) {
    let store = DynamoConnections::new(client.clone(), tables());
    let row = async |id: &str| {
        let row = store.read(&connection_id(id)).await;
        row.unwrap_or_else(|error| panic!("{told}: {error}"))
    };
    let (first, successor) = (row(&story.id).await, row(&story.successor()).await);
    if done.contains(&Disconnect) {
        assert_eq!(first, None, "{told}: a ghost");
    }
    let is_ended = [Disconnect, Removal, SignOut]
        .iter()
        .any(|end| begun.contains(end));
    if done.contains(&Connect) && !is_ended {
        assert!(first.is_some(), "{told}: it was let in");
    }
    if done.contains(&Successor) && !begun.contains(&SignOut) {
        assert!(successor.is_some(), "{told}: the successor was let in");
    }
    expect_slots(client, told).await;
    expect_sets(client, told).await;
}

/// Each pair, with and without a row before it: the second happens while the
/// first waits for each of its calls, and the first then goes on, or dies.
async fn explore(first: Happening) {
    let database = endpoint().await;
    let client = Client::new(&crate::sdk_config(&database));
    let direct = store_at(&database);
    let mut stories = 0;
    for second in ALL {
        for begins in [&[][..], &[Connect]] {
            for dies in [false, true] {
                for call in 0.. {
                    stories += 1;
                    let story = Story::number(stories);
                    for what in begins {
                        story.happen(*what, &direct).await.unwrap();
                    }
                    let proxy = Proxy::start(&database, Trouble::Pause, call).await;
                    let (teller, through) = (story.clone(), store_at(&proxy.endpoint));
                    let running = tokio::spawn(async move { teller.happen(first, &through).await });
                    let mut running = running;
                    let finished = tokio::select! {
                        () = proxy.reached() => None,
                        finished = &mut running => Some(finished),
                    };
                    let has_paused = finished.is_none();
                    story.happen(second, &direct).await.unwrap();
                    match finished {
                        Some(finished) => finished.unwrap().unwrap(),
                        None if dies => running.abort(),
                        None => {
                            proxy.go_on();
                            running.await.unwrap().unwrap();
                        }
                    }
                    let told = format!(
                        "{begins:?}, {first:?} waits at call {call} for {second:?}, dies: {dies}"
                    );
                    // Whoever dies may have done a part of it, or all.
                    let begun = [begins, &[second, first]].concat();
                    let done = &begun[..begun.len() - usize::from(dies && has_paused)];
                    expect_right(&client, &story, (&begun, done), &told).await;
                    if !has_paused {
                        break;
                    }
                }
            }
        }
    }
    assert!(stories > 2 * ALL.len(), "{stories}");
}

#[tokio::test]
async fn connecting_meets_everything_else() {
    explore(Connect).await;
}

#[tokio::test]
async fn disconnecting_meets_everything_else() {
    explore(Disconnect).await;
}

#[tokio::test]
async fn a_removal_meets_everything_else() {
    explore(Removal).await;
}

#[tokio::test]
async fn a_successor_meets_everything_else() {
    explore(Successor).await;
}

#[tokio::test]
async fn frames_and_sweeps_meet_everything_else() {
    for first in [Frame, NewToken, Ping, SignOut] {
        explore(first).await;
    }
}

/// Each pair in both orders, and each of the two a second and a third time at
/// the end, with trouble at each call of the first.
#[tokio::test]
async fn trouble_with_the_database_leaves_nothing_behind() {
    let database = endpoint().await;
    let client = Client::new(&crate::sdk_config(&database));
    let direct = store_at(&database);
    let mut stories = 0;
    for first in ALL {
        for second in ALL {
            for trouble in [Trouble::Conflict, Trouble::Throttle, Trouble::LostAnswer] {
                for call in 0.. {
                    stories += 1;
                    let story = Story::number(stories);
                    let proxy = Proxy::start(&database, trouble, call).await;
                    if first != Connect {
                        story.happen(Connect, &direct).await.unwrap();
                    }
                    let through = store_at(&proxy.endpoint);
                    story.happen(first, &through).await.unwrap();
                    for what in [second, first, second, first] {
                        story.happen(what, &direct).await.unwrap();
                    }
                    let told = format!("{trouble:?} at call {call} of {first:?}, then {second:?}");
                    let all = [Connect, first, second];
                    expect_right(&client, &story, (&all, &all), &told).await;
                    if !proxy.was_reached() {
                        break;
                    }
                }
            }
        }
    }
}
