//! A function's `FunctionUrlConfig`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::TemplateError;
use super::properties::{NOT_SUPPORTED, Properties, integer, unsupported};

/// A function's own HTTP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FunctionUrlSpec {
    pub auth: UrlAuth,
    pub invoke_mode: InvokeMode,
    pub cors: Option<CorsSpec>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UrlAuth {
    /// Anybody may call.
    None,
    /// Requests must be signed.
    Iam,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InvokeMode {
    /// The client gets the response when it is complete.
    Buffered,
    /// The client gets the response while the function runs.
    ResponseStream,
}

/// What Lambda tells browsers about a function URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CorsSpec {
    pub allow_credentials: bool,
    pub allow_headers: Vec<String>,
    pub allow_methods: Vec<String>,
    pub allow_origins: Vec<String>,
    pub expose_headers: Vec<String>,
    pub max_age: Option<Duration>,
}

/// Lambda's limit for `MaxAge`: a day.
const MAX_AGE_SECONDS: u64 = 86_400;

/// A path below `FunctionUrlConfig`, and the problem there.
type Problem = (String, String);

/// Reads a function's own configuration, or the one from `Globals`.
pub(super) fn read(
    properties: &Properties<'_>,
    config: Option<&Value>,
) -> Result<Option<FunctionUrlSpec>, TemplateError> {
    let spec = config.map(read_config).transpose();
    spec.map_err(|(path, problem)| properties.error(&format!("FunctionUrlConfig{path}"), problem))
}

fn read_config(config: &Value) -> Result<FunctionUrlSpec, Problem> {
    let config = mapping(config, "", &["AuthType", "Cors", "InvokeMode"])?;
    let one_of = |name: &str, options: &str| (format!(".{name}"), format!("must be {options}"));
    let auth = match config.get("AuthType").and_then(Value::as_str) {
        Some("NONE") => UrlAuth::None,
        Some("AWS_IAM") => UrlAuth::Iam,
        _ => return Err(one_of("AuthType", "NONE or AWS_IAM")),
    };
    let invoke_mode = match config.get("InvokeMode").map(Value::as_str) {
        None | Some(Some("BUFFERED")) => InvokeMode::Buffered,
        Some(Some("RESPONSE_STREAM")) => InvokeMode::ResponseStream,
        Some(_) => return Err(one_of("InvokeMode", "BUFFERED or RESPONSE_STREAM")),
    };
    let cors = config.get("Cors").map(read_cors).transpose()?;
    Ok(FunctionUrlSpec {
        auth,
        invoke_mode,
        cors,
    })
}

fn read_cors(cors: &Value) -> Result<CorsSpec, Problem> {
    let read = [
        "AllowCredentials",
        "AllowHeaders",
        "AllowMethods",
        "AllowOrigins",
        "ExposeHeaders",
        "MaxAge",
    ];
    let cors = mapping(cors, ".Cors", &read)?;
    let list = |name: &str| match cors.get(name) {
        None => Ok(Vec::new()),
        Some(value) => strings(value).ok_or_else(|| {
            let problem = "must be a list of strings without line breaks".to_owned();
            (format!(".Cors.{name}"), problem)
        }),
    };
    let max_age = cors.get("MaxAge").map(|value| {
        integer(value, 0..=MAX_AGE_SECONDS)
            .map(Duration::from_secs)
            .map_err(|problem| (".Cors.MaxAge".to_owned(), problem))
    });
    let allow_credentials = match cors.get("AllowCredentials") {
        None => false,
        Some(Value::Bool(allow)) => *allow,
        // A parameter's value is always a string.
        Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
        Some(_) => {
            let problem = "must be true or false".to_owned();
            return Err((".Cors.AllowCredentials".to_owned(), problem));
        }
    };
    Ok(CorsSpec {
        allow_credentials,
        allow_headers: list("AllowHeaders")?,
        allow_methods: list("AllowMethods")?,
        allow_origins: list("AllowOrigins")?,
        expose_headers: list("ExposeHeaders")?,
        max_age: max_age.transpose()?,
    })
}

fn mapping<'a>(
    value: &'a Value,
    path: &str,
    read: &[&str],
) -> Result<&'a Map<String, Value>, Problem> {
    let Value::Object(mapping) = value else {
        return Err((path.to_owned(), "must be a mapping".to_owned()));
    };
    match unsupported(mapping, read, &[]) {
        Some(name) => Err((format!("{path}.{name}"), NOT_SUPPORTED.to_owned())),
        None => Ok(mapping),
    }
}

/// A list of strings that may be header values. A parameter of type
/// `CommaDelimitedList` is one string.
fn strings(value: &Value) -> Option<Vec<String>> {
    let texts = match value {
        Value::String(list) => list.split(',').map(|item| item.trim().to_owned()).collect(),
        Value::Array(items) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>()?
        }
        _ => return None,
    };
    let is_header = |text: &String| http::HeaderValue::from_str(text).is_ok();
    texts.iter().all(is_header).then_some(texts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_url_has_lambdas_defaults() {
        let expected = FunctionUrlSpec {
            auth: UrlAuth::None,
            invoke_mode: InvokeMode::Buffered,
            cors: None,
        };
        assert_eq!(read_config(&json!({"AuthType": "NONE"})), Ok(expected));
    }

    #[test]
    fn every_property_is_read() {
        let spec = read_config(&json!({
            "AuthType": "AWS_IAM",
            "InvokeMode": "RESPONSE_STREAM",
            "Cors": {
                "AllowCredentials": "true",
                "AllowHeaders": ["authorization"],
                "AllowMethods": ["GET", "POST"],
                "AllowOrigins": "https://a.example, https://b.example",
                "ExposeHeaders": ["retry-after"],
                "MaxAge": "300",
            },
        }));
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let expected = FunctionUrlSpec {
            auth: UrlAuth::Iam,
            invoke_mode: InvokeMode::ResponseStream,
            cors: Some(CorsSpec {
                allow_credentials: true,
                allow_headers: texts(&["authorization"]),
                allow_methods: texts(&["GET", "POST"]),
                allow_origins: texts(&["https://a.example", "https://b.example"]),
                expose_headers: texts(&["retry-after"]),
                max_age: Some(Duration::from_secs(300)),
            }),
        };
        assert_eq!(spec, Ok(expected));
    }

    #[test]
    fn a_wrong_property_is_named() {
        let cors = |cors: Value| json!({"AuthType": "NONE", "Cors": cors});
        for (config, path) in [
            (json!("NONE"), ""),
            (json!({}), ".AuthType"),
            (json!({"AuthType": "JWT"}), ".AuthType"),
            (
                json!({"AuthType": "NONE", "InvokeMode": "STREAM"}),
                ".InvokeMode",
            ),
            (
                json!({"AuthType": "NONE", "InvokeMode": true}),
                ".InvokeMode",
            ),
            (
                json!({"AuthType": "NONE", "Qualifier": "live"}),
                ".Qualifier",
            ),
            (cors(json!([])), ".Cors"),
            (cors(json!({"AllowOrigin": "*"})), ".Cors.AllowOrigin"),
            (cors(json!({"AllowOrigins": [1]})), ".Cors.AllowOrigins"),
            (
                cors(json!({"AllowHeaders": ["a\r\nb: c"]})),
                ".Cors.AllowHeaders",
            ),
            (cors(json!({"MaxAge": 86_401})), ".Cors.MaxAge"),
            (
                cors(json!({"AllowCredentials": 1})),
                ".Cors.AllowCredentials",
            ),
        ] {
            assert_eq!(read_config(&config).unwrap_err().0, path, "{config}");
        }
    }
}
