use serde_json::Value;

/// The most findings that are printed.
const PRINTED: usize = 30;

/// What is wrong.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    pub(crate) fn add(&mut self, finding: String) {
        self.0.push(finding);
    }

    pub(crate) fn all(&mut self, findings: Vec<String>) {
        self.0.extend(findings);
    }

    pub(crate) fn check(&mut self, holds: bool, finding: impl FnOnce() -> String) {
        if !holds {
            self.add(finding());
        }
    }

    /// What the clients say after the last fault.
    pub(crate) fn settled(&mut self, settled: &Value) {
        for what in settled["unsettled"].as_array().expect("a list") {
            self.add(format!("not settled: {what}"));
        }
        for what in settled["behind"].as_array().expect("a list") {
            self.add(format!("behind: {what}"));
        }
    }

    /// Returns whether there are any.
    pub(crate) fn print(&self) -> bool {
        for finding in self.0.iter().take(PRINTED) {
            println!("WRONG: {finding}");
        }
        if self.0.len() > PRINTED {
            println!("and {} more", self.0.len() - PRINTED);
        }
        !self.0.is_empty()
    }
}
