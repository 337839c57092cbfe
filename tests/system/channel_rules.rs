//! `belfry run` reads the rules of channels, checks them, and hands them to the
//! functions.

use std::path::{Path, PathBuf};
use std::process::Output;

use belfry_tests::{Stack, StackBuilder, binaries, ended, repository};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

const INVALID: &str =
    r#"{"version":"1.0","channels":[{"match":"a","allow":"ask","autoSubscribe":true}]}"#;

/// Rules with one match, as a person writes them.
fn written(pattern: &str) -> String {
    format!(
        r#"{{
            "$schema": "./schemas/channels.json",
            "version": "1.0",
            "channels": [{{ "match": "{pattern}", "allow": ["subscribe"] }}]
        }}"#
    )
}

/// The same rules, minified.
fn minified(pattern: &str) -> String {
    format!(r#"{{"version":"1.0","channels":[{{"match":"{pattern}","allow":["subscribe"]}}]}}"#)
}

/// A folder with a template that has the parameter `ChannelRules`. Its function
/// tells what it got.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let template = repository().join("tests/templates/misbehave.yaml");
        let text = std::fs::read_to_string(template).unwrap();
        let parameter = "Parameters:\n  ChannelRules:\n    Type: String\n    Default: none\n";
        let variable = "Variables:\n          CHANNEL_RULES: !Ref ChannelRules\n";
        assert!(text.contains("\nParameters:\n") && text.contains(" Variables:\n"));
        let text =
            text.replacen("Parameters:\n", parameter, 1)
                .replacen("Variables:\n", variable, 1);
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("template.yaml", &text);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn stack(&self) -> StackBuilder {
        StackBuilder::default().template(&self.path("template.yaml"))
    }
}

fn channels(builder: StackBuilder, file: &Path) -> StackBuilder {
    builder
        .argument("--channels")
        .argument(file.to_str().unwrap())
}

/// The rules that the function gets.
async fn passed(builder: StackBuilder) -> String {
    let stack = builder.start().await;
    let order = json!({"body": "variable CHANNEL_RULES"});
    let answer = stack.invoke("Misbehave", &order).await.unwrap();
    answer["body"].as_str().unwrap().to_owned()
}

/// What a stack says that does not start.
async fn refused(builder: StackBuilder) -> String {
    failed(ended(&mut builder.command()).await)
}

fn failed(output: Output) -> String {
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

#[tokio::test]
async fn a_parameter_wins_over_a_named_file_and_that_over_the_file_beside_the_template() {
    let folder = Folder::new();
    assert_eq!(passed(folder.stack()).await, "none");

    folder.write("channels.json", &written("beside"));
    assert_eq!(passed(folder.stack()).await, minified("beside"));

    let named = folder.write("named.json", &written("named"));
    let builder = channels(folder.stack(), &named);
    assert_eq!(passed(builder).await, minified("named"));

    let given = minified("given");
    let builder = channels(folder.stack(), &named).parameter("ChannelRules", &given);
    assert_eq!(passed(builder).await, given);
}

#[tokio::test]
async fn wrong_rules_start_nothing_and_are_explained_as_by_the_check() {
    let folder = Folder::new();
    let file = folder.write("named.json", INVALID);
    let said = refused(channels(folder.stack(), &file)).await;
    let expected = "channels[0] (a), autoSubscribe: needs \"subscribe\" in allow";
    assert!(said.contains(expected), "{said}");

    let mut check = Command::new(binaries().join("belfry"));
    let checked = ended(check.args(["channels", "check"]).arg(&file)).await;
    assert_eq!(said, failed(checked));

    let said = refused(folder.stack().parameter("ChannelRules", INVALID)).await;
    let expected = format!("Parameters.ChannelRules: {expected}");
    assert!(said.contains(&expected), "{said}");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_says_what_to_do() {
    let folder = Folder::new();
    let said = refused(channels(folder.stack(), &folder.path("none.json"))).await;
    assert!(
        said.contains("none.json: ") && said.contains("Name another file"),
        "{said}"
    );

    let file = folder.write("named.json", &written("named"));
    let said = refused(channels(Stack::misbehaving(), &file)).await;
    assert!(
        said.contains("misbehave.yaml has no parameter ChannelRules"),
        "{said}"
    );
}
