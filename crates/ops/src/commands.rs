//! Commands to paste.

/// How the launcher of the npm package names this program.
const NPX: &str = "npx belfry";

/// This program, as it was started.
#[must_use]
pub fn program() -> String {
    named(&std::env::args().next().unwrap_or_default())
}

/// What starts a local stack: in a checkout the Makefile does, elsewhere this
/// program.
#[must_use]
pub fn start() -> String {
    starting(&std::env::args().next().unwrap_or_default())
}

/// A text as one word of a shell.
#[must_use]
pub fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@,+%".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn named(program: &str) -> String {
    match program {
        "" => "belfry".into(),
        NPX => NPX.into(),
        program => quoted(program),
    }
}

fn starting(program: &str) -> String {
    let is_built_here = program.contains("target/debug/") || program.contains("target/release/");
    if is_built_here {
        return "make run".into();
    }
    format!("{} run", named(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_stack_starts_as_this_program_did() {
        let commands = [
            ("target/debug/belfry", "make run"),
            ("/home/alice/belfry/target/release/belfry", "make run"),
            ("./belfry", "./belfry run"),
            ("npx belfry", "npx belfry run"),
            ("/opt/my tools/belfry", "'/opt/my tools/belfry' run"),
            ("", "belfry run"),
        ];
        for (program, command) in commands {
            assert_eq!(starting(program), command);
        }
    }

    #[test]
    fn a_word_is_quoted_if_a_shell_would_change_it() {
        for (text, expected) in [
            ("alice", "alice"),
            ("a=b:c/d@e", "a=b:c/d@e"),
            ("", "''"),
            ("a b", "'a b'"),
            ("a;rm", "'a;rm'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
