//! What concerns one channel: `presence`, `locks`, `unlock` and `purge`.

use belfry_protocol::{
    BroadcastStatus, ChannelLocks, ChannelName, PresentInChannel, PurgeReport, ReleaseReport,
};
use serde_json::{Value, json};

use super::Outcome;
use super::connections::dry_run;
use crate::arguments::{PurgeArgs, UnlockArgs};
use crate::error::OpsError;
use crate::output::{Output, counted, grouped, now, table, within};
use crate::stack::{Stack, read};

pub(super) async fn presence(
    stack: &Stack,
    output: &mut Output,
    channel: &ChannelName,
) -> Result<Outcome, OpsError> {
    let request = json!({"action": "presence", "channel": channel});
    let report = stack.ask(&request).await?;
    output.result(&report, || Ok(present(&read(&report)?)))?;
    Ok(Outcome::Complete)
}

fn present(report: &PresentInChannel) -> String {
    let members = &report.present.members;
    let rows = members.iter().map(|member| {
        [
            member.user_id.to_string(),
            grouped(member.connections),
            member.info.to_json(),
        ]
    });
    let mut text = table(["USER", "CONNECTIONS", "INFO"], rows.collect());
    let count = counted(report.present.count, "user");
    if report.present.more {
        let shown = grouped(members.len() as u64);
        text.push_str(&format!("{count}, of whom {shown} are shown\n"));
    } else {
        text.push_str(&format!("{count}\n"));
    }
    text
}

pub(super) async fn locks(
    stack: &Stack,
    output: &mut Output,
    channel: &ChannelName,
) -> Result<Outcome, OpsError> {
    let report = stack.ask(&locks_of(channel)).await?;
    output.result(&report, || Ok(held(&read(&report)?, now())))?;
    Ok(Outcome::Complete)
}

fn locks_of(channel: &ChannelName) -> Value {
    json!({"action": "locks", "channel": channel})
}

fn held(report: &ChannelLocks, now: jiff::Timestamp) -> String {
    let rows = report.locks.held.iter().map(|lock| {
        [
            lock.name.to_string(),
            lock.holder.user_id.to_string(),
            within(now, lock.until),
            lock.fencing.to_string(),
        ]
    });
    let mut text = table(["LOCK", "HOLDER", "ENDS", "FENCING"], rows.collect());
    if text.is_empty() {
        text.push_str("no locks are held\n");
    }
    if report.locks.more {
        text.push_str("There may be more.\n");
    }
    text
}

pub(super) async fn unlock(
    stack: &Stack,
    output: &mut Output,
    arguments: &UnlockArgs,
) -> Result<Outcome, OpsError> {
    let UnlockArgs {
        channel,
        name,
        dry_run,
    } = arguments;
    if *dry_run {
        let report = stack.ask(&locks_of(channel)).await?;
        let mut locks: ChannelLocks = read(&report)?;
        locks.locks.held.retain(|lock| lock.name == *name);
        let report = json!({"dryRun": true, "channel": channel, "held": locks.locks.held});
        output.result(&report, || Ok(held(&locks, now())))?;
        output.say("Nothing was done.");
        return Ok(Outcome::Complete);
    }
    let request = json!({"action": "unlock", "channel": channel, "name": name});
    let report = stack.ask(&request).await?;
    output.result(&report, || {
        let released: ReleaseReport = read(&report)?;
        let text = if released.released {
            "released\n"
        } else {
            "the lock was not held\n"
        };
        Ok(text.to_owned())
    })?;
    Ok(Outcome::Complete)
}

pub(super) async fn purge(
    stack: &Stack,
    output: &mut Output,
    arguments: &PurgeArgs,
) -> Result<Outcome, OpsError> {
    let channel = &arguments.channel;
    if arguments.dry_run {
        let target = json!({"type": "channel", "channel": channel});
        return dry_run(stack, output, &target, "delete the history and tell").await;
    }
    let request = json!({"action": "purge", "channel": channel});
    let report = stack.ask(&request).await?;
    let purged: PurgeReport = read(&report)?;
    output.result(&report, || Ok(deleted(&purged)))?;
    if !purged.complete {
        let again = stack.command(&format!("purge {channel}"));
        output.say(&format!(
            "No client can read the old history. Some of it is left to delete; to go on:\n  {again}"
        ));
    }
    Ok(Outcome::of(purged.complete))
}

fn deleted(report: &PurgeReport) -> String {
    let messages = counted(report.deleted, "message");
    let Some(position) = &report.position else {
        return format!("there was no history; deleted {messages}\n");
    };
    let told = match &report.told {
        Some(told) if told.status == BroadcastStatus::Running => {
            "workers are telling its subscribers".to_owned()
        }
        Some(told) => format!("{} told", counted(told.success, "subscriber")),
        None => "its subscribers could not be told".to_owned(),
    };
    format!(
        "deleted {messages}; the history goes on after {}:{}; {told}\n",
        position.epoch, position.seq,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_their_number_are_shown() {
        let report = json!({"channel": "room:7", "members": [{"userId": "alice", "connections": 2, "info": {"name": "Alice"}}, {"userId": "bob", "connections": 0, "info": {}}], "count": 2});
        insta::assert_snapshot!(present(&read(&report).unwrap()), @r#"
        USER   CONNECTIONS  INFO
        alice  2            {"name":"Alice"}
        bob    0            {}
        2 users
        "#);
        let crowd = json!({"channel": "room:7", "members": [], "count": 12_345, "more": true});
        insta::assert_snapshot!(present(&read(&crowd).unwrap()), @"12,345 users, of whom 0 are shown");
    }

    #[test]
    fn locks_are_rows() {
        let now = "2026-11-26T12:00:00Z".parse().unwrap();
        let report = json!({"channel": "room:7", "held": [{"name": "price", "holder": {"userId": "alice"}, "until": "2026-11-26T12:00:30Z", "fencing": 7}], "more": true});
        insta::assert_snapshot!(held(&read(&report).unwrap(), now), @"
        LOCK   HOLDER  ENDS    FENCING
        price  alice   in 30s  7
        There may be more.
        ");
        let free = json!({"channel": "room:7", "held": []});
        insta::assert_snapshot!(held(&read(&free).unwrap(), now), @"no locks are held");
    }

    #[test]
    fn a_purge_says_where_the_new_history_begins() {
        let mut told = json!({"status": "done", "success": 3, "failure": 0, "failures": {"gone": 0, "throttled": 0, "tooLarge": 0, "failed": 0, "notAttempted": 0}});
        let report = json!({"position": {"epoch": "e2", "seq": 0}, "deleted": 1, "told": &told});
        insta::assert_snapshot!(deleted(&read(&report).unwrap()), @"deleted 1 message; the history goes on after e2:0; 3 subscribers told");
        told["status"] = "running".into();
        let report = json!({"position": {"epoch": "e2", "seq": 0}, "deleted": 1, "told": &told});
        insta::assert_snapshot!(deleted(&read(&report).unwrap()), @"deleted 1 message; the history goes on after e2:0; workers are telling its subscribers");
        insta::assert_snapshot!(deleted(&read(&json!({"deleted": 0})).unwrap()), @"there was no history; deleted 0 messages");
    }
}
