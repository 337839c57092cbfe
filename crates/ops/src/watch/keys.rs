//! The terminal while the screen is shown: keys come at once, and everything is
//! as before when it ends.

use std::io::{self, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// Another screen, without a cursor and without line breaks at its edge.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l";
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";

/// The rows of a terminal that does not say how many it has.
const USUAL_ROWS: usize = 24;

pub(super) struct Screen {
    before: Termios,
    keys: mpsc::UnboundedReceiver<u8>,
}

impl Screen {
    /// `None` if input or output is no terminal.
    pub(super) fn open() -> Result<Option<Self>, io::Error> {
        let (stdin, mut stdout) = (io::stdin(), io::stdout());
        if !stdin.is_terminal() || !stdout.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        let mut keys_at_once = before.clone();
        // Ctrl-C remains a signal.
        keys_at_once.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        tcsetattr(&stdin, OptionalActions::Now, &keys_at_once)?;
        let screen = Self {
            before,
            keys: read_keys(),
        };
        stdout.write_all(ENTER.as_bytes())?;
        Ok(Some(screen))
    }

    /// Replaces what is shown. Lines that do not fit are left out.
    pub(super) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let rows = tcgetwinsize(&out).map_or(0, |size| usize::from(size.ws_row));
        let rows = if rows == 0 { USUAL_ROWS } else { rows };
        let shown: Vec<_> = lines
            .iter()
            .take(rows)
            .map(|line| format!("{line}\u{1b}[K"))
            .collect();
        write!(out, "\u{1b}[H{}\u{1b}[J", shown.join("\r\n"))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
        let mut out = io::stdout();
        let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
    }
}

/// Waits for the key that leaves. Never without a screen.
pub(super) async fn quit(screen: Option<&mut Screen>) {
    if let Some(screen) = screen {
        while let Some(key) = screen.keys.recv().await {
            if matches!(key, b'q' | b'Q') {
                return;
            }
        }
    }
    std::future::pending().await
}

/// A thread, because reading a terminal blocks. It ends with the program.
fn read_keys() -> mpsc::UnboundedReceiver<u8> {
    let (sender, keys) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let bytes = io::stdin().lock().bytes().map_while(Result::ok);
        for key in bytes {
            if sender.send(key).is_err() {
                return;
            }
        }
    });
    keys
}
