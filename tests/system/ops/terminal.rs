//! `belfry ops` on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use belfry_tests::soon;
use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use serde_json::json;
use tokio::process::Child;
use tokio::sync::watch;

use super::fake::Fake;
use super::ops;

/// A command on a terminal.
struct OnTerminal {
    process: Child,
    /// The person's side.
    keyboard: File,
    shown: watch::Receiver<String>,
    terminal: OwnedFd,
}

impl OnTerminal {
    fn start(arguments: &[&str]) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let process = ops(arguments)
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap())
            .spawn()
            .unwrap();
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().unwrap();
        let (sender, shown) = watch::channel(String::new());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                sender.send_modify(|shown| shown.push_str(&text));
            }
        });
        Self {
            process,
            keyboard,
            shown,
            terminal: slave,
        }
    }

    async fn wait_for(&mut self, text: &str) {
        let event = format!("{text:?} is shown");
        let shown = self.shown.wait_for(|shown| shown.contains(text));
        soon(&event, shown).await.unwrap();
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    async fn ended(&mut self) -> Option<i32> {
        let status = soon("the command ends", self.process.wait()).await;
        status.unwrap().code()
    }
}

#[tokio::test]
async fn a_key_leaves_the_screen_and_the_terminal_as_it_was() {
    let fake = Fake::start(|_| {
        Ok(json!({"connections": 3, "channels": {"subscriptions": 0, "largest": []}}))
    })
    .await;
    let mut watch = OnTerminal::start(&["watch", "--endpoint", &fake.url]);
    watch.wait_for("q quits").await;
    let while_shown = tcgetattr(&watch.terminal).unwrap().local_flags;
    assert!(!while_shown.contains(LocalFlags::ICANON | LocalFlags::ECHO));
    watch.press("xq");
    assert_eq!(watch.ended().await, Some(0));
    watch.wait_for("\u{1b}[?1049l").await;
    let afterwards = tcgetattr(&watch.terminal).unwrap().local_flags;
    assert!(afterwards.contains(LocalFlags::ICANON | LocalFlags::ECHO));
}

#[tokio::test]
async fn a_person_is_asked_before_everybody_is_reached() {
    let fake = Fake::start(|request| {
        Ok(json!({
            "messageId": request["messageId"], "status": "done", "success": 1, "failure": 0,
            "failures": {"gone": 0, "throttled": 0, "tooLarge": 0, "failed": 0, "notAttempted": 0},
        }))
    })
    .await;
    for (answer, code, asked) in [("no\n", 2, 0), ("yes\n", 0, 1)] {
        let kick = ["kick", "--all", "--endpoint", &fake.url];
        let mut kick = OnTerminal::start(&kick);
        kick.wait_for("Type yes to go on:").await;
        kick.press(answer);
        assert_eq!(kick.ended().await, Some(code));
        assert_eq!(fake.asked().len(), asked);
    }
}
