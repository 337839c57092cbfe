//! A message to the largest of many channels. Fails if a total is wrong, if it
//! takes a tenth longer than its rate allows, or if memory grows.

use std::time::Instant;

use belfry_core::frames::FrameOutcome;
use belfry_core::ports::Clock;

use crate::population::Population;
use crate::simulation::{
    Account, CONNECTIONS_PER_WORKER, MAX_WORKERS, MOST, Marks, POSTS_PER_SECOND, TOLERANCE,
    is_gone, peak_memory_mb,
};
use crate::world::World;

const SIZES: [u32; 4] = [10_000, 30_000, 100_000, MOST];

/// The default, and what leaves half of the account's quota to others.
const RATES: [u32; 2] = [POSTS_PER_SECOND, 5_000];

/// How much more memory the largest run may take than the first: it has four
/// workers, each with two pages.
const GROWTH_MB: f64 = 4.0;

pub(crate) async fn run() {
    println!();
    println!("a message to the largest channel, simulated");
    println!(
        "{:>11} {:>9} {:>11} {:>8} {:>7} {:>10} {:>10} {:>7} {:>6} {:>10} {:>10}",
        "connections",
        "channels",
        "subscribers",
        "posts/s",
        "workers",
        "limit",
        "last post",
        "ratio",
        "twice",
        "memory",
        "computed"
    );
    let mut memory = Vec::new();
    for connections in SIZES {
        let population = Population::of(connections);
        for rate in RATES {
            publish(population, rate).await;
        }
        memory.push(peak_memory_mb());
    }
    let grown = memory[memory.len() - 1] - memory[0];
    assert!(grown <= GROWTH_MB, "memory grows: {memory:?} MB");
}

async fn publish(population: Population, rate: u32) {
    let computing = Instant::now();
    let world = World::new(population, rate, Account::exactly(rate), Marks::default());
    let begun = world.clock.now();
    let outcome = world.publish(0, 0).await;
    assert_eq!(outcome, FrameOutcome::Served("publish"));
    let delivered = world.work().await;

    let size = population.largest;
    let workers = size.div_ceil(CONNECTIONS_PER_WORKER).min(MAX_WORKERS);
    assert_eq!(delivered.len(), workers as usize);
    let reports = delivered.iter().map(|one| &one.report);
    let report = reports.max_by_key(|report| report.complete);
    let report = report.expect("a worker's");
    let figures = world.api.figures();
    let gone: Vec<_> = (0..size).filter(|number| is_gone(*number)).collect();
    assert!(report.complete, "{report:?}");
    assert_eq!(report.failures.total(), gone.len() as u64, "{report:?}");
    assert_eq!(report.failures.gone, gone.len() as u64, "{report:?}");
    assert_eq!(report.success, u64::from(size) - gone.len() as u64);
    assert_eq!(u64::from(figures.reached), report.success);
    assert_eq!(figures.accepted, figures.reached, "someone got it twice");
    assert_eq!(figures.over_the_rate, 0, "posts beyond the rate");
    let mut left = gone
        .iter()
        .filter(|number| !world.store.has_removed(**number));
    assert_eq!(
        left.next(),
        None,
        "a subscriber that is gone is still there"
    );

    let share = f64::from(rate) / f64::from(MAX_WORKERS);
    let limit = f64::from(size) / (share * f64::from(workers));
    let took = figures.last_post.since(begun).as_secs_f64();
    println!(
        "{:>11} {:>9} {size:>11} {rate:>8} {workers:>7} {limit:>8.1} s {took:>8.1} s {:>7.3} {:>6} {:>7.1} MB {:>8.1} s",
        population.connections,
        population.rooms,
        took / limit,
        figures.accepted - figures.reached,
        peak_memory_mb(),
        computing.elapsed().as_secs_f64(),
    );
    assert!(took <= limit * TOLERANCE, "slower than its rate allows");
}
