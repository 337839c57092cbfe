//! What the person and the next program of a pipe see.

use std::io::{self, Write};

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

/// A text without the characters that would command the terminal: part of it
/// comes from the server.
pub(crate) fn printable(text: &str) -> String {
    let command = |c: char| c.is_control() && c != '\n';
    text.replace(command, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_command_the_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\u{9b}c\r\nd"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}\nd"
        );
        assert_eq!(printable("…/dev ü"), "…/dev ü");
    }
}
