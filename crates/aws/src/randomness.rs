use belfry_core::ports::Randomness;

/// The thread's generator, seeded by the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fraction(&self) -> f64 {
        fastrand::f64()
    }
}
