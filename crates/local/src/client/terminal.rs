//! What the person and the next program of a pipe see.

use std::io::{self, Write};

use crate::terminal::printable;

/// Standard output for frames, standard error for everything else.
pub(super) struct Terminal {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
}

impl Terminal {
    pub(super) fn of_process() -> Self {
        Self::new(io::stdout(), io::stderr())
    }

    pub(super) fn new(out: impl Write + 'static, err: impl Write + 'static) -> Self {
        Self {
            out: Box::new(out),
            err: Box::new(err),
        }
    }

    /// Tells the person something. A closed terminal is no reason to stop.
    pub(super) fn say(&mut self, text: &str) {
        let _ = writeln!(self.err, "belfry: {}", printable(text));
    }

    /// Prints a frame at once.
    pub(super) fn print(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }
}
