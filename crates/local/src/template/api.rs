//! `AWS::Serverless::WebSocketApi` and its route responses.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::function::FunctionSpec;
use super::properties::{Properties, unknown, whole_number};
use super::{ACCOUNT, TemplateError};

/// The WebSocket API.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// The stage: the path of the WebSocket URL.
    pub stage: String,
    /// Where in a message's body the route key stands: the names after
    /// `$request.body`.
    pub selection: Vec<String>,
    /// The routes by their key.
    pub routes: BTreeMap<String, Route>,
}

/// What happens to messages of one route.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// The function's name.
    pub function: String,
    /// How long API Gateway waits for the function.
    pub timeout: Duration,
    /// Whether what the function returns is sent to the client: the route has
    /// a response selection expression and a route response.
    pub answers: bool,
}

/// API Gateway's limit and default for an integration.
const MAX_INTEGRATION_MS: u64 = 29_000;

pub(super) fn read(properties: &Properties<'_>) -> Result<Api, TemplateError> {
    properties.only(
        &["RouteSelectionExpression", "Routes", "StageName"],
        &[
            "AccessLogSettings",
            "DefaultRouteSettings",
            "Description",
            "Domain",
            "Name",
            "RouteSettings",
            "Tags",
        ],
    )?;
    let expression = properties
        .text("RouteSelectionExpression")?
        .unwrap_or_default();
    let selection: Option<Vec<String>> = expression
        .strip_prefix("$request.body.")
        .map(|path| path.split('.').map(str::to_owned).collect());
    let selection = selection
        .filter(|names| names.iter().all(|name| !name.is_empty()))
        .ok_or_else(|| {
            properties.wrong(
                "RouteSelectionExpression",
                "must have the form $request.body.name",
            )
        })?;
    let stage = properties
        .text("StageName")?
        .filter(|stage| !stage.is_empty());
    let stage = stage.ok_or_else(|| properties.wrong("StageName", "is missing"))?;
    let Some(Value::Object(declared)) = properties.get("Routes")? else {
        return Err(properties.wrong("Routes", "must be a mapping"));
    };
    let mut routes = BTreeMap::new();
    for (key, declaration) in &declared {
        // As SAM has it: the logical ids that it makes of the keys allow no more.
        let special = ["$connect", "$disconnect", "$default"].contains(&key.as_str());
        if !special && (key.is_empty() || !key.chars().all(char::is_alphanumeric)) {
            return Err(properties.wrong(
                &format!("Routes.{key}"),
                "must be alphanumeric or one of $connect, $disconnect, $default",
            ));
        }
        routes.insert(key.clone(), route(properties, key, declaration)?);
    }
    Ok(Api {
        stage,
        selection,
        routes,
    })
}

fn route(
    properties: &Properties<'_>,
    key: &str,
    declaration: &Value,
) -> Result<Route, TemplateError> {
    let path = |name: &str| format!("Routes.{key}.{name}");
    let declaration = declaration
        .as_object()
        .ok_or_else(|| properties.wrong(&format!("Routes.{key}"), "must be a mapping"))?;
    let read = [
        "FunctionArn",
        "IntegrationTimeout",
        "RouteResponseSelectionExpression",
    ];
    if let Some(name) = unknown(declaration, &read, &["OperationName"]) {
        return Err(properties.wrong(&path(name), "is not understood by the local stack"));
    }
    let function = declaration.get("FunctionArn").and_then(Value::as_str);
    let function = function.ok_or_else(|| properties.wrong(&path("FunctionArn"), "is missing"))?;
    let timeout = match declaration.get("IntegrationTimeout") {
        None => MAX_INTEGRATION_MS,
        Some(value) => whole_number(value, 50..=MAX_INTEGRATION_MS)
            .map_err(|problem| properties.wrong(&path("IntegrationTimeout"), problem))?,
    };
    match declaration
        .get("RouteResponseSelectionExpression")
        .and_then(Value::as_str)
    {
        None | Some("$default") => {}
        Some(_) => {
            return Err(properties.wrong(
                &path("RouteResponseSelectionExpression"),
                "must be $default",
            ));
        }
    }
    Ok(Route {
        function: function.to_owned(),
        timeout: Duration::from_millis(timeout),
        answers: declaration.contains_key("RouteResponseSelectionExpression"),
    })
}

/// The generated route that a route response is for, like `ApiDefaultRoute`.
pub(super) fn answering_route(properties: &Properties<'_>) -> Result<String, TemplateError> {
    properties.only(&["ApiId", "RouteId", "RouteResponseKey"], &[])?;
    if properties.text("RouteResponseKey")?.as_deref() != Some("$default") {
        return Err(properties.wrong("RouteResponseKey", "must be $default"));
    }
    properties
        .text("RouteId")?
        .ok_or_else(|| properties.wrong("RouteId", "is missing"))
}

/// The logical id that SAM gives the route of a key: `ApiDefaultRoute`.
fn generated_route(api_id: &str, key: &str) -> String {
    let name = key.trim_start_matches('$');
    let (first, rest) = name.split_at(name.chars().next().map_or(0, char::len_utf8));
    format!(
        "{api_id}{}{}Route",
        first.to_uppercase(),
        rest.to_lowercase()
    )
}

impl Api {
    /// Turns the functions' ARNs into their names.
    pub(super) fn connect_functions(
        &mut self,
        api_id: &str,
        functions: &BTreeMap<String, FunctionSpec>,
    ) -> Result<(), TemplateError> {
        for (key, route) in &mut self.routes {
            let name = route
                .function
                .split_once(&format!(":{ACCOUNT}:function:"))
                .map(|(_, name)| name);
            let known = functions
                .values()
                .find(|function| Some(function.name.as_str()) == name);
            match known {
                Some(function) => route.function = function.name.clone(),
                None => {
                    let path = format!("Properties.Routes.{key}.FunctionArn");
                    return Err(TemplateError::at(
                        api_id,
                        &path,
                        "names no function of this template",
                    ));
                }
            }
        }
        Ok(())
    }

    /// A route answers only if it has a route response: SAM makes none. Each
    /// response comes with its logical id.
    pub(super) fn apply_route_responses(
        &mut self,
        api_id: &str,
        responses: &[(&String, String)],
    ) -> Result<(), TemplateError> {
        for (response, route) in responses {
            if !self
                .routes
                .keys()
                .any(|key| generated_route(api_id, key) == *route)
            {
                let problem = format!("{route} is no route of the API");
                return Err(TemplateError::at(response, "Properties.RouteId", problem));
            }
        }
        for (key, route) in &mut self.routes {
            let generated = generated_route(api_id, key);
            route.answers &= responses.iter().any(|(_, route)| *route == generated);
        }
        Ok(())
    }
}
