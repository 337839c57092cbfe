//! Plain clients that come, send frames, and go.

use std::time::Duration;

use belfry_tests::{Crowd, Stack, Ticket};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

const AT_A_TIME: usize = 10;
const ECHOES: usize = 100;
const OVER: Duration = Duration::from_secs(5);

pub(crate) struct Churn {
    stop: watch::Sender<bool>,
    running: JoinHandle<String>,
}

impl Churn {
    pub(crate) async fn start(stack: &Stack, clients: usize) -> Self {
        let tickets = stack.tickets(clients).await;
        let (stop, stopped) = watch::channel(false);
        // Its future is not `Send`.
        let runtime = Handle::current();
        let running = spawn_blocking(move || runtime.block_on(run(tickets, stopped)));
        Self { stop, running }
    }

    /// Waits until they have left, and returns what they did.
    pub(crate) async fn stop(self) -> String {
        self.stop.send_replace(true);
        self.running.await.expect("they leave")
    }
}

async fn run(tickets: Vec<Ticket>, stopped: watch::Receiver<bool>) -> String {
    let (mut opened, mut refused, mut answered) = (0, 0, 0);
    while !*stopped.borrow() {
        let mut crowd = Crowd::default();
        refused += crowd.grow(&tickets, AT_A_TIME).await.len();
        opened += crowd.len();
        if !crowd.is_empty() {
            answered += crowd.echo(ECHOES, OVER, |_| {}).await.times.len();
        }
        crowd.leave().await;
    }
    format!("plain clients: {opened} connections, {refused} handshakes refused, {answered} echoes")
}
