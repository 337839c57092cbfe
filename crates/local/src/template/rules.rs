//! The section `Rules`: which parameters go together.

use serde_json::{Map, Value};

use super::TemplateError;
use super::intrinsics::Scope;

/// Checks every assertion of every rule, as CloudFormation does before it
/// creates anything.
pub(super) fn check(rules: &Map<String, Value>, scope: &Scope<'_>) -> Result<(), TemplateError> {
    for (name, rule) in rules {
        let error = |path: &str, problem: String| {
            TemplateError::at("Rules", &format!("{name}{path}"), problem)
        };
        let holds =
            |value: &Value, path: &str| scope.holds(value).map_err(|problem| error(path, problem));
        if let Some(condition) = rule.get("RuleCondition")
            && !holds(condition, ".RuleCondition")?
        {
            continue;
        }
        let Some(Value::Array(assertions)) = rule.get("Assertions") else {
            return Err(error(".Assertions", "must be a list".into()));
        };
        for assertion in assertions {
            if !holds(&assertion["Assert"], ".Assertions")? {
                let description = assertion["AssertDescription"].as_str();
                return Err(error("", description.unwrap_or("does not hold").into()));
            }
        }
    }
    Ok(())
}
