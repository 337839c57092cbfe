//! The few calls of CloudFormation and CloudWatch that `belfry ops` makes,
//! signed here: CloudFormation's SDK is as large as Lambda's, and CloudWatch's
//! would bring a second version of `http` into every crate.

use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::Value;

use crate::error::OpsError;
use crate::http::{Http, Response};

pub(crate) struct Cloud {
    http: Http,
    credentials: SharedCredentialsProvider,
    region: String,
    /// Instead of AWS's own, for an emulator.
    endpoint: Option<String>,
}

/// The codes of credentials that AWS does not accept.
pub(crate) const BAD_CREDENTIALS: [&str; 5] = [
    "ExpiredToken",
    "InvalidClientTokenId",
    "InvalidSignature",
    "SignatureDoesNotMatch",
    "UnrecognizedClient",
];

/// What AWS says when it does not do what was asked.
struct Refusal {
    /// Whether it may do it later.
    is_temporary: bool,
    reason: String,
}

impl Cloud {
    pub(crate) fn new(config: &SdkConfig, http: Http) -> Result<Self, OpsError> {
        let region = config.region().ok_or(OpsError::NoRegion)?.to_string();
        let credentials = config.credentials_provider();
        let credentials = credentials
            .ok_or_else(|| OpsError::NoCredentials("no source of credentials is set".into()))?;
        Ok(Self {
            http,
            credentials,
            region,
            endpoint: config.endpoint_url().map(str::to_owned),
        })
    }

    /// The name of a stack's function.
    pub(crate) async fn function_of(
        &self,
        stack: &str,
        logical_id: &str,
    ) -> Result<String, OpsError> {
        const OPERATION: &str = "cloudformation:DescribeStackResource";
        // Names of stacks and ids need no encoding.
        let body = format!(
            "Action=DescribeStackResource&Version=2010-05-15&StackName={stack}&LogicalResourceId={logical_id}"
        );
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self
            .call("cloudformation", OPERATION, &headers, body)
            .await?;
        let no_stack = |reason: String| OpsError::NoStack {
            stack: stack.to_owned(),
            region: self.region.clone(),
            reason,
        };
        let xml = answer.map_err(|refusal| match refusal {
            Refusal {
                is_temporary: true,
                reason,
            } => OpsError::Aws {
                operation: OPERATION,
                reason,
            },
            Refusal { reason, .. } => no_stack(reason),
        })?;
        let id = element(&xml, "PhysicalResourceId");
        id.ok_or_else(|| no_stack("it has no function yet".into()))
    }

    /// Calls an operation of CloudWatch.
    pub(crate) async fn cloudwatch(
        &self,
        name: &str,
        operation: &'static str,
        request: &Value,
    ) -> Result<Value, OpsError> {
        let target = format!("GraniteServiceVersion20100801.{name}");
        let headers = [
            ("content-type", "application/x-amz-json-1.0"),
            ("x-amz-target", &*target),
        ];
        let answer = self.call("monitoring", operation, &headers, request.to_string());
        let failed = |reason: String| OpsError::Aws { operation, reason };
        let answer = answer.await?.map_err(|refusal| failed(refusal.reason))?;
        serde_json::from_str(&answer).map_err(|error| failed(error.to_string()))
    }

    async fn call(
        &self,
        service: &'static str,
        operation: &'static str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Result<String, Refusal>, OpsError> {
        let failed = |reason: String| OpsError::Aws { operation, reason };
        let url = match &self.endpoint {
            Some(endpoint) => format!("{}/", endpoint.trim_end_matches('/')),
            None => url(service, &self.region),
        };
        let credentials = self.credentials.provide_credentials().await;
        let credentials = credentials.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            OpsError::NoCredentials(cause.unwrap_or_else(|| error.to_string()))
        })?;
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let signed_body = SignableBody::Bytes(body.as_bytes());
        let signable = SignableRequest::new("POST", &url, headers.iter().copied(), signed_body)
            .map_err(|error| failed(error.to_string()))?;
        let signed =
            sign(signable, &parameters.into()).map_err(|error| failed(error.to_string()))?;
        let (instructions, _) = signed.into_parts();
        let all_headers = headers.iter().copied().chain(instructions.headers());
        let response = self.http.post(&url, all_headers, body).await;
        let Response { status, text } = response.map_err(failed)?;
        if (200..300).contains(&status) {
            return Ok(Ok(text));
        }
        let reason = message(&text);
        if BAD_CREDENTIALS.iter().any(|code| text.contains(code)) {
            return Err(OpsError::NoCredentials(reason));
        }
        if text.contains("AccessDenied") {
            return Err(OpsError::Denied { operation, reason });
        }
        let is_temporary = status >= 429 || text.contains("Throttling");
        Ok(Err(Refusal {
            is_temporary,
            reason,
        }))
    }
}

/// The message of an error in XML or JSON.
fn message(error: &str) -> String {
    let json: Value = serde_json::from_str(error).unwrap_or_default();
    let in_json = json["message"].as_str().or(json["Message"].as_str());
    let in_json = in_json.map(str::to_owned);
    let message = in_json.or_else(|| element(error, "Message"));
    message.unwrap_or_else(|| error.to_owned())
}

fn url(service: &str, region: &str) -> String {
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://{service}.{region}.amazonaws.com{china}/")
}

/// The text of the first element with this name.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_its_domain() {
        assert_eq!(
            url("monitoring", "eu-west-1"),
            "https://monitoring.eu-west-1.amazonaws.com/"
        );
        assert_eq!(
            url("cloudformation", "cn-north-1"),
            "https://cloudformation.cn-north-1.amazonaws.com.cn/"
        );
    }

    #[test]
    fn an_element_is_found_or_not() {
        let xml = "<A><PhysicalResourceId>belfry-Operator-1</PhysicalResourceId></A>";
        let id = element(xml, "PhysicalResourceId");
        assert_eq!(id.as_deref(), Some("belfry-Operator-1"));
        assert_eq!(element(xml, "Message"), None);
        assert_eq!(element("<Message>cut", "Message"), None);
        assert_eq!(message("<E><Message>no</Message></E>"), "no");
        assert_eq!(message(r#"{"message":"no"}"#), "no");
        assert_eq!(message("Bad Gateway"), "Bad Gateway");
    }
}
