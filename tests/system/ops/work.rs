//! `kick`, `drain`, `report` and `resume`: work that goes on, and its exit codes.

use std::sync::atomic::{AtomicUsize, Ordering};

use belfry_tests::{Logs, soon};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::process::Child;

use super::fake::Fake;
use super::{ops, ops_at};

fn report(id: &Value, status: &str, success: u64, throttled: u64) -> Value {
    json!({
        "messageId": id, "status": status, "success": success, "failure": throttled,
        "failures": {"gone": 0, "throttled": throttled, "tooLarge": 0, "failed": 0, "notAttempted": 0},
        "complete": status == "done",
    })
}

/// A function whose work takes three looks.
async fn slow(throttled: u64) -> Fake {
    let looks = AtomicUsize::new(0);
    Fake::start(move |request| {
        let id = &request["messageId"];
        Ok(match looks.fetch_add(1, Ordering::Relaxed) {
            0 => report(id, "running", 0, 0),
            1 => report(id, "running", 7, throttled),
            _ => report(id, "done", 12, throttled),
        })
    })
    .await
}

#[tokio::test]
async fn a_kick_is_watched_until_it_is_done() {
    let fake = slow(0).await;
    let kick = [
        "kick",
        "--user",
        "bob",
        "--user",
        "carol",
        "--code",
        "token-expired",
    ];
    let ended = ops_at(&fake.url, &kick).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.out.ends_with("done: 12 connections reached\n"),
        "{ended:?}"
    );
    assert!(ended.err.contains("7 reached, 0 not"), "{ended:?}");
    let asked = fake.asked();
    let id = &asked[0].request["messageId"];
    let expected = json!({
        "action": "kick", "messageId": id, "code": "TOKEN_EXPIRED",
        "target": {"type": "users", "userIds": ["bob", "carol"]},
    });
    assert_eq!(asked[0].request, expected);
    assert_eq!(fake.actions(), ["kick", "report", "report"]);
    assert!(asked.iter().all(|one| one.request["messageId"] == *id));
    assert!(asked.iter().all(|one| one.function == "Operator"));
    let by = asked[0].by.as_str().unwrap();
    assert!(by.starts_with("alice@"), "{by}");
}

#[tokio::test]
async fn a_dry_run_of_a_share_says_how_many_of_how_many() {
    let fake = Fake::start(|request| {
        assert_eq!(request["action"], "list");
        let one = |id: &str| {
            json!({
                "connectionId": id, "userId": "alice", "connectedAt": "2026-11-26T11:00:00Z",
                "lastSeenAt": "2026-11-26T11:00:00Z", "tokenExpiresAt": "2026-11-26T12:00:00Z",
                "sourceIp": "192.0.2.1",
            })
        };
        let mut all = vec![one("c1"), one("c2"), one("c3")];
        if request["percent"] == 40 {
            all.truncate(1);
        }
        Ok(json!({"connections": all}))
    })
    .await;
    let drain = ["drain", "--all", "--percent", "40", "--dry-run"];
    let ended = ops_at(&fake.url, &drain).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = "Would ask 1 of 3 connections. Nothing was done.\n";
    assert!(ended.err.ends_with(said), "{ended:?}");
    assert!(ended.out.contains("c1") && !ended.out.contains("c2"));
}

#[tokio::test]
async fn programs_get_the_last_report() {
    let fake = slow(0).await;
    let drain = [
        "drain",
        "--channel",
        "room:7",
        "--within",
        "60",
        "--percent",
        "50",
        "--json",
    ];
    let ended = ops_at(&fake.url, &drain).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let printed: Value = serde_json::from_str(&ended.out).unwrap();
    let request = &fake.asked()[0].request;
    assert_eq!(printed, report(&request["messageId"], "done", 12, 0));
    assert_eq!(
        (&request["withinSeconds"], &request["percent"]),
        (&json!(60), &json!(50))
    );
}

