//! A long run of the local stack: many clients with channels, presence, locks
//! and notifications, while one fault after the other strikes, alone and in
//! pairs. Afterwards everything must be as it was promised: see [`checks`].
//! Everything that is decided at random follows from one seed.

mod checks;
mod churn;
mod faults;
mod findings;
mod growth;
mod logs;
mod options;
mod plan;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use belfry_tests::{Clients, Stack, repository};
use clap::Parser;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::Instant;

use checks::Checks;
use churn::Churn;
use faults::Strikes;
use findings::Findings;
use growth::Growth;
use options::Options;
use plan::{LIFE, Plan, STEP};

/// How often the run says where it is.
const REPORT: Duration = Duration::from_secs(10);

/// How long everything may take to settle after the last fault: a client that
/// heard nothing looks for missing messages after five minutes.
const SETTLING: Duration = Duration::from_secs(400);

/// How long the stack may take to stop.
const STOPPING: Duration = Duration::from_secs(60);

const RULES: &str = r#"{"version":"1.0",
    "user": {"history": {"seconds": 86400}},
    "all": {"history": {"seconds": 86400}},
    "channels": [{"match": "room:**", "allow": ["subscribe", "publish", "presence", "lock"], "history": {"seconds": 86400}}]}"#;

#[tokio::main]
async fn main() {
    let options = Options::parse();
    println!("{options}");
    let mut stack = start(&options).await;
    let mut plan = Plan::new(&options);
    let begun = Instant::now();
    let (mut clients, opened) = Clients::open(&stack.ready, &plan.members(), plan.opening()).await;
    say(
        begun,
        &format!("{} clients are subscribed", opened["connected"]),
    );

    let churn = Churn::start(&stack, plan.churning()).await;
    let tables = strike(&stack, &mut plan, &mut clients, begun).await;
    let churned = churn.stop().await;
    say(begun, "no more faults; waiting until everything is settled");
    let settled = clients.settle(SETTLING).await;
    say(begun, &summary(&settled));

    let mut findings = Findings::default();
    findings.settled(&settled);
    check(&stack, &plan, clients, &mut findings).await;
    tables.growth.check(&options, &mut findings);
    stop(&mut stack, &mut findings).await;
    println!(
        "{}\n{}\n{churned}",
        tables.strikes.table(),
        tables.growth.table()
    );
    if findings.print() {
        let log = repository().join("target/soak.log");
        std::fs::write(&log, stack.logs.text()).expect("written");
        println!("the stack's log is in {}", log.display());
        println!("replay with: {}", options.replay());
        std::process::exit(1);
    }
    println!("nothing was lost, doubled, out of order or left over");
}

/// What happened, and what it cost.
#[derive(Default)]
struct Tables {
    strikes: Strikes,
    growth: Growth,
}

/// Lets the clients act while faults strike.
async fn strike(stack: &Stack, plan: &mut Plan, clients: &mut Clients, begun: Instant) -> Tables {
    let mut tables = Tables::default();
    let (run, mut reported) = (Instant::now(), Instant::now());
    for step in 0..plan.steps() {
        tokio::time::sleep_until(run + STEP * step).await;
        if let Some(faults) = plan.faults(step) {
            tables.strikes.change(stack, faults).await;
        }
        let progress = clients.act(&plan.acts()).await;
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            tables.growth.sample(stack, &progress);
            let active = tables.strikes.active();
            say(begun, &format!("{active}; {}", summary(&progress)));
        }
    }
    tables.strikes.end(stack).await;
    tables
}

/// Everything that must be true while the clients are connected, and after they
/// have closed.
async fn check(stack: &Stack, plan: &Plan, mut clients: Clients, findings: &mut Findings) {
    let checks = Checks::new(stack, plan);
    checks.while_open(&mut clients, SETTLING, findings).await;
    let verdict = clients.verdict().await;
    logs::check(stack, &verdict, findings).await;
    findings.all(clients.close().await);
    checks.after_close(SETTLING, findings).await;
}

async fn stop(stack: &mut Stack, findings: &mut Findings) {
    let functions = stack.children();
    let status = stack.stop(Signal::SIGINT, STOPPING).await;
    findings.check(status.success(), || {
        format!("the stack ended with {status}")
    });
    for pid in functions {
        let left = Path::new("/proc").join(&pid).exists();
        findings.check(!left, || format!("process {pid} is left"));
    }
}

async fn start(options: &Options) -> Stack {
    let mut rules = tempfile::NamedTempFile::new().expect("a temporary file");
    rules.write_all(RULES.as_bytes()).expect("written");
    let rules = rules.into_temp_path();
    let program = std::env::current_exe().expect("this program's path");
    let binaries = program.parent().expect("the folder of the build");
    let places = (options.clients * 3).to_string();
    let of_worker = options.clients.div_ceil(4).to_string();
    let stack = Stack::talkative()
        .functions(binaries)
        .parameter("MaxConnections", &places)
        .parameter("ConnectionsPerWorker", &of_worker)
        .parameter("HeartbeatIntervalSeconds", "30")
        .parameter("HeartbeatGraceSeconds", "20")
        .parameter("PresenceGraceSeconds", "5")
        .argument("--max-duration")
        .argument(&format!("{}s", LIFE.as_secs()))
        .argument("--schedule-every")
        .argument("5s")
        .argument("--retry-delay")
        .argument("1s,2s")
        .argument("--channels")
        .argument(rules.to_str().expect("a path"));
    stack.start().await
}

fn say(begun: Instant, text: &str) {
    println!("{:>6} s  {text}", begun.elapsed().as_secs());
}

/// What the clients' program has counted.
fn summary(progress: &Value) -> String {
    let number = |name: &str| progress[name].as_u64().unwrap_or_default();
    format!(
        "{} connected, {} connections, {} published, {} acknowledged, {} delivered, {} lost, {} locks, refused {}",
        number("connected"),
        number("connections"),
        number("published"),
        number("acknowledged"),
        number("delivered"),
        number("losses"),
        number("locked"),
        progress["refused"]
    )
}
