//! From 1,000 to 12,500 sockets on this machine. Compares Belfry's local stack
//! with a self-hosted server (FastAPI with Redis), and with an AWS emulator that
//! runs Belfry's own template. `make bench` installs and builds what it needs,
//! and draws the plot of docs/PERFORMANCE.md.

use std::process::Stdio;
use std::time::Duration;

use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region};
use belfry_tests::{
    Announcer, Crowd, Figures, SOLO, Stack, Ticket, percentile, repository, user_of,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const SIZES: [usize; 4] = [1_000, 3_000, 10_000, 12_500];

/// Smaller, since the emulator takes too long with more.
const EMULATOR_SIZES: [usize; 3] = [100, 300, 1_000];

const BROADCASTS: usize = 5;

/// Notifications per second, to one user each, and for how long.
const RATE: usize = 200;
const OVER: Duration = Duration::from_secs(10);

/// The rate that the emulator can sustain.
const EMULATOR_RATE: usize = 10;

struct Rival {
    name: &'static str,
    sizes: &'static [usize],
    /// Concurrent handshakes.
    at_a_time: usize,
    /// Notifications per second.
    rate: usize,
    tickets: Vec<Ticket>,
    announcer: Announcer,
}

#[tokio::main]
async fn main() {
    let mut plotted = serde_json::Map::new();
    println!("median (range) of {BROADCASTS} broadcasts, in ms to the last frame");

    let stack = Stack::for_crowds().start().await;
    let rival = Rival {
        name: "Belfry's local stack",
        sizes: &SIZES,
        at_a_time: 64,
        rate: RATE,
        tickets: stack.tickets(SIZES[SIZES.len() - 1]).await,
        announcer: stack.announcer(),
    };
    let mut crowd = Crowd::default();
    plotted.insert(rival.name.into(), measure(&rival, &mut crowd).await);
    drop((stack, crowd));

    let (server, ready) = serve("peer-fastapi", "fastapi/serve.py", &[]).await;
    let rival = fastapi(&ready);
    let mut crowd = Crowd::default();
    plotted.insert(rival.name.into(), measure(&rival, &mut crowd).await);
    stop(server).await;
    drop(crowd);

    let (server, ready) = serve("aws", "ministack/serve.py", &["--users", "110"]).await;
    let rival = ministack(&ready);
    let mut crowd = Crowd::default();
    plotted.insert(rival.name.into(), measure(&rival, &mut crowd).await);
    // Stopped before the clients leave: it starts a process for each of them.
    stop(server).await;
    drop(crowd);

    let folder = repository().join("target/bench");
    std::fs::create_dir_all(&folder).expect("target/");
    let file = folder.join("sockets.json");
    std::fs::write(file, Value::Object(plotted).to_string()).expect("written");
}

/// The points of a rival's curve: sockets, and seconds to the last frame.
async fn measure(rival: &Rival, crowd: &mut Crowd) -> Value {
    println!("{}", rival.name);
    let mut points = Vec::new();
    for size in rival.sizes {
        let refused = crowd
            .grow(&rival.tickets[crowd.len()..*size], rival.at_a_time)
            .await;
        assert_eq!(refused, Vec::<String>::new());
        let mut figures = Figures::default();
        for _ in 0..BROADCASTS {
            let broadcast = crowd.broadcast(&rival.announcer).await.expect("a report");
            assert_eq!(broadcast.lost, 0, "{broadcast:?}");
            figures.add_time(broadcast.arrived_after);
        }
        println!("  {size:>6} sockets  {figures}");
        points.push(json!([size, figures.median() / 1_000.0]));
    }
    let count = rival.rate * OVER.as_secs() as usize;
    let notified = crowd.notify(&rival.announcer, SOLO, count, OVER, |_| {});
    let mut notified = notified.await;
    notified.times.sort_unstable();
    let at = |percent| percentile(&notified.times, percent);
    println!(
        "  {} notifications/s: p50 {:.2} ms, p99 {:.2} ms, slowest {:.1} ms, {} lost",
        rival.rate,
        at(50),
        at(99),
        at(100),
        notified.lost
    );
    json!(points)
}

/// How long a rival may take to start. The emulator deploys a whole stack.
const START_TIMEOUT: Duration = Duration::from_secs(600);

/// Starts a rival and returns the JSON it prints when it is ready.
async fn serve(environment: &str, script: &str, arguments: &[&str]) -> (Child, Value) {
    let repository = repository();
    let mut process = Command::new(repository.join(format!(".venv/{environment}/bin/python")))
        .arg(repository.join("tests/benches/peers").join(script))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the rival starts");
    let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    let line = tokio::time::timeout(START_TIMEOUT, { lines }.next_line()).await;
    let line = line.expect("ready in time").expect("a line");
    let ready = serde_json::from_str(&line.expect("the ready line"));
    (process, ready.expect("JSON"))
}

async fn stop(mut server: Child) {
    use nix::sys::signal::{Signal, kill};
    let pid = server.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = nix::unistd::Pid::from_raw(pid.expect("the rival runs"));
    kill(pid, Signal::SIGTERM).expect("the rival runs");
    server.wait().await.expect("the rival ends");
}

fn fastapi(ready: &Value) -> Rival {
    let url = ready["websocket"].as_str().expect("a URL");
    let tickets = (0..SIZES[SIZES.len() - 1]).map(|number| Ticket {
        url: format!("{url}?user=user-{number}").into(),
        authorization: None,
        user: format!("user-{number}").into(),
    });
    Rival {
        name: "FastAPI + Redis",
        sizes: &SIZES,
        at_a_time: 64,
        rate: RATE,
        tickets: tickets.collect(),
        announcer: Announcer::Server {
            client: reqwest::Client::new(),
            url: ready["notify"].as_str().expect("a URL").to_owned(),
        },
    }
}

fn ministack(ready: &Value) -> Rival {
    let list = |name: &str| ready[name].as_array().expect("a list").clone();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let (users, tokens) = (list("users"), list("tokens"));
    let tickets = (0..EMULATOR_SIZES[EMULATOR_SIZES.len() - 1]).map(|number| {
        let user = user_of(number, users.len());
        Ticket {
            url: format!(
                "{}?token={}",
                text(&ready["websocket"]),
                text(&tokens[user])
            )
            .into(),
            authorization: None,
            user: text(&users[user]).into(),
        }
    });
    let config = aws_sdk_lambda::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(text(&ready["lambda"]))
        .build();
    Rival {
        name: "MiniStack",
        sizes: &EMULATOR_SIZES,
        at_a_time: 8,
        rate: EMULATOR_RATE,
        tickets: tickets.collect(),
        announcer: Announcer::Function {
            lambda: aws_sdk_lambda::Client::from_conf(config),
            name: text(&ready["function"]),
        },
    }
}