#[tokio::test]
async fn a_connection_that_was_not_reached_is_a_failure() {
    let fake = slow(3).await;
    let ended = ops_at(&fake.url, &["kick", "--connection", "c1"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.out.ends_with("12 connections reached, 3 throttled\n"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn work_that_has_stopped_can_be_resumed() {
    let fake = Fake::start(|request| {
        let status = if request["action"] == "resume" {
            "done"
        } else {
            "stopped"
        };
        Ok(report(&request["messageId"], status, 1, 0))
    })
    .await;
    let ended = ops_at(&fake.url, &["report", "m-1"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let command = format!("ops resume m-1 --endpoint {}", fake.url);
    assert!(ended.err.contains(&command), "{ended:?}");
    let ended = ops_at(&fake.url, &["resume", "m-1"]).await;
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{ended:?}");
}

/// Presses Ctrl-C, which ends the command.
async fn interrupt(process: &mut Child) {
    let pid = i32::try_from(process.id().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    let status = soon("the command ends", process.wait()).await.unwrap();
    assert_eq!(status.code(), Some(130));
}

#[tokio::test]
async fn ctrl_c_leaves_the_work_running() {
    // Nobody reads the second report, so no look is needed to be slow.
    let fake = Fake::start(|request| Ok(report(&request["messageId"], "running", 1, 0))).await;
    let kick = ["kick", "--channel", "room:7", "--endpoint", &fake.url];
    let mut process = ops(&kick).spawn().unwrap();
    let said = Logs::of(process.stderr.take().unwrap());
    said.wait_for(&["1 reached"]).await;
    interrupt(&mut process).await;
    let id = fake.asked()[0].request["messageId"]
        .as_str()
        .unwrap()
        .to_owned();
    said.wait_for(&[&format!("ops report {id} --endpoint {}", fake.url)])
        .await;
}

#[tokio::test]
async fn ctrl_c_before_the_first_answer_promises_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let kick = ["kick", "--channel", "room:7", "--endpoint", &url];
    let mut process = ops(&kick).spawn().unwrap();
    let said = Logs::of(process.stderr.take().unwrap());
    let (mut request, _) = soon("it asks", listener.accept()).await.unwrap();
    soon("it asks", request.read_u8()).await.unwrap();
    interrupt(&mut process).await;
    said.wait_for(&["before the stack answered"]).await;
    said.wait_for(&["ops report", &url]).await;
}

#[tokio::test]
async fn everybody_is_reached_only_after_a_confirmation() {
    let fake = slow(0).await;
    let ended = ops_at(&fake.url, &["kick", "--all"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("--yes"), "{ended:?}");
    assert!(fake.asked().is_empty());
    let ended = ops_at(&fake.url, &["kick", "--all", "--yes"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(fake.asked()[0].request["target"], json!({"type": "all"}));
}

#[tokio::test]
async fn a_dry_run_does_nothing() {
    let connection = json!({
        "connectionId": "c1", "userId": "alice", "connectedAt": "2026-11-26T11:00:00Z",
        "lastSeenAt": "2026-11-26T11:59:20Z", "tokenExpiresAt": "2026-11-26T12:30:00Z",
        "sourceIp": "203.0.113.7",
    });
    let list = json!({"connections": [connection]});
    let locks = json!({"channel": "room:7", "held": [{"name": "price", "holder": {"userId": "alice"}, "until": "2026-11-26T12:00:30Z", "fencing": 7}]});
    let fake = Fake::start(move |request| match request["action"].as_str() {
        Some("list") => Ok(list.clone()),
        Some("locks") => Ok(locks.clone()),
        _ => Err(json!({"errorType": "InvalidRequest", "errorMessage": "not a dry run"})),
    })
    .await;
    for command in [
        &["kick", "--all", "--dry-run"][..],
        &["drain", "--user", "alice", "--percent", "10", "--dry-run"],
        &["purge", "room:7", "--dry-run"],
        &["unlock", "room:7", "price", "--dry-run"],
        &["sign-out", "alice", "--dry-run"],
    ] {
        let ended = ops_at(&fake.url, command).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.out.contains("alice"), "{ended:?}");
        assert!(ended.err.contains("Nothing was done."), "{ended:?}");
    }
}
