//! The output of `belfry run` when the stack is ready.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::terminal::commands;

/// The stack's URLs; their JSON is the line that `--json` prints, and the answer
/// to `GET /_local/stack`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ready {
    pub event: &'static str,
    pub websocket: String,
    pub management: String,
    pub lambda: String,
    pub console: String,
    pub dynamodb: String,
    pub issuer: String,
    /// The URL of `Reader`, if the stack has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reader: Option<String>,
    /// Every function URL by its function's logical id.
    #[serde(rename = "functionUrls")]
    pub function_urls: BTreeMap<String, String>,
}

impl Ready {
    /// Prints one line of JSON, or text with commands to paste. One of them sends
    /// an example event.
    pub(crate) fn print(&self, json: bool, example: &Path) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if json {
            let line = serde_json::to_string(self).map_err(io::Error::other)?;
            writeln!(out, "{line}")?;
            return out.flush();
        }
        let example = commands::quoted(&example.display().to_string());
        let belfry = commands::program();
        let Ready {
            websocket,
            management,
            lambda,
            console,
            dynamodb,
            issuer,
            function_urls,
            ..
        } = self;
        let function_urls: String = function_urls
            .iter()
            .map(|(function, url)| format!("  Function URL {url} ({function})\n"))
            .collect();
        writeln!(
            out,
            "
Belfry is running. Ctrl-C stops it; nothing is kept.

  WebSocket    {websocket}
  Management   {management}/@connections/…
  Lambda       {lambda}
  DynamoDB     {dynamodb}
  Issuer       {issuer}
{function_urls}  Console      {console}

Connect as alice:

  npx --yes wscat@6.1.0 --connect \"{websocket}?token=$({belfry} token --user alice --endpoint {lambda})\"

then type {{\"type\":\"ping\",\"version\":\"1.0\"}}. In another terminal, send her a notification:

  {belfry} invoke Broadcaster {example} --endpoint {lambda}
"
        )?;
        out.flush()
    }
}
