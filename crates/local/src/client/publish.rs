//! `belfry publish`.

use serde::Serialize;
use serde_json::value::RawValue;

use super::access::Access;
use super::socket::{ClientSocket, Lost};
use super::terminal::Terminal;
use super::{ClientError, advice, frame_data};
use crate::cli::PublishArgs;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Publish<'a> {
    channel: &'a str,
    kind: &'a str,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<bool>,
}

/// Publishes a message and prints the frame that confirms it.
pub(crate) fn publish(arguments: &PublishArgs) -> Result<(), ClientError> {
    let access = Access::of(&arguments.connect)?;
    let data = frame_data(&arguments.file)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(send(arguments, &access, &data))
}

async fn send(
    arguments: &PublishArgs,
    access: &Access,
    data: &RawValue,
) -> Result<(), ClientError> {
    let PublishArgs {
        channel,
        kind,
        message_id,
        no_store,
        connect,
        ..
    } = arguments;
    let frame = Publish {
        channel,
        kind,
        data,
        message_id: message_id.as_deref(),
        store: no_store.then_some(false),
    };
    let mut socket = ClientSocket::open(access).await?;
    let replied = async {
        let id = socket.send("publish", Some(frame)).await?;
        socket.reply(&id).await
    };
    let reply = replied
        .await
        .map_err(|Lost(reason)| uncertain(&reason, message_id.is_some()))?;
    socket.close().await;
    if reply.kind() == "published" {
        Terminal::of_process().print(&reply.text)?;
        return Ok(());
    }
    Err(match reply.error() {
        Some(error) if ["API Gateway", "INTERNAL"].contains(&&*error.code) => {
            let reason = format!("{}: {}", error.code, error.message);
            uncertain(&reason, message_id.is_some())
        }
        Some(error) => ClientError::Ended(advice::refusal(channel, &error, connect)),
        None => uncertain("the stack gave an unknown answer", message_id.is_some()),
    })
}

/// A message to publish.
#[derive(Serialize)]
pub(crate) struct Publication<'a> {
    pub channel: &'a str,
    pub kind: &'a str,
    pub data: &'a RawValue,
}

/// Publishes a message over a connection of its own, and returns the reply.
pub(crate) async fn publish_as(
    url: &str,
    token: String,
    publication: &Publication<'_>,
) -> Result<String, ClientError> {
    let url = url
        .parse()
        .map_err(|error: url::ParseError| ClientError::Connect {
            url: url.to_owned(),
            cause: error.to_string(),
        })?;
    let mut socket = ClientSocket::open(&Access { url, token }).await?;
    let replied = async {
        let id = socket.send("publish", Some(publication)).await?;
        socket.reply(&id).await
    };
    let reply = replied
        .await
        .map_err(|Lost(reason)| ClientError::Ended(reason))?;
    socket.close().await;
    Ok(reply.text)
}

fn uncertain(reason: &str, has_id: bool) -> ClientError {
    let next = if has_id {
        "Run the command again: with the same --message-id, the message is published once."
    } else {
        "To repeat the command safely, give --message-id from the start."
    };
    ClientError::Ended(format!(
        "{reason}\nThe message may have been published or not. {next}"
    ))
}
