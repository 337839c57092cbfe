//! CloudFormation's intrinsic functions, as far as the local stack needs them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{ACCOUNT, API_ID, TemplateError};

/// How deep values and the conditions that they use may be nested. A value's
/// own nesting is bounded when it is parsed; this bounds chains of conditions.
const MAX_DEPTH: usize = 256;

/// The most that evaluation may produce in all, in bytes and one for each
/// value. A short template could otherwise multiply a long string.
const MAX_PRODUCED: usize = 16 * 1024 * 1024;

/// What intrinsics can refer to.
pub(super) struct Scope<'a> {
    parameters: BTreeMap<String, String>,
    pub(super) conditions: &'a Map<String, Value>,
    resources: &'a Map<String, Value>,
    region: &'a str,
    /// `None` while a condition is being evaluated.
    pub(super) known_conditions: RefCell<BTreeMap<String, Option<bool>>>,
    depth: Cell<usize>,
    produced: Cell<usize>,
}

/// One level of nesting; dropping it leaves the level.
pub(super) struct Level<'a>(&'a Cell<usize>);

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        parameters: BTreeMap<String, String>,
        conditions: &'a Map<String, Value>,
        resources: &'a Map<String, Value>,
        region: &'a str,
    ) -> Self {
        Self {
            parameters,
            conditions,
            resources,
            region,
            known_conditions: RefCell::default(),
            depth: Cell::default(),
            produced: Cell::default(),
        }
    }

    pub(super) fn enter(&self) -> Result<Level<'_>, String> {
        if self.depth.get() >= MAX_DEPTH {
            return Err("values and conditions are nested too deeply".into());
        }
        self.depth.set(self.depth.get() + 1);
        Ok(Level(&self.depth))
    }

    fn produce(&self, bytes: usize) -> Result<(), EvaluationError> {
        let produced = self.produced.get() + 1 + bytes;
        if produced > MAX_PRODUCED {
            return Err(EvaluationError::new(
                "the template's values come to more than 16 MB",
            ));
        }
        self.produced.set(produced);
        Ok(())
    }

    fn produced(&self, text: String) -> Result<Option<Value>, EvaluationError> {
        self.produce(text.len())?;
        Ok(Some(text.into()))
    }

    /// Evaluates every intrinsic inside a value. `None` stands for
    /// `AWS::NoValue`: the property is absent.
    pub(super) fn evaluate(&self, value: &Value) -> Result<Option<Value>, EvaluationError> {
        let _level = self.enter().map_err(EvaluationError::new)?;
        match value {
            Value::Array(items) => {
                let mut list = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    list.extend(
                        self.evaluate(item)
                            .map_err(|error| error.inside(&index.to_string()))?,
                    );
                }
                Ok(Some(Value::Array(list)))
            }
            Value::Object(object) => match only_entry(object) {
                Some((name, argument)) if name == "Ref" || name.starts_with("Fn::") => {
                    self.call(name, argument)
                }
                _ => {
                    let mut evaluated = Map::new();
                    for (key, value) in object {
                        self.produce(key.len())?;
                        if let Some(value) =
                            self.evaluate(value).map_err(|error| error.inside(key))?
                        {
                            evaluated.insert(key.clone(), value);
                        }
                    }
                    Ok(Some(Value::Object(evaluated)))
                }
            },
            plain => {
                self.produce(plain.as_str().map_or(0, str::len))?;
                Ok(Some(plain.clone()))
            }
        }
    }

    fn call(&self, name: &str, argument: &Value) -> Result<Option<Value>, EvaluationError> {
        let error = |problem: &str| EvaluationError::new(format!("{} {problem}", short_form(name)));
        match (name, argument) {
            ("Ref", Value::String(target)) if target == "AWS::NoValue" => Ok(None),
            ("Ref", Value::String(target)) => self.produced(self.reference(target)?),
            ("Fn::GetAtt", Value::String(path)) => {
                let (id, attribute) = path
                    .split_once('.')
                    .ok_or_else(|| error("needs Resource.Attribute"))?;
                self.produced(self.attribute(id, attribute)?)
            }
            ("Fn::GetAtt", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(id), Value::String(attribute)] => {
                    self.produced(self.attribute(id, attribute)?)
                }
                _ => Err(error("needs a resource and an attribute")),
            },
            ("Fn::Sub", Value::String(text)) => {
                Ok(Some(json!(self.substitute(text, &Map::new())?)))
            }
            ("Fn::Sub", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(text), Value::Object(names)] => {
                    Ok(Some(json!(self.substitute(text, names)?)))
                }
                _ => Err(error("needs a string and a mapping")),
            },
            ("Fn::Join", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(between), list] => {
                    let list = self.evaluate(list)?.unwrap_or_default();
                    let list = list.as_array().ok_or_else(|| error("needs a list"))?;
                    let texts: Vec<_> = list.iter().map(to_text).collect();
                    let separators = between.len() * texts.len();
                    self.produce(separators + texts.iter().map(String::len).sum::<usize>())?;
                    Ok(Some(json!(texts.join(between))))
                }
                _ => Err(error("needs a separator and a list")),
            },
            ("Fn::If", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(condition), then, otherwise] => {
                    let holds = self
                        .named_condition(condition)
                        .map_err(EvaluationError::new)?;
                    self.evaluate(if holds { then } else { otherwise })
                }
                _ => Err(error("needs a condition and two values")),
            },
            ("Ref" | "Fn::GetAtt" | "Fn::Sub" | "Fn::Join" | "Fn::If", _) => {
                Err(error("has arguments of the wrong type"))
            }
            _ => Err(EvaluationError::new(format!(
                "unknown intrinsic {}",
                short_form(name)
            ))),
        }
    }

    fn reference(&self, target: &str) -> Result<String, EvaluationError> {
        if let Some(value) = self.parameters.get(target) {
            return Ok(value.clone());
        }
        if target.starts_with("AWS::") {
            return self.pseudo_parameter(target);
        }
        match self.resources.get(target) {
            Some(resource) => Ok(physical_id(target, resource)),
            // SAM's logical ids for what it generates from an API: `ApiDefaultRoute`.
            None if self.is_generated(target) => Ok(target.to_owned()),
            None => Err(EvaluationError::new(format!(
                "no parameter or resource {target}"
            ))),
        }
    }

    fn is_generated(&self, target: &str) -> bool {
        self.resources.iter().any(|(id, resource)| {
            resource.get("Type").and_then(Value::as_str) == Some("AWS::Serverless::WebSocketApi")
                && target
                    .strip_prefix(id.as_str())
                    .is_some_and(|rest| rest.ends_with("Route") || rest == "Stage")
        })
    }

    fn pseudo_parameter(&self, name: &str) -> Result<String, EvaluationError> {
        Ok(match name {
            "AWS::AccountId" => ACCOUNT.into(),
            "AWS::Partition" => "aws".into(),
            "AWS::Region" => self.region.into(),
            "AWS::StackName" => "belfry-local".into(),
            "AWS::URLSuffix" => "amazonaws.com".into(),
            _ => {
                return Err(EvaluationError::new(format!(
                    "unknown pseudo parameter {name}"
                )));
            }
        })
    }

    fn attribute(&self, id: &str, attribute: &str) -> Result<String, EvaluationError> {
        let resource = self
            .resources
            .get(id)
            .ok_or_else(|| EvaluationError::new(format!("no resource {id}")))?;
        let kind = resource
            .get("Type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let name = physical_id(id, resource);
        let region = self.region;
        match (kind, attribute) {
            ("AWS::Serverless::Function", "Arn") => {
                Ok(format!("arn:aws:lambda:{region}:{ACCOUNT}:function:{name}"))
            }
            ("AWS::DynamoDB::Table", "Arn") => {
                Ok(format!("arn:aws:dynamodb:{region}:{ACCOUNT}:table/{name}"))
            }
            ("AWS::SQS::Queue", "Arn") => Ok(format!("arn:aws:sqs:{region}:{ACCOUNT}:{name}")),
            ("AWS::SNS::Topic", "TopicArn") => Ok(format!("arn:aws:sns:{region}:{ACCOUNT}:{name}")),
            _ => Err(EvaluationError::new(format!(
                "the local stack does not know the attribute {attribute} of {id} ({kind})"
            ))),
        }
    }

    fn substitute(
        &self,
        text: &str,
        names: &Map<String, Value>,
    ) -> Result<String, EvaluationError> {
        // Each once, however often the text names it.
        let mut values = BTreeMap::new();
        for (name, value) in names {
            let value = self.evaluate(value).map_err(|error| error.inside(name))?;
            values.insert(name.as_str(), value.as_ref().map(to_text));
        }
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| EvaluationError::new("!Sub has a ${ without }"))?;
            let value = if let Some(literal) = name.strip_prefix('!') {
                format!("${{{literal}}}")
            } else if let Some(value) = values.get(name) {
                value.clone().unwrap_or_default()
            } else if let Some((id, attribute)) = name.split_once('.') {
                self.attribute(id, attribute)?
            } else {
                self.reference(name)?
            };
            self.produce(before.len() + value.len())?;
            result.push_str(before);
            result.push_str(&value);
            rest = after;
        }
        self.produce(rest.len())?;
        Ok(result + rest)
    }
}

