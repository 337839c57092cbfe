//! `list` and `inspect`, and what a dry run would reach.

use belfry_protocol::{ConnectionDetails, ConnectionId, ConnectionList, ListedConnection};
use serde_json::{Value, json};

use super::Outcome;
use crate::arguments::ListArgs;
use crate::error::OpsError;
use crate::output::{Output, between, counted, grouped, now, table, until, within};
use crate::stack::{Stack, read};

/// The largest page that the function returns.
const MAX_PAGE: u64 = 500;

pub(super) async fn list(
    stack: &Stack,
    output: &mut Output,
    arguments: &ListArgs,
) -> Result<Outcome, OpsError> {
    let mut request = json!({"action": "list", "target": arguments.target.to_json()});
    let filters = [
        ("origin", arguments.origin.as_ref().map(|it| json!(it))),
        ("minAgeSeconds", arguments.min_age.map(|it| json!(it))),
        (
            "minSilenceSeconds",
            arguments.min_silence.map(|it| json!(it)),
        ),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            request[name] = value;
        }
    }
    let found = pages(stack, output, request, arguments.limit.unwrap_or(u64::MAX)).await?;
    let report = json!({"connections": found});
    output.result(&report, || shown(&report))?;
    Ok(Outcome::Complete)
}

/// Shows the connections that an action would reach.
pub(super) async fn dry_run(
    stack: &Stack,
    output: &mut Output,
    target: &Value,
    would: &str,
) -> Result<Outcome, OpsError> {
    let request = json!({"action": "list", "target": target});
    let found = pages(stack, output, request, u64::MAX).await?;
    let count = found.len() as u64;
    let report = json!({"dryRun": true, "connections": found});
    output.result(&report, || shown(&report))?;
    output.say(&format!(
        "Would {would} {}. Nothing was done.",
        counted(count, "connection")
    ));
    Ok(Outcome::Complete)
}

/// Shows the connections that a drain of a share would ask, and of how many.
pub(super) async fn dry_run_of_share(
    stack: &Stack,
    output: &mut Output,
    target: &Value,
    percent: u64,
) -> Result<Outcome, OpsError> {
    let request = json!({"action": "list", "target": target});
    let of = pages(stack, output, request, u64::MAX).await?.len() as u64;
    let request = json!({"action": "list", "target": target, "percent": percent});
    let found = pages(stack, output, request, u64::MAX).await?;
    let count = grouped(found.len() as u64);
    let report = json!({"dryRun": true, "of": of, "connections": found});
    output.result(&report, || shown(&report))?;
    output.say(&format!(
        "Would ask {count} of {}. Nothing was done.",
        counted(of, "connection")
    ));
    Ok(Outcome::Complete)
}

/// The connections of all pages, at most so many.
async fn pages(
    stack: &Stack,
    output: &mut Output,
    mut request: Value,
    most: u64,
) -> Result<Vec<Value>, OpsError> {
    let mut found = Vec::new();
    loop {
        let missing = most - found.len() as u64;
        request["limit"] = missing.min(MAX_PAGE).into();
        let mut page = stack.ask(&request).await?;
        // As it is, in case the stack is newer and says more.
        if let Some(connections) = page["connections"].as_array_mut() {
            found.append(connections);
        }
        let cursor = page["cursor"].take();
        if cursor.is_null() || found.len() as u64 >= most {
            return Ok(found);
        }
        request["cursor"] = cursor;
        output.progress(&format!(
            "{} so far",
            counted(found.len() as u64, "connection")
        ));
    }
}

fn shown(report: &Value) -> Result<String, OpsError> {
    let list: ConnectionList = read(report)?;
    Ok(rows(&list.connections, now()))
}

fn rows(connections: &[ListedConnection], now: jiff::Timestamp) -> String {
    if connections.is_empty() {
        return "no connections\n".into();
    }
    let rows = connections.iter().map(|one| {
        [
            one.connection_id.to_string(),
            one.user_id.to_string(),
            between(now, one.connected_at),
            between(now, one.last_seen_at),
            until(now, one.token_expires_at),
            one.source_ip.clone(),
            one.origin.clone().unwrap_or_default(),
        ]
    });
    let header = [
        "CONNECTION",
        "USER",
        "AGE",
        "SILENT",
        "EXPIRES IN",
        "ADDRESS",
        "ORIGIN",
    ];
    table(header, rows.collect())
}

pub(super) async fn inspect(
    stack: &Stack,
    output: &mut Output,
    connection: &ConnectionId,
) -> Result<Outcome, OpsError> {
    let request = json!({"action": "inspect", "connectionId": connection});
    let report = stack.ask(&request).await?;
    let details: ConnectionDetails = read(&report)?;
    output.result(&report, || Ok(described(&details, now())))?;
    Ok(Outcome::of(
        details.connection.is_some() || details.socket.is_some(),
    ))
}

