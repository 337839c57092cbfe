//! Keeps a function busy for exactly as long as a test needs.

use tempfile::TempDir;

/// A closed gate. A function of `tests/templates/misbehave.yaml` that is sent
/// to it logs `waiting at the gate` and does not answer until it opens.
pub struct Gate(TempDir);

impl Gate {
    /// # Panics
    /// If there is no room for a temporary folder.
    #[must_use]
    pub fn closed() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    /// The body that sends a function to this gate.
    #[must_use]
    pub fn body(&self) -> String {
        format!("wait {}", self.0.path().join("open").display())
    }

    /// # Panics
    /// If the temporary folder is gone.
    pub fn open(&self) {
        std::fs::write(self.0.path().join("open"), "").expect("written");
    }
}
