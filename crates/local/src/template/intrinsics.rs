//! CloudFormation's intrinsic functions, as far as a local stack needs them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{ACCOUNT, API_ID, TemplateError};

/// What intrinsics can refer to.
pub(super) struct Scope<'a> {
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) conditions: &'a Map<String, Value>,
    pub(super) resources: &'a Map<String, Value>,
    pub(super) region: &'a str,
}

/// How deep conditions may refer to each other: more is a circle.
const MAX_CONDITION_DEPTH: usize = 16;

impl Scope<'_> {
    /// Whether a resource's condition, if it has one, holds.
    pub(super) fn exists(&self, id: &str, resource: &Value) -> Result<bool, TemplateError> {
        match resource.get("Condition") {
            None => Ok(true),
            Some(Value::String(name)) => self
                .named_condition(name, 0)
                .map_err(|problem| TemplateError::at(id, "Condition", problem)),
            Some(_) => Err(TemplateError::at(id, "Condition", "must be a name")),
        }
    }

    /// Whether a condition holds that has no name.
    pub(super) fn holds(&self, condition: &Value) -> Result<bool, String> {
        self.condition(condition, 0)
    }

    /// Evaluates every intrinsic inside a value. `None` stands for
    /// `AWS::NoValue`: the property is absent.
    pub(super) fn evaluate(&self, value: &Value) -> Result<Option<Value>, Located> {
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
            Value::Object(object) => match single(object) {
                Some((name, argument)) if name == "Ref" || name.starts_with("Fn::") => {
                    self.call(name, argument)
                }
                _ => {
                    let mut evaluated = Map::new();
                    for (key, value) in object {
                        if let Some(value) =
                            self.evaluate(value).map_err(|error| error.inside(key))?
                        {
                            evaluated.insert(key.clone(), value);
                        }
                    }
                    Ok(Some(Value::Object(evaluated)))
                }
            },
            plain => Ok(Some(plain.clone())),
        }
    }

    fn call(&self, name: &str, argument: &Value) -> Result<Option<Value>, Located> {
        let wrong = |problem: &str| Located::here(format!("{} {problem}", short(name)));
        match (name, argument) {
            ("Ref", Value::String(target)) if target == "AWS::NoValue" => Ok(None),
            ("Ref", Value::String(target)) => Ok(Some(json!(self.reference(target)?))),
            ("Fn::GetAtt", Value::String(path)) => {
                let (id, attribute) = path
                    .split_once('.')
                    .ok_or_else(|| wrong("needs Resource.Attribute"))?;
                Ok(Some(json!(self.attribute(id, attribute)?)))
            }
            ("Fn::GetAtt", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(id), Value::String(attribute)] => {
                    Ok(Some(json!(self.attribute(id, attribute)?)))
                }
                _ => Err(wrong("needs a resource and an attribute")),
            },
            ("Fn::Sub", Value::String(text)) => {
                Ok(Some(json!(self.substitute(text, &Map::new())?)))
            }
            ("Fn::Sub", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(text), Value::Object(names)] => {
                    Ok(Some(json!(self.substitute(text, names)?)))
                }
                _ => Err(wrong("needs a text and a mapping")),
            },
            ("Fn::Join", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(between), list] => {
                    let list = self.evaluate(list)?.unwrap_or_default();
                    let texts: Option<Vec<_>> =
                        list.as_array().map(|list| list.iter().map(text).collect());
                    Ok(Some(json!(
                        texts.ok_or_else(|| wrong("needs a list"))?.join(between)
                    )))
                }
                _ => Err(wrong("needs a separator and a list")),
            },
            ("Fn::If", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(condition), then, otherwise] => {
                    let holds = self.named_condition(condition, 0).map_err(Located::here)?;
                    self.evaluate(if holds { then } else { otherwise })
                }
                _ => Err(wrong("needs a condition and two values")),
            },
            ("Ref" | "Fn::GetAtt" | "Fn::Sub" | "Fn::Join" | "Fn::If", _) => {
                Err(wrong("has arguments of the wrong kind"))
            }
            _ => Err(Located::here(format!("unknown intrinsic {}", short(name)))),
        }
    }

    fn reference(&self, target: &str) -> Result<String, Located> {
        if let Some(value) = self.parameters.get(target) {
            return Ok(value.clone());
        }
        if target.starts_with("AWS::") {
            return self.pseudo_parameter(target);
        }
        match self.resources.get(target) {
            Some(resource) => Ok(physical_id(target, resource)),
            // SAM's own names for what it makes of an API: `ApiDefaultRoute`.
            None if self.is_generated(target) => Ok(target.to_owned()),
            None => Err(Located::here(format!("no parameter or resource {target}"))),
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

    fn pseudo_parameter(&self, name: &str) -> Result<String, Located> {
        Ok(match name {
            "AWS::AccountId" => ACCOUNT.into(),
            "AWS::Partition" => "aws".into(),
            "AWS::Region" => self.region.into(),
            "AWS::StackName" => "belfry-local".into(),
            "AWS::URLSuffix" => "amazonaws.com".into(),
            _ => return Err(Located::here(format!("no pseudo parameter {name}"))),
        })
    }

    fn attribute(&self, id: &str, attribute: &str) -> Result<String, Located> {
        let resource = self
            .resources
            .get(id)
            .ok_or_else(|| Located::here(format!("no resource {id}")))?;
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
            _ => Err(Located::here(format!(
                "the attribute {attribute} of {id} ({kind}) is not known here"
            ))),
        }
    }

    fn substitute(&self, text: &str, names: &Map<String, Value>) -> Result<String, Located> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            result.push_str(before);
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| Located::here("!Sub has a ${ without }"))?;
            if let Some(literal) = name.strip_prefix('!') {
                result.push_str(&format!("${{{literal}}}"));
            } else if let Some(value) = names.get(name) {
                result.push_str(
                    &self
                        .evaluate(value)?
                        .as_ref()
                        .map(self::text)
                        .unwrap_or_default(),
                );
            } else if let Some((id, attribute)) = name.split_once('.') {
                result.push_str(&self.attribute(id, attribute)?);
            } else {
                result.push_str(&self.reference(name)?);
            }
            rest = after;
        }
        Ok(result + rest)
    }

    fn named_condition(&self, name: &str, depth: usize) -> Result<bool, String> {
        if depth == MAX_CONDITION_DEPTH {
            return Err(format!("condition {name} refers to itself"));
        }
        let condition = self
            .conditions
            .get(name)
            .ok_or_else(|| format!("condition {name} is not defined"))?;
        self.condition(condition, depth + 1)
    }

    fn condition(&self, value: &Value, depth: usize) -> Result<bool, String> {
        let call = value.as_object().and_then(single);
        let all = |list: &Vec<Value>| {
            list.iter()
                .map(|c| self.condition(c, depth))
                .collect::<Result<Vec<_>, _>>()
        };
        match call {
            Some(("Condition", Value::String(name))) => self.named_condition(name, depth),
            Some(("Fn::Equals", Value::Array(sides))) if sides.len() == 2 => {
                let side = |value| self.evaluate(value).map_err(|error| error.problem);
                Ok(side(&sides[0])?.as_ref().map(text) == side(&sides[1])?.as_ref().map(text))
            }
            Some(("Fn::Not", Value::Array(one))) if one.len() == 1 => {
                Ok(!self.condition(&one[0], depth)?)
            }
            Some(("Fn::And", Value::Array(list))) => Ok(all(list)?.into_iter().all(|holds| holds)),
            Some(("Fn::Or", Value::Array(list))) => Ok(all(list)?.into_iter().any(|holds| holds)),
            _ => Err(format!("the condition {value} is not understood")),
        }
    }
}

/// A problem inside a value, and the way to it.
#[derive(Debug)]
pub(super) struct Located {
    path: String,
    problem: String,
}

impl Located {
    fn here(problem: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            problem: problem.into(),
        }
    }

    fn inside(mut self, key: &str) -> Self {
        self.path = format!(".{key}{}", self.path);
        self
    }

    /// The error, with the property that the value belongs to.
    pub(super) fn of(self, resource: &str, path: &str) -> TemplateError {
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

fn single(object: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut entries = object.iter();
    match (entries.next(), entries.next()) {
        (Some((name, argument)), None) => Some((name, argument)),
        _ => None,
    }
}

fn short(name: &str) -> String {
    format!("!{}", name.trim_start_matches("Fn::"))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
