//! The output of a process, line by line.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::patience::{PATIENCE, soon};

/// The lines a process has written so far.
#[derive(Debug, Clone)]
pub struct Logs {
    lines: watch::Receiver<Vec<String>>,
}

impl Logs {
    /// Starts collecting the lines of an output.
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

    #[must_use]
    pub fn text(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// The lines so far that contain this text.
    #[must_use]
    pub fn lines_with(&self, part: &str) -> Vec<String> {
        let lines = self.lines.borrow();
        let found = lines.iter().filter(|line| line.contains(part));
        found.cloned().collect()
    }

    /// The sum of a metric so far.
    #[must_use]
    pub fn sum_of(&self, metric: &str) -> u64 {
        let name = format!("\"{metric}\":");
        let lines = self.lines.borrow();
        let value = |line: &String| {
            let (_, rest) = line.split_once(&name)?;
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            rest[..end].parse::<u64>().ok()
        };
        lines.iter().filter_map(value).sum()
    }

    /// Waits for a line that contains all of these texts.
    ///
    /// # Panics
    /// If none is written in time.
    pub async fn wait_for(&self, parts: &[&str]) -> String {
        let line = self.wait_up_to(PATIENCE, parts).await;
        line.unwrap_or_else(|| panic!("no line with {parts:?} in:\n{}", self.text()))
    }

    /// Like [`Self::wait_for`], but returns `None` after this time.
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

    /// Waits until the process has closed its output, so that every line is here.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn ended(&self) {
        let mut lines = self.lines.clone();
        let ended = async { while lines.changed().await.is_ok() {} };
        soon("the output ends", ended).await;
    }

    /// Waits until this many lines contain all of these texts, and returns
    /// how many do.
    ///
    /// # Panics
    /// If no further such line is written in time.
    pub async fn wait_for_count(&self, count: usize, parts: &[&str]) -> usize {
        let mut lines = self.lines.clone();
        let (mut seen, mut found) = (0, 0);
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            {
                let lines = lines.borrow_and_update();
                let matches = |line: &&String| parts.iter().all(|part| line.contains(part));
                let more = lines[seen..].iter().filter(matches).count();
                seen = lines.len();
                found += more;
                // Other lines buy no time.
                if more > 0 {
                    deadline = Instant::now() + PATIENCE;
                }
            }
            if found >= count {
                return found;
            }
            let changed = tokio::time::timeout_at(deadline, lines.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                panic!("{found} lines with {parts:?}, not {count}");
            }
        }
    }

    /// Waits until the whole text so far satisfies a condition.
    ///
    /// # Panics
    /// If it does not in time. The message names the event.
    pub async fn wait_until(&self, event: &str, holds: impl Fn(&str) -> bool) {
        let mut lines = self.lines.clone();
        let waiting = lines.wait_for(|lines| holds(&lines.join("\n")));
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        if !matches!(waited, Ok(Ok(_))) {
            panic!("not logged: {event}, in:\n{}", self.text());
        }
    }
}
