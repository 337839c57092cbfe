//! What the operating system knows of a running gateway.

use std::time::Duration;

use crate::stack::{PATIENCE, Stack};

/// A line of a process's status that tells of its memory, in KB.
pub(crate) fn memory_kb(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim_start_matches(':').trim().strip_suffix(" kB"));
    number.expect("a line of memory").parse().expect("a number")
}

impl Stack {
    /// How many files the gateway has open; every socket is one.
    ///
    /// # Panics
    /// Where there is no /proc.
    #[must_use]
    pub fn open_files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        files.expect("the gateway runs").count()
    }

    /// The processes that the gateway has started.
    ///
    /// # Panics
    /// Where there is no /proc.
    #[must_use]
    pub fn children(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        tasks
            .expect("the gateway runs")
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
            .flat_map(|list| {
                let list = list.split_whitespace();
                list.map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    }

    /// The gateway's resident memory, in KB.
    ///
    /// # Panics
    /// Where there is no /proc.
    #[must_use]
    pub fn memory_kb(&self) -> u64 {
        memory_kb(self.pid(), "VmRSS")
    }

    /// Waits until the gateway has no more than so many files open.
    ///
    /// # Panics
    /// If it never has.
    pub async fn files_fall_to(&self, count: usize) {
        let falling = async {
            while self.open_files() > count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, falling).await.is_err() {
            panic!("{} files are open, not {count}", self.open_files());
        }
    }
}
