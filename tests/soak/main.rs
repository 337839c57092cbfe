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
use std::time::Duration;

use belfry_tests::{Clients, Stack};
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
use plan::{Plan, STEP};

/// How often the run says where it is.
const REPORT: Duration = Duration::from_secs(10);

/// How long everything may take to settle after the last fault: a client that
/// heard nothing looks for missing messages after five minutes.
const SETTLING: Duration = Duration::from_secs(400);

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
    let (mut clients, opened) = Clients::open(&stack.ready, &plan.members()).await;
    say(
        begun,
        &format!("{} clients are subscribed", opened["connected"]),
    );

    let churn = Churn::start(&stack, plan.churning()).await;
    let mut growth = Growth::default();
    let mut strikes = Strikes::default();
    let (mut reported, mut last) = (Instant::now(), Value::Null);
    let steps = plan.steps();
    let run = Instant::now();
    for step in 0..steps {
        tokio::time::sleep_until(run + STEP * step).await;
        if let Some(faults) = plan.faults(step) {
            strikes.change(&stack, faults).await;
        }
        last = clients.act(&plan.acts()).await;
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            growth.sample(&stack, &last);
            say(begun, &format!("{}; {}", strikes.active(), summary(&last)));
        }
    }
    strikes.end(&stack).await;
    let churned = churn.stop().await;
    say(begun, "no more faults; waiting until everything is settled");
    let settled = clients.settle(SETTLING).await;
    say(begun, &summary(&settled));

    let mut findings = Findings::default();
    findings.settled(&settled);
    let checks = Checks::new(&stack, &plan);
    checks
        .while_open(&mut clients, SETTLING, &mut findings)
        .await;
    let verdict = clients.verdict().await;
    logs::check(&stack, &verdict, &mut findings).await;
    findings.all(clients.close().await);
    checks.after_close(SETTLING, &mut findings).await;
    growth.check(&options, &mut findings);
    let children = stack.children();
    let status = stack.stop(Signal::SIGINT, Duration::from_secs(60)).await;
    findings.check(status.success(), || {
        format!("the stack ended with {status}")
    });
    for pid in children {
        let left = std::path::Path::new("/proc").join(&pid).exists();
        findings.check(!left, || format!("process {pid} is left"));
    }

    println!("{}", strikes.table());
    println!("{}", growth.table());
    println!("{churned}");
    println!("{}", summary(&last));
    if findings.print() {
        let log = belfry_tests::repository().join("target/soak.log");
        std::fs::write(&log, stack.logs.text()).expect("written");
        println!("the stack's log is in {}", log.display());
        println!("replay with: {}", options.replay());
        std::process::exit(1);
    }
    println!("nothing was lost, doubled, out of order or left over");
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
        .argument("2m")
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
