//! What a function's environments run.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::process::Command;

/// Runs a Node module's `handler`, as Lambda's runtime for Node does.
const NODE_RUNTIME: &str = include_str!("code/node.mjs");

const NODE_EXTENSIONS: [&str; 3] = ["cjs", "js", "mjs"];

#[derive(Debug, Clone)]
pub(crate) enum Code {
    /// A binary of the template, in the folder of the functions' binaries.
    Binary(String),
    /// A Node module that exports `handler`.
    Node(PathBuf),
    /// A program that speaks the Runtime API.
    Program(PathBuf),
}

/// Why a file cannot be a function.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodeError {
    #[error("cannot read {path}: {cause}")]
    File { path: String, cause: io::Error },
    #[error("{0} is not a file")]
    NoFile(String),
    #[error("cannot run node: {0}\nInstall Node 20 or later, and check that it is in PATH.")]
    NoNode(io::Error),
    #[error(
        "{0} is not executable\nName a Node module (.mjs, .cjs, .js) that exports `handler`, or a program that speaks the Lambda Runtime API: `chmod +x` it."
    )]
    NotExecutable(String),
}

impl Code {
    /// A function of the application's own, from its file. Finds now what the
    /// first event would find.
    pub(crate) fn of_file(file: &Path) -> Result<Self, CodeError> {
        let path = || file.display().to_string();
        let failed = |cause| CodeError::File {
            path: path(),
            cause,
        };
        let absolute = file.canonicalize().map_err(failed)?;
        let metadata = absolute.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(CodeError::NoFile(path()));
        }
        let extension = file.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| NODE_EXTENSIONS.contains(&extension)) {
            let node = std::process::Command::new("node").arg("--version").output();
            node.map_err(CodeError::NoNode)?;
            return Ok(Self::Node(absolute));
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(CodeError::NotExecutable(path()));
        }
        Ok(Self::Program(absolute))
    }

    /// The path of the file, for people.
    pub(crate) fn path(&self, binaries: &Path) -> PathBuf {
        match self {
            Self::Binary(name) => binaries.join(name),
            Self::Node(file) | Self::Program(file) => file.clone(),
        }
    }

    /// What to do if it does not start.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Binary(_) => "build it with `cargo build --workspace --bins`",
            Self::Node(_) => "is Node 20 or later in PATH?",
            Self::Program(_) => "is it executable?",
        }
    }

    /// The command, with the variables that tell a function about its code.
    pub(crate) fn command(&self, binaries: &Path) -> Command {
        let path = self.path(binaries);
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let (mut command, handler) = match self {
            Self::Binary(_) => (Command::new(&path), "bootstrap".to_owned()),
            Self::Program(_) => {
                let mut command = Command::new(&path);
                command.current_dir(&folder);
                (command, "bootstrap".to_owned())
            }
            Self::Node(_) => {
                let mut command = Command::new("node");
                command
                    .args(["--input-type=module", "--eval", NODE_RUNTIME, "--"])
                    .arg(&path)
                    .current_dir(&folder);
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                (command, format!("{stem}.handler"))
            }
        };
        command
            .env_clear()
            .env("LAMBDA_TASK_ROOT", folder)
            .env("_HANDLER", handler);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_run_is_refused() {
        let missing = Code::of_file(Path::new("nowhere.mjs")).unwrap_err();
        assert!(missing.to_string().contains("nowhere.mjs"), "{missing}");
        let folder = Code::of_file(Path::new("src")).unwrap_err();
        assert_eq!(folder.to_string(), "src is not a file");
        let text = Code::of_file(Path::new("Cargo.toml")).unwrap_err();
        assert!(text.to_string().contains("chmod +x"), "{text}");
        let program = Code::of_file(Path::new("/bin/sh")).unwrap();
        assert!(matches!(program, Code::Program(_)));
    }
}
