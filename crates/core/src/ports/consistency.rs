/// Whether a read sees every earlier write, at twice the price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// What is not found does not exist.
    Strong,
    Eventual,
}
