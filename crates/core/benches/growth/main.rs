//! Growth, simulated: the real rules with a simulated clock, an API with the
//! latency, limits and failures of API Gateway, and rows that are computed as
//! they are read. Fails if a total is wrong, or if something takes a tenth
//! longer than its rate allows. For one part:
//! `cargo bench --package belfry-core --bench growth -- channels`.

mod broadcasts;
mod channels;
mod population;
mod publishes;
mod simulation;
mod store;
mod units;
mod unused;
mod world;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    // Cargo adds the flag `--bench`.
    let asked: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let runs = |part: &str| asked.is_empty() || asked.iter().any(|one| one == part);
    if runs("broadcasts") {
        broadcasts::run().await;
    }
    if runs("channels") {
        channels::run().await;
    }
    if runs("publishes") {
        publishes::run().await;
    }
    if runs("units") {
        units::run().await;
    }
}
