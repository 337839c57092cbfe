//! `AWS::Serverless::WebSocketApi` and its route responses.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::function::FunctionSpec;
use super::properties::{NOT_SUPPORTED, Properties, integer, unsupported};
use super::{ACCOUNT, TemplateError};

#[derive(Debug, Clone)]
pub(crate) struct ApiSpec {
    /// The path of the WebSocket URL.
    pub stage: String,
    /// The path to the route key in a message's body: the names after
    /// `$request.body`.
    pub selection: Vec<String>,
    /// By route key.
    pub routes: BTreeMap<String, RouteSpec>,
}

#[derive(Debug, Clone)]
pub(crate) struct RouteSpec {
    /// The function's name.
    pub function: String,
    /// How long API Gateway waits for the function.
    pub timeout: Duration,
    /// Whether the function's body is sent to the client: the route has a
    /// response selection expression and a route response.
    pub two_way: bool,
}

/// API Gateway's maximum and default timeout of an integration.
const MAX_INTEGRATION_MS: u64 = 29_000;

pub(super) fn read(properties: &Properties<'_>) -> Result<ApiSpec, TemplateError> {
    properties.allow_only(
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
        .string("RouteSelectionExpression")?
        .unwrap_or_default();
    let selection: Option<Vec<String>> = expression
        .strip_prefix("$request.body.")
        .map(|path| path.split('.').map(str::to_owned).collect());
    let selection = selection
        .filter(|names| names.iter().all(|name| !name.is_empty()))
        .ok_or_else(|| {
            properties.error(
                "RouteSelectionExpression",
                "must have the form $request.body.name",
            )
        })?;
    let stage = properties
        .string("StageName")?
        .filter(|stage| !stage.is_empty());
    let stage = stage.ok_or_else(|| properties.error("StageName", "is missing"))?;
    let Some(Value::Object(declared)) = properties.get("Routes")? else {
        return Err(properties.error("Routes", "must be a mapping"));
    };
    let mut routes = BTreeMap::new();
    for (key, declaration) in &declared {
        // SAM's own rule: it derives logical ids from the keys.
        let special = ["$connect", "$disconnect", "$default"].contains(&key.as_str());
        if !special && (key.is_empty() || !key.chars().all(char::is_alphanumeric)) {
            return Err(properties.error(
                &format!("Routes.{key}"),
                "must be alphanumeric or one of $connect, $disconnect, $default",
            ));
        }
        routes.insert(key.clone(), route(properties, key, declaration)?);
    }
    Ok(ApiSpec {
        stage,
        selection,
        routes,
    })
}

fn route(
    properties: &Properties<'_>,
    key: &str,
    declaration: &Value,
) -> Result<RouteSpec, TemplateError> {
    let path = |name: &str| format!("Routes.{key}.{name}");
    let declaration = declaration
        .as_object()
        .ok_or_else(|| properties.error(&format!("Routes.{key}"), "must be a mapping"))?;
    let read = [
        "FunctionArn",
        "IntegrationTimeout",
        "RouteResponseSelectionExpression",
    ];
    if let Some(name) = unsupported(declaration, &read, &["OperationName"]) {
        return Err(properties.error(&path(name), NOT_SUPPORTED));
    }
    let function = declaration.get("FunctionArn").and_then(Value::as_str);
    let function = function.ok_or_else(|| properties.error(&path("FunctionArn"), "is missing"))?;
    let timeout = match declaration.get("IntegrationTimeout") {
        None => MAX_INTEGRATION_MS,
        Some(value) => integer(value, 50..=MAX_INTEGRATION_MS)
            .map_err(|problem| properties.error(&path("IntegrationTimeout"), problem))?,
    };
    let response = declaration.get("RouteResponseSelectionExpression");
    if response.is_some_and(|expression| expression != "$default") {
        let path = path("RouteResponseSelectionExpression");
        return Err(properties.error(&path, "must be $default"));
    }
    Ok(RouteSpec {
        function: function.to_owned(),
        timeout: Duration::from_millis(timeout),
        two_way: response.is_some(),
    })
}

/// Reads a route response: the logical id of its route, like `ApiDefaultRoute`.
pub(super) fn read_route_response(properties: &Properties<'_>) -> Result<String, TemplateError> {
    properties.allow_only(&["ApiId", "RouteId", "RouteResponseKey"], &[])?;
    if properties.string("RouteResponseKey")?.as_deref() != Some("$default") {
        return Err(properties.error("RouteResponseKey", "must be $default"));
    }
    properties
        .string("RouteId")?
        .ok_or_else(|| properties.error("RouteId", "is missing"))
}

/// The logical id of the route that SAM generates for a key: `ApiDefaultRoute`.
fn generated_route_id(api_id: &str, key: &str) -> String {
    let name = key.trim_start_matches('$');
    let (first, rest) = name.split_at(name.chars().next().map_or(0, char::len_utf8));
    format!(
        "{api_id}{}{}Route",
        first.to_uppercase(),
        rest.to_lowercase()
    )
}

impl ApiSpec {
    /// Replaces the functions' ARNs by their names.
    pub(super) fn resolve_functions(
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
                        "is not the ARN of a function in this template",
                    ));
                }
            }
        }
        Ok(())
    }

    /// A route is two-way only if it has a route response, which SAM does not
    /// generate. Each response comes with its own logical id.
    pub(super) fn apply_route_responses(
        &mut self,
        api_id: &str,
        responses: &[(&String, String)],
    ) -> Result<(), TemplateError> {
        for (response, route) in responses {
            if !self
                .routes
                .keys()
                .any(|key| generated_route_id(api_id, key) == *route)
            {
                let problem = format!("{route} is not a route of the API");
                return Err(TemplateError::at(response, "Properties.RouteId", problem));
            }
        }
        for (key, route) in &mut self.routes {
            let generated = generated_route_id(api_id, key);
            route.two_way &= responses.iter().any(|(_, route)| *route == generated);
        }
        Ok(())
    }
}
