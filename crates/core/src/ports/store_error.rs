/// The store could not do what it was asked to. Whether a write took place is
/// unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed: {cause}")]
pub struct StoreError {
    pub operation: &'static str,
    /// For the operator's log.
    pub cause: String,
}
