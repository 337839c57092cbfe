//! Puts load on a stack, deployed or local, and reports how long everything
//! took and what was lost. `make loadtest` builds and runs it;
//! docs/OPERATIONS.md describes it.

mod options;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use belfry_loadtest::{Announcer, Answers, Broadcast, Crowd, SOLO, Ticket, retry_after};
use clap::Parser;
use tokio::time::MissedTickBehavior;

use crate::options::{Options, Plan};
use crate::report::{line, took};

/// Concurrent handshakes. Real clients do not wait for each other.
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

/// Returns whether nothing was refused or lost.
async fn run(plan: &Plan) -> bool {
    println!("{}", plan.describe());
    let mut crowd = Crowd::default();
    let refused = connect(&mut crowd, &plan.tickets, plan.connect_rate).await;
    for (reason, count) in &refused {
        line("refused", &format!("{count} with {reason}"));
    }
    if crowd.is_empty() {
        println!("nobody could connect");
        return false;
    }
    took("handshakes", &mut crowd.handshakes);

    let answers = send_frames(&mut crowd, plan).await;
    let mut passed = report_frames(answers) && refused.is_empty();
    if let Some(announcer) = &plan.announcer {
        match broadcast(&mut crowd, announcer).await {
            Ok(broadcast) => passed &= report_broadcast(&broadcast, crowd.len()),
            Err(reason) => {
                line("broadcast", &format!("failed: {reason}"));
                passed = false;
            }
        }
    }
    let ended = crowd.ended();
    if ended > 0 {
        line("connections", &format!("{ended} ended early"));
    }
    println!("Closing {} connections…", crowd.len());
    crowd.leave().await;
    passed && ended == 0
}

/// Connects at most `rate` clients a second, and counts refusals by reason.
async fn connect(crowd: &mut Crowd, tickets: &[Ticket], rate: usize) -> Vec<(String, usize)> {
    let mut refused: Vec<(String, usize)> = Vec::new();
    let begun = Instant::now();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    // The rate is a limit: after a slow second the next one is not faster.
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

/// Sends notifications, or echoes if there is no broadcaster to invoke.
async fn send_frames(crowd: &mut Crowd, plan: &Plan) -> Answers {
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

fn report_frames(mut answers: Answers) -> bool {
    took("frames", &mut answers.times);
    let Answers { lost, twice, .. } = answers;
    line("", &format!("{lost} lost, {twice} more than once"));
    lost == 0
}

/// Sends one notification to all, as soon as the stack allows it.
async fn broadcast(crowd: &mut Crowd, announcer: &Announcer) -> Result<Broadcast, String> {
    loop {
        let outcome = crowd.broadcast(announcer).await;
        let refusal = outcome.as_ref().err();
        let Some(wait) = refusal.and_then(|refusal| retry_after(refusal)) else {
            return outcome;
        };
        let seconds = wait.as_secs_f64().ceil();
        let notice = format!("waiting {seconds} s: the last one to all was too recent");
        line("broadcast", &notice);
        tokio::time::sleep(wait).await;
    }
}

fn report_broadcast(broadcast: &Broadcast, connections: usize) -> bool {
    let seconds = broadcast.arrived_after.as_secs_f64();
    let text = format!(
        "{seconds:.2} s to the last of {connections} frames, {} lost; the report: {}",
        broadcast.lost, broadcast.report
    );
    line("broadcast", &text);
    broadcast.lost == 0
}
