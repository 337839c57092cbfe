//! What a message to a channel uses, as the simulation counts it, beside what
//! `belfry cost` predicts. Fails if they differ by more than a twentieth.
//!
//! The simulation counts each call that the rules make, with the size of its
//! items. That these sizes and DynamoDB's rules are right is checked with two
//! rows of docs/COSTS.md, which tests hold to what DynamoDB counts.

use std::path::PathBuf;
use std::process::Command;

use belfry_core::frames::FrameOutcome;

use crate::population::{Population, ROOM};
use crate::simulation::{Account, MOST, Marks, POSTS_PER_SECOND};
use crate::store::Units;
use crate::world::World;

const COSTS: &str = include_str!("../../../../docs/COSTS.md");

/// Subscribers of the channels.
const SIZES: [u32; 6] = [ROOM, 200, 1_000, 2_500, 12_000, 100_000];

/// How far the prediction may be off.
const TOLERANCE: f64 = 0.05;

/// Days in a month of `belfry cost`.
const DAYS: f64 = 730.0 / 24.0;

/// What one message uses.
#[derive(Debug, Clone, Copy)]
struct Usage {
    messages: f64,
    invocations: f64,
    write: f64,
    read: f64,
}

impl Usage {
    fn parts(self) -> [(&'static str, f64); 4] {
        [
            ("messages", self.messages),
            ("requests", self.invocations),
            ("write units", self.write),
            ("read units", self.read),
        ]
    }
}

pub(crate) async fn run() {
    check_sizes().await;
    println!();
    println!("a message of a client to a channel with history: counted, and as `belfry cost` says");
    println!(
        "{:>11} {:>22} {:>18} {:>18} {:>18}",
        "subscribers", "messages", "requests", "write units", "read units"
    );
    for subscribers in SIZES {
        let (counted, predicted) = (count(subscribers).await, predict(subscribers));
        let pairs = counted.parts().into_iter().zip(predicted.parts());
        let pairs: Vec<_> = pairs.map(|((what, c), (_, p))| (what, c, p)).collect();
        let shown: Vec<_> = pairs
            .iter()
            .map(|(_, c, p)| format!("{c:.0}, {p:.1}"))
            .collect();
        println!(
            "{subscribers:>11} {:>22} {:>18} {:>18} {:>18}",
            shown[0], shown[1], shown[2], shown[3]
        );
        for (what, counted, predicted) in pairs {
            let off = (predicted - counted).abs() / counted;
            assert!(off <= TOLERANCE, "{what}: {counted}, not {predicted}");
        }
    }
}

/// Publishes a second message to a channel: the first one finds no log.
async fn count(subscribers: u32) -> Usage {
    let (population, room) = if subscribers == ROOM {
        (Population::of(MOST), 1)
    } else {
        let largest = subscribers;
        let population = Population {
            largest,
            ..Population::of(MOST)
        };
        (population, 0)
    };
    let account = Account::flawless(POSTS_PER_SECOND);
    let world = World::new(population, POSTS_PER_SECOND, account, Marks::default());
    let mut before = (Units::default(), 0);
    let mut workers = 0;
    for message in 0..2 {
        before = (world.store.units(), world.api.figures().accepted);
        let outcome = world.publish(room, message).await;
        assert_eq!(outcome, FrameOutcome::Served("publish"));
        workers = world.work().await.len();
    }
    let (units, posts) = (world.store.units(), world.api.figures().accepted);
    assert_eq!(posts - before.1, subscribers, "someone was not reached");
    Usage {
        // The frame and its answer.
        messages: f64::from(posts - before.1) + 2.0,
        invocations: workers as f64 + 1.0,
        write: (units.write - before.0.write) as f64,
        read: (units.read - before.0.read) as f64,
    }
}

/// The difference that a message of each user a day makes in a month.
fn predict(subscribers: u32) -> Usage {
    let with = |publishes: u32| {
        let flags = format!(
            "cost --json --connections {subscribers} --hours-per-day 1 --history-hours 24 \
             --fan-out {subscribers} --publishes-per-user {publishes}"
        );
        let output = Command::new(belfry())
            .args(flags.split_whitespace())
            .output();
        let output = output.expect("belfry cost");
        assert!(output.status.success(), "{output:?}");
        let bill: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let lines = bill["lines"].as_array().expect("lines").clone();
        move |what: &str| {
            let line = lines.iter().find(|line| line["what"] == what);
            let quantity = line.and_then(|line| line["quantity"].as_f64());
            quantity.expect("a quantity")
        }
    };
    let (without, with) = (with(0), with(1));
    let messages = f64::from(subscribers) * DAYS;
    let difference = |what: &str| (with(what) - without(what)) / messages;
    Usage {
        messages: difference("messages"),
        invocations: difference("requests"),
        write: difference("write units"),
        read: difference("read units"),
    }
}

/// The local stack's binary of this build, or of a debug build.
fn belfry() -> PathBuf {
    let bench = std::env::current_exe().expect("the benchmark's own path");
    let target = bench.ancestors().nth(3).expect("target above release/deps");
    let built = ["release", "debug"].map(|profile| target.join(profile).join("belfry"));
    let found = built.into_iter().find(|path| path.exists());
    found.expect(
        "target/release/belfry: build it with `cargo build --release --package belfry-local`",
    )
}

/// That the simulation counts what DynamoDB counts for the same work.
async fn check_sizes() {
    let (frame, log) = (documented("frame"), documented("log: a message"));
    for (subscribers, work) in [
        (500, "publish: a worker posts to 500 subscribers"),
        (1_500, "publish: a worker posts to 1,500 subscribers"),
    ] {
        let (counted, expected) = (count(subscribers).await, documented(work));
        for (counted, parts) in [
            (counted.write, [expected.write, frame.write, log.write]),
            (counted.read, [expected.read, frame.read, log.read]),
        ] {
            let documented: f64 = parts.iter().sum();
            let off = (counted - documented).abs() / documented;
            assert!(off <= TOLERANCE, "{work}: {counted}, not {documented}");
        }
    }
}

struct Documented {
    write: f64,
    read: f64,
}

/// The units of an operation in docs/COSTS.md.
fn documented(operation: &str) -> Documented {
    let (_, table) = COSTS.split_once("| operation |").expect("the table");
    let start = format!("| {operation} | ");
    let row = table.lines().find_map(|line| line.strip_prefix(&start));
    let row = row.unwrap_or_else(|| panic!("docs/COSTS.md has no {operation}"));
    let cells = row.split(" | ").map(|cell| cell.parse().expect("units"));
    let [write, read] = cells.take(2).collect::<Vec<_>>()[..] else {
        panic!("{row}")
    };
    Documented { write, read }
}
