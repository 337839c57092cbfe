//! Puts load on a deployed stack, or on the local one, and tells how it bears
//! it. `make loadtest` builds and runs it; docs/OPERATIONS.md says how.

mod options;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use belfry_tests::{Answers, Broadcast, Crowd, SOLO, Ticket};
use clap::Parser;
use tokio::time::MissedTickBehavior;

use crate::options::{Options, Plan};
use crate::report::{line, took};

/// How many handshakes may be under way: no client of AWS waits for another.
const AT_A_TIME: usize = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let plan = match Options::parse().plan().await {
        Ok(plan) => plan,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(2);
        }
    };
    if run(&plan).await {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether nothing was refused or lost.
async fn run(plan: &Plan) -> bool {
    println!("{}", plan.describe());
    let mut crowd = Crowd::default();
    let refused = ramp(&mut crowd, &plan.tickets, plan.connect_rate).await;
    for (reason, count) in &refused {
        line("refused", &format!("{count} with {reason}"));
    }
    if crowd.is_empty() {
        println!("nobody was let in");
        return false;
    }
    took("handshakes", &mut crowd.handshakes);

    let answers = hold(&mut crowd, plan).await;
    let mut fine = told("frames", answers) && refused.is_empty();
    if let Some(announcer) = &plan.announcer {
        match crowd.broadcast(announcer).await {
            Ok(broadcast) => fine &= told_all(&broadcast, crowd.len()),
            Err(reason) => {
                line("broadcast", &format!("failed: {reason}"));
                fine = false;
            }
        }
    }
    let ended = crowd.ended();
    if ended > 0 {
        line("connections", &format!("{ended} ended before their time"));
    }
    println!("Closing {} connections…", crowd.len());
    crowd.leave().await;
    fine && ended == 0
}

/// Lets everyone in, so many a second, and counts the refusals by reason.
async fn ramp(crowd: &mut Crowd, tickets: &[Ticket], rate: usize) -> Vec<(String, usize)> {
    let mut refused: Vec<(String, usize)> = Vec::new();
    let begun = Instant::now();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    // A second that took longer is not made up for: the rate is a limit.
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tickets in tickets.chunks(rate) {
        second.tick().await;
        for reason in crowd.grow(tickets, AT_A_TIME).await {
            match refused.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => refused.push((reason, 1)),
            }
        }
        let failed: usize = refused.iter().map(|(_, count)| count).sum();
        println!(
            "  {:>4.0} s  {} connected, {failed} refused",
            begun.elapsed().as_secs_f64(),
            crowd.len()
        );
    }
    refused
}

/// Keeps everyone connected, and talking or told things.
async fn hold(crowd: &mut Crowd, plan: &Plan) -> Answers {
    let count = plan.rate * usize::try_from(plan.over.as_secs()).unwrap_or(usize::MAX);
    let begun = Instant::now();
    let progress = |arrived| {
        println!(
            "  {:>4.0} s  {arrived} frames arrived",
            begun.elapsed().as_secs_f64()
        );
    };
    match &plan.announcer {
        Some(announcer) => {
            crowd
                .notify(announcer, SOLO, count, plan.over, progress)
                .await
        }
        None => crowd.echo(count, plan.over, progress).await,
    }
}

fn told(what: &str, mut answers: Answers) -> bool {
    took(what, &mut answers.times);
    let Answers { lost, twice, .. } = answers;
    line("", &format!("{lost} lost, {twice} more than once"));
    lost == 0
}

fn told_all(broadcast: &Broadcast, sockets: usize) -> bool {
    let seconds = broadcast.arrived_after.as_secs_f64();
    let text = format!(
        "{seconds:.2} s to the last of {sockets} frames, {} lost; the report: {}",
        broadcast.lost, broadcast.report
    );
    line("broadcast", &text);
    broadcast.lost == 0
}