fn described(details: &ConnectionDetails, now: jiff::Timestamp) -> String {
    let ago = |moment| format!("{moment} ({} ago)", between(now, moment));
    let mut text = String::new();
    match &details.connection {
        None => text.push_str("Belfry knows no such connection.\n"),
        Some(one) => {
            let rows = [
                ("user", one.user_id.to_string()),
                ("connected", ago(one.connected_at)),
                ("last frame", ago(one.last_seen_at)),
                (
                    "session ends",
                    format!(
                        "{} ({})",
                        one.token_expires_at,
                        within(now, one.token_expires_at)
                    ),
                ),
                ("address", one.source_ip.clone()),
                ("origin", one.origin.clone().unwrap_or_default()),
                ("user agent", one.user_agent.clone().unwrap_or_default()),
            ];
            let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
            let rows = rows.map(|(name, value)| [name.to_owned(), value]).collect();
            text.push_str(&table([&one.connection_id.to_string(), ""], rows));
        }
    }
    match (&details.socket, &details.socket_unknown) {
        (None, Some(cause)) => text.push_str(&format!(
            "API Gateway does not answer ({cause}): the socket's state is unknown.\n"
        )),
        (None, None) => {
            text.push_str("API Gateway knows no such connection, or its handshake is pending.\n")
        }
        (Some(socket), _) => {
            let rows = vec![
                ["connected".into(), ago(socket.connected_at)],
                ["last message".into(), ago(socket.last_active_at)],
            ];
            text.push_str(&format!("\n{}", table(["API GATEWAY", ""], rows)));
        }
    }
    let channels = details.channels.iter().map(|one| {
        let actions = one.actions.iter().map(|action| {
            let json = serde_json::to_value(action).unwrap_or_default();
            json.as_str().unwrap_or_default().to_owned()
        });
        let actions: Vec<_> = actions.collect();
        [
            one.channel.to_string(),
            actions.join(" "),
            if one.present { "yes" } else { "" }.to_owned(),
            within(now, one.ends_at),
        ]
    });
    let channels = table(["CHANNEL", "MAY", "PRESENT", "ENDS"], channels.collect());
    let locks = details
        .locks
        .iter()
        .map(|lock| [lock.channel.to_string(), lock.name.to_string()]);
    let locks = table(["CHANNEL", "LOCK"], locks.collect());
    for part in [channels, locks].iter().filter(|part| !part.is_empty()) {
        text.push_str(&format!("\n{part}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> jiff::Timestamp {
        "2026-11-26T12:00:00Z".parse().unwrap()
    }

    fn connection() -> Value {
        json!({
            "connectionId": "Zx1=", "userId": "alice", "connectedAt": "2026-11-26T11:00:00Z",
            "lastSeenAt": "2026-11-26T11:59:20Z", "tokenExpiresAt": "2026-11-26T12:30:00Z",
            "origin": "https://app.example", "sourceIp": "203.0.113.7", "userAgent": "Mozilla/5.0",
        })
    }

    #[test]
    fn connections_are_rows() {
        let mut terse = connection();
        terse["connectionId"] = "a-longer-id=".into();
        terse["origin"] = Value::Null;
        let list: ConnectionList = read(&json!({"connections": [connection(), terse]})).unwrap();
        insta::assert_snapshot!(rows(&list.connections, now()), @"
        CONNECTION    USER   AGE    SILENT  EXPIRES IN  ADDRESS      ORIGIN
        Zx1=          alice  1h00m  40s     30m00s      203.0.113.7  https://app.example
        a-longer-id=  alice  1h00m  40s     30m00s      203.0.113.7
        ");
        assert_eq!(rows(&[], now()), "no connections\n");
    }

    #[test]
    fn a_connection_is_described() {
        let details = read(&json!({
            "connection": connection(),
            "socket": {"connectedAt": "2026-11-26T11:00:00Z", "lastActiveAt": "2026-11-26T11:59:50Z"},
            "channels": [{"channel": "room:7", "actions": ["subscribe", "publish"], "present": true, "endsAt": "2026-11-26T12:30:00Z"}],
            "locks": [{"channel": "room:7", "name": "price"}],
        }));
        insta::assert_snapshot!(described(&details.unwrap(), now()), @"
        Zx1=
        user          alice
        connected     2026-11-26T11:00:00.000Z (1h00m ago)
        last frame    2026-11-26T11:59:20.000Z (40s ago)
        session ends  2026-11-26T12:30:00.000Z (in 30m00s)
        address       203.0.113.7
        origin        https://app.example
        user agent    Mozilla/5.0

        API GATEWAY
        connected     2026-11-26T11:00:00.000Z (1h00m ago)
        last message  2026-11-26T11:59:50.000Z (10s ago)

        CHANNEL  MAY                PRESENT  ENDS
        room:7   subscribe publish  yes      in 30m00s

        CHANNEL  LOCK
        room:7   price
        ");
    }

    #[test]
    fn a_socket_whose_state_is_unknown_is_not_said_to_be_closed() {
        let details = read(&json!({"socketUnknown": "throttled", "channels": [], "locks": []}));
        insta::assert_snapshot!(described(&details.unwrap(), now()), @"
        Belfry knows no such connection.
        API Gateway does not answer (throttled): the socket's state is unknown.
        ");
    }

    #[test]
    fn an_unknown_connection_is_said_to_be_unknown() {
        let details = read(&json!({"channels": [], "locks": []})).unwrap();
        insta::assert_snapshot!(described(&details, now()), @"
        Belfry knows no such connection.
        API Gateway knows no such connection, or its handshake is pending.
        ");
    }
}
