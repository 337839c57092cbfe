//! The local stack's process, as the operating system sees it.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::patience::PATIENCE;
use crate::stack::Stack;

/// A memory figure of a process's status, in KB.
pub(crate) fn memory_kb(pid: u32, name: &str) -> u64 {
    try_memory_kb(pid, name).expect("the process runs, and has a line of memory")
}

/// The same, or `None` if the process has ended.
fn try_memory_kb(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.trim_start_matches(':').trim().strip_suffix(" kB")?;
    number.parse().ok()
}

impl Stack {
    /// How many files are open, sockets included.
    ///
    /// # Panics
    /// On systems without /proc.
    #[must_use]
    pub fn open_files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        files.expect("the stack runs").count()
    }

    /// The processes that the local stack has started.
    ///
    /// # Panics
    /// On systems without /proc.
    #[must_use]
    pub fn children(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        tasks
            .expect("the stack runs")
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
            .flat_map(|list| {
                let list = list.split_whitespace();
                list.map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    }

    /// The resident memory of each process that the local stack has started, in
    /// KB, and the name of its program.
    ///
    /// # Panics
    /// On systems without /proc.
    #[must_use]
    pub fn functions_memory_kb(&self) -> Vec<(u64, String)> {
        let pids = self.children().into_iter();
        // One may end meanwhile.
        let memory = pids.filter_map(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            let kb = try_memory_kb(pid.parse().ok()?, "VmRSS")?;
            Some((kb, name.trim().to_owned()))
        });
        memory.collect()
    }

    /// Kills the execution environments of a function, whatever they are at.
    /// `binary` is the file name of its program.
    ///
    /// # Panics
    /// On systems without /proc.
    pub fn kill_functions(&self, binary: &str) {
        for pid in self.children() {
            let program = std::fs::read_link(format!("/proc/{pid}/exe"));
            if program.is_ok_and(|program| program.ends_with(binary)) {
                let pid = pid.parse().expect("a process id");
                // Fails if it has ended meanwhile.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Resident memory, in KB.
    ///
    /// # Panics
    /// On systems without /proc.
    #[must_use]
    pub fn memory_kb(&self) -> u64 {
        memory_kb(self.pid(), "VmRSS")
    }

    /// Waits until at most this many files are open.
    ///
    /// # Panics
    /// If more are still open after a while.
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
