//! `belfry call`.

use serde::Serialize;
use serde_json::value::RawValue;

use super::access::Access;
use super::socket::{ClientSocket, Lost};
use super::terminal::Terminal;
use super::{ClientError, frame_data};
use crate::cli::CallArgs;

/// The codes after which the function has certainly not acted.
const REFUSALS: [&str; 4] = [
    "FORBIDDEN",
    "INVALID_MESSAGE",
    "MESSAGE_TOO_LARGE",
    "RATE_LIMITED",
];

#[derive(Serialize)]
struct Call<'a> {
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// Calls the application's function and prints the frame with its result.
pub(crate) fn call(arguments: &CallArgs) -> Result<(), ClientError> {
    let access = Access::of(&arguments.connect)?;
    let data = arguments.file.as_deref().map(frame_data).transpose()?;
    let frame = Call {
        action: &arguments.action,
        data: data.as_deref(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(send(&access, frame))
}

async fn send(access: &Access, frame: Call<'_>) -> Result<(), ClientError> {
    let mut socket = ClientSocket::open(access).await?;
    let replied = async {
        let id = socket.send("call", Some(frame)).await?;
        socket.reply(&id).await
    };
    let reply = replied.await.map_err(|Lost(reason)| uncertain(&reason))?;
    socket.close().await;
    if reply.kind() == "result" {
        Terminal::of_process().print(&reply.text)?;
        return Ok(());
    }
    let Some(error) = reply.error() else {
        return Err(uncertain("the stack gave an unknown answer"));
    };
    let reason = format!("{}: {}", error.code, error.message);
    Err(match &*error.code {
        "FORBIDDEN" => ClientError::Ended(format!(
            "{reason}\nOn the local stack, give the function with `belfry run --function CallFunction=FILE`."
        )),
        code if REFUSALS.contains(&code) => ClientError::Ended(reason),
        _ => uncertain(&reason),
    })
}

fn uncertain(reason: &str) -> ClientError {
    ClientError::Ended(format!(
        "{reason}\nThe function may have acted or not. Its log says more."
    ))
}
