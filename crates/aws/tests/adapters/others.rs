//! The contracts of the small adapters.

use belfry_aws::{SystemClock, SystemRandomness};
use belfry_core::testing::{clock_contract, randomness_contract};

#[tokio::test]
async fn the_clock_keeps_the_contract() {
    clock_contract(&SystemClock).await;
}

#[test]
fn the_randomness_keeps_the_contract() {
    randomness_contract(&SystemRandomness);
}