/// A problem inside a value, and the path to it.
#[derive(Debug)]
pub(super) struct EvaluationError {
    path: String,
    pub(super) problem: String,
}

impl EvaluationError {
    fn new(problem: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            problem: problem.into(),
        }
    }

    fn inside(mut self, key: &str) -> Self {
        self.path = format!(".{key}{}", self.path);
        self
    }

    /// Adds the property that the value belongs to.
    pub(super) fn in_property(self, resource: &str, path: &str) -> TemplateError {
        TemplateError::at(resource, &format!("{path}{}", self.path), self.problem)
    }
}

/// A resource's explicit name, or its logical id.
fn physical_id(id: &str, resource: &Value) -> String {
    let properties = resource.get("Properties");
    if resource.get("Type").and_then(Value::as_str) == Some("AWS::Serverless::WebSocketApi") {
        return API_ID.into();
    }
    ["FunctionName", "TableName"]
        .into_iter()
        .find_map(|name| properties?.get(name)?.as_str())
        .unwrap_or(id)
        .to_owned()
}

/// The entry of a mapping that has exactly one.
pub(super) fn only_entry(object: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut entries = object.iter();
    match (entries.next(), entries.next()) {
        (Some((name, argument)), None) => Some((name, argument)),
        _ => None,
    }
}

fn short_form(name: &str) -> String {
    format!("!{}", name.trim_start_matches("Fn::"))
}

pub(super) fn to_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
