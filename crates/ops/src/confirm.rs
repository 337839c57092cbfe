//! The question before something happens to every connection.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::error::OpsError;

/// Returns if the person says yes.
pub(crate) fn confirm(what: &str) -> Result<(), OpsError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(OpsError::NotConfirmed(
            "--all needs --yes where nobody can be asked; --dry-run shows whom it would reach",
        ));
    }
    let mut err = io::stderr();
    write!(err, "{what} Type yes to go on: ")?;
    err.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(OpsError::NotConfirmed("nothing was done"))
    }
}
