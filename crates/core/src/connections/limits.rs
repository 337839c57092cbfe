/// How many connections may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In the whole stack.
    pub total: u64,
    pub per_user: u64,
}
