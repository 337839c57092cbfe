use std::fmt;

use clap::Parser;

/// Runs the local stack under load and faults, and checks everything afterwards.
/// Exits with 1 if anything is wrong.
#[derive(Debug, Clone, Parser)]
#[command(name = "soak")]
pub(crate) struct Options {
    /// How long faults strike, in minutes
    #[arg(long, default_value_t = 30.0)]
    pub(crate) minutes: f64,
    /// How many clients; two cores carry some 1,000
    #[arg(long, default_value_t = 1_000)]
    pub(crate) clients: usize,
    /// What everything random follows from; another one each time by default
    #[arg(long, default_value_t = fastrand::u64(..1_000_000))]
    pub(crate) seed: u64,
}

impl Options {
    /// The command that does the same again.
    pub(crate) fn replay(&self) -> String {
        let Self {
            minutes,
            clients,
            seed,
        } = self;
        format!("make soak MINUTES={minutes} CLIENTS={clients} SEED={seed}")
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} clients for {} minutes, seed {}",
            self.clients, self.minutes, self.seed
        )
    }
}
