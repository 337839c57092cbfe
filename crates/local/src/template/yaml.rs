//! YAML into JSON, with CloudFormation's short intrinsics in their long form.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value, json};

/// Parses one YAML document. `!Ref x` becomes `{"Ref": "x"}` and any other
/// `!Name x` becomes `{"Fn::Name": x}`.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let documents =
        Yaml::load_from_str(text).map_err(|error| format!("not valid YAML: {error}"))?;
    match documents.as_slice() {
        [document] => convert(document),
        _ => Err("a template is one YAML document".into()),
    }
}

fn convert(node: &Yaml<'_>) -> Result<Value, String> {
    Ok(match node {
        Yaml::Value(scalar) => match scalar {
            Scalar::Null => Value::Null,
            Scalar::Boolean(value) => json!(value),
            Scalar::Integer(value) => json!(value),
            Scalar::FloatingPoint(value) => json!(value.into_inner()),
            Scalar::String(value) => json!(value),
        },
        Yaml::Sequence(items) => Value::Array(items.iter().map(convert).collect::<Result<_, _>>()?),
        Yaml::Mapping(entries) => {
            let mut object = Map::new();
            for (key, value) in entries {
                let key = match convert(key)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                object.insert(key, convert(value)?);
            }
            Value::Object(object)
        }
        Yaml::Tagged(tag, inner) => {
            let inner = convert(inner)?;
            match tag.suffix.as_str() {
                "Ref" => json!({"Ref": inner}),
                "Condition" => json!({"Condition": inner}),
                name => json!({format!("Fn::{name}"): inner}),
            }
        }
        Yaml::Alias(_) | Yaml::BadValue | Yaml::Representation(..) => {
            return Err("the YAML holds a value that cannot be read".into());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_become_long_ones() {
        let text = "a: !Ref X\nb: !If [C, !GetAtt D.Arn, !Sub \"${E}\"]\nc: !Not [!Condition F]\nd: {Ref: G}\n1: 'true'\n";
        let expected = json!({
            "a": {"Ref": "X"},
            "b": {"Fn::If": ["C", {"Fn::GetAtt": "D.Arn"}, {"Fn::Sub": "${E}"}]},
            "c": {"Fn::Not": [{"Condition": "F"}]},
            "d": {"Ref": "G"},
            "1": "true",
        });
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn duplicate_keys_are_refused() {
        assert!(parse("a: 1\na: 2\n").is_err());
    }
}
