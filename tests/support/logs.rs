//! What a process writes, to be waited for and looked at.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

use crate::stack::PATIENCE;

/// The lines that a process has written so far.
#[derive(Debug, Clone)]
pub struct Logs {
    lines: watch::Receiver<Vec<String>>,
}

impl Logs {
    /// Collects the lines of an output.
    pub fn of(output: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (sender, lines) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut output = BufReader::new(output).lines();
            while let Ok(Some(line)) = output.next_line().await {
                sender.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        Self { lines }
    }

    /// Everything so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// The lines so far that hold this text.
    #[must_use]
    pub fn lines_with(&self, part: &str) -> Vec<String> {
        let lines = self.lines.borrow();
        let found = lines.iter().filter(|line| line.contains(part));
        found.cloned().collect()
    }

    /// Waits for a line that holds all of these texts.
    ///
    /// # Panics
    /// If none comes.
    pub async fn wait_for(&self, parts: &[&str]) -> String {
        let line = self.wait_up_to(PATIENCE, parts).await;
        line.unwrap_or_else(|| panic!("no line with {parts:?} in:\n{}", self.text()))
    }

    /// Waits for a line that holds all of these texts, but not for ever.
    pub async fn wait_up_to(&self, limit: Duration, parts: &[&str]) -> Option<String> {
        let mut lines = self.lines.clone();
        let found = |lines: &Vec<String>| {
            let line = lines
                .iter()
                .find(|line| parts.iter().all(|part| line.contains(part)));
            line.cloned()
        };
        let waiting = lines.wait_for(|lines| found(lines).is_some());
        match tokio::time::timeout(limit, waiting).await {
            Ok(Ok(lines)) => found(&lines),
            _ => None,
        }
    }

    /// Waits until so many lines hold all of these texts, and returns how many
    /// there are.
    ///
    /// # Panics
    /// If they never do.
    pub async fn wait_for_count(&self, count: usize, parts: &[&str]) -> usize {
        let mut lines = self.lines.clone();
        let (mut seen, mut found) = (0, 0);
        loop {
            {
                let lines = lines.borrow_and_update();
                let holds = |line: &&String| parts.iter().all(|part| line.contains(part));
                found += lines[seen..].iter().filter(holds).count();
                seen = lines.len();
            }
            if found >= count {
                return found;
            }
            let changed = tokio::time::timeout(PATIENCE, lines.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                panic!("{found} lines with {parts:?}, not {count}");
            }
        }
    }

    /// Waits until everything so far is as it should be.
    ///
    /// # Panics
    /// If it never is.
    pub async fn wait_until(&self, is_so: impl Fn(&str) -> bool) {
        let mut lines = self.lines.clone();
        let waiting = lines.wait_for(|lines| is_so(&lines.join("\n")));
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("it never came in:\n{}", self.text());
        }
    }
}
