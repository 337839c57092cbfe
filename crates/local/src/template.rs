//! Reads a SAM template into what the local stack runs.
//!
//! The reader supports WebSocket APIs, functions and tables. It lists other
//! resource types as ignored. Everything else that it does not support is an
//! error that names the resource and the property: nothing is skipped silently.
//!
//! A hostile template cannot exhaust the machine: its size, its nesting and
//! what its intrinsics produce are bounded.

mod api;
mod conditions;
mod error;
mod event_invoke_config;
mod function;
mod function_url;
mod intrinsics;
mod parameters;
mod properties;
mod rules;
mod schedule;
mod table;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{self, Path, PathBuf};

use serde_json::{Map, Value};

pub(crate) use api::ApiSpec;
pub(crate) use error::TemplateError;
pub(crate) use function::FunctionSpec;
pub(crate) use function_url::{CorsSpec, FunctionUrlSpec, InvokeMode, UrlAuth};
pub(crate) use schedule::{ScheduleKind, ScheduleSpec};
pub(crate) use table::TableSpec;

use intrinsics::Scope;
use properties::{NOT_SUPPORTED, Properties};

/// The account that local resources live in.
pub(crate) const ACCOUNT: &str = "000000000000";

/// The id of the local API.
pub(crate) const API_ID: &str = "local";

const SECTIONS: [&str; 5] = ["Conditions", "Globals", "Parameters", "Resources", "Rules"];

/// Accepted, with no effect on one machine.
const IGNORED_SECTIONS: [&str; 5] = [
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Outputs",
    "Transform",
];

/// CloudFormation's quotas: the size of a template in bytes, and its resources.
const MAX_TEMPLATE_BYTES: u64 = 1024 * 1024;
const MAX_RESOURCES: usize = 500;

/// What the local stack runs.
#[derive(Debug)]
pub(crate) struct StackSpec {
    pub api: ApiSpec,
    /// By logical id.
    pub functions: BTreeMap<String, FunctionSpec>,
    pub tables: Vec<TableSpec>,
    /// Resource types that the local stack does not emulate, each with its
    /// logical ids.
    pub ignored: BTreeMap<String, Vec<String>>,
}

/// A parsed template. Nothing is evaluated yet.
#[derive(Debug)]
pub(crate) struct Template {
    root: Map<String, Value>,
    /// What paths in the template are relative to.
    folder: PathBuf,
}

impl Template {
    /// Reads a template file, YAML or JSON.
    pub(crate) fn read(path: &Path) -> Result<Self, TemplateError> {
        let mut text = String::new();
        let read = File::open(path)
            .and_then(|file| file.take(MAX_TEMPLATE_BYTES + 1).read_to_string(&mut text));
        read.map_err(|error| {
            TemplateError::file(format!(
                "cannot be read: {error}; choose another file with --template"
            ))
        })?;
        let mut template = Self::parse(&text)?;
        // Absolute, because a program starts in its own folder.
        if let Ok(file) = path::absolute(path) {
            template.folder = file.with_file_name("");
        }
        Ok(template)
    }

    fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() as u64 > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::file(
                "the template is larger than 1 MB, CloudFormation's limit",
            ));
        }
        let Value::Object(root) = yaml::parse(text).map_err(TemplateError::file)? else {
            return Err(TemplateError::file(
                "a template must be a mapping with a section Resources",
            ));
        };
        for name in SECTIONS {
            if root.get(name).is_some_and(|section| !section.is_object()) {
                return Err(TemplateError::file(format!(
                    "the section {name} must be a mapping"
                )));
            }
        }
        Ok(Self {
            root,
            folder: PathBuf::new(),
        })
    }

    pub(crate) fn has_parameter(&self, name: &str) -> bool {
        self.section("Parameters")
            .is_some_and(|parameters| parameters.contains_key(name))
    }

    /// A parameter's default, if that is a string.
    pub(crate) fn parameter_default(&self, name: &str) -> Option<String> {
        let default = self.section("Parameters")?.get(name)?.get("Default")?;
        default.as_str().map(str::to_owned)
    }

    /// The names of the parameters.
    pub(crate) fn parameter_names(&self) -> impl Iterator<Item = &str> {
        let parameters = self.section("Parameters").into_iter();
        parameters.flat_map(|parameters| parameters.keys().map(String::as_str))
    }

    fn section(&self, name: &str) -> Option<&Map<String, Value>> {
        self.root.get(name).and_then(Value::as_object)
    }

    /// Evaluates the template with these parameters.
    pub(crate) fn evaluate(
        &self,
        given: &BTreeMap<String, String>,
        region: &str,
    ) -> Result<StackSpec, TemplateError> {
        let empty = Map::new();
        let parameters = parameters::resolve(self.section("Parameters").unwrap_or(&empty), given)?;
        let resources = self
            .section("Resources")
            .ok_or_else(|| TemplateError::file("the template has no section Resources"))?;
        if resources.len() > MAX_RESOURCES {
            return Err(TemplateError::file(format!(
                "the template has more than {MAX_RESOURCES} resources, CloudFormation's limit"
            )));
        }
        let conditions = self.section("Conditions").unwrap_or(&empty);
        let scope = Scope::new(parameters, conditions, resources, region);
        if let Some(name) = properties::unsupported(&self.root, &SECTIONS, &IGNORED_SECTIONS) {
            return Err(TemplateError::file(format!(
                "the section {name} {NOT_SUPPORTED}"
            )));
        }
        rules::check(self.section("Rules").unwrap_or(&empty), &scope)?;
        let globals = self.section("Globals").unwrap_or(&empty);
        if let Some(name) = properties::unsupported(globals, &["Function"], &[]) {
            return Err(TemplateError::at("Globals", name, NOT_SUPPORTED));
        }
        let globals = globals.get("Function");

        let mut apis = Vec::new();
        let mut functions = BTreeMap::new();
        let mut tables = Vec::new();
        let mut ignored = BTreeMap::<_, Vec<_>>::new();
        let mut route_responses = Vec::new();
        for (id, resource) in resources {
            if !scope.exists(id, resource)? {
                continue;
            }
            let kind = resource.get("Type").and_then(Value::as_str);
            let kind = kind.ok_or_else(|| TemplateError::at(id, "Type", "is missing"))?;
            let properties = Properties::of(id, resource, &scope)?;
            match kind {
                "AWS::Serverless::WebSocketApi" => apis.push((id, api::read(&properties)?)),
                "AWS::Serverless::Function" => {
                    let function =
                        function::read(id, resource, &properties, globals, &scope, &self.folder)?;
                    functions.insert(id.clone(), function);
                }
                "AWS::DynamoDB::Table" => tables.push(table::read(id, &properties)?),
                "AWS::ApiGatewayV2::RouteResponse" => {
                    route_responses.push((id, api::read_route_response(&properties)?))
                }
                other => ignored
                    .entry(other.to_owned())
                    .or_default()
                    .push(id.clone()),
            }
        }
        let mut apis = apis.into_iter();
        let (api_id, mut api) = match (apis.next(), apis.next()) {
            (Some(api), None) => api,
            (None, _) => {
                return Err(TemplateError::file(
                    "the template has no AWS::Serverless::WebSocketApi",
                ));
            }
            (Some(_), Some((second, _))) => {
                return Err(TemplateError::at(
                    second,
                    "Type",
                    "is a second WebSocket API; the local stack runs only one",
                ));
            }
        };
        api.resolve_functions(api_id, &functions)?;
        api.apply_route_responses(api_id, &route_responses)?;
        Ok(StackSpec {
            api,
            functions,
            tables,
            ignored,
        })
    }
}
