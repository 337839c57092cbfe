//! Clients in large numbers. The load test runs them against any stack; the
//! system tests and the benchmarks use the same ones, so that what is measured
//! on a laptop and on AWS is measured alike.

mod announcer;
mod client;
mod crowd;
mod percentile;

pub use announcer::{Announcer, retry_after};
pub use client::{SOLO, Ticket, user_of, users_for};
pub use crowd::{Answers, Broadcast, Crowd};
pub use percentile::percentile;
