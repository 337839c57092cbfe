//! Lambda, CloudFormation, STS and CloudWatch with one function, which answers
//! what a test says.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An invocation of the function.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) function: String,
    pub(super) request: Value,
    /// Who asked, by the client context.
    pub(super) by: Value,
}

type Function = dyn Fn(&Value) -> Result<Value, Value> + Send + Sync;

/// Serves until it is dropped.
pub(super) struct Fake {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    function: Arc<Function>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Fake {
    /// A function that returns a report, or fails with an error.
    pub(super) async fn start(
        function: impl Fn(&Value) -> Result<Value, Value> + Send + Sync + 'static,
    ) -> Self {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let shared = Shared {
            function: Arc::new(function),
            asked: Arc::clone(&asked),
        };
        let router = Router::new()
            .route("/2015-03-31/functions/{name}/invocations", post(invoke))
            .route("/", post(call))
            .with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            asked,
            serving,
        }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The actions that were asked for, in order.
    pub(super) fn actions(&self) -> Vec<String> {
        let asked = self.asked();
        let actions = asked.iter().map(|one| one.request["action"].as_str());
        actions.map(|action| action.unwrap().to_owned()).collect()
    }
}

async fn invoke(
    State(shared): State<Shared>,
    Path(function): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let context = headers.get("x-amz-client-context").unwrap();
    let context: Value = serde_json::from_slice(&STANDARD.decode(context).unwrap()).unwrap();
    let request: Value = serde_json::from_str(&body).unwrap();
    let answer = (shared.function)(&request);
    shared.asked.lock().unwrap().push(Asked {
        function,
        request,
        by: context["custom"]["by"].clone(),
    });
    match answer {
        Ok(report) => report.to_string().into_response(),
        Err(error) => ([("x-amz-function-error", "Unhandled")], error.to_string()).into_response(),
    }
}

/// The calls of the other services.
async fn call(headers: HeaderMap, body: String) -> Response {
    assert!(
        headers["authorization"]
            .to_str()
            .unwrap()
            .starts_with("AWS4-HMAC-SHA256 ")
    );
    if let Some(target) = headers.get("x-amz-target") {
        let request: Value = serde_json::from_str(&body).unwrap();
        let operation = target.to_str().unwrap().rsplit('.').next().unwrap();
        return cloudwatch(operation, &request).to_string().into_response();
    }
    if body.contains("Action=GetCallerIdentity") {
        return "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::000000000000:user/alice</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>".into_response();
    }
    assert!(body.contains("Action=DescribeStackResource"), "{body}");
    assert!(body.contains("LogicalResourceId=Operator"), "{body}");
    if body.contains("StackName=belfry-test&") {
        return "<DescribeStackResourceResponse><PhysicalResourceId>belfry-test-Operator-1</PhysicalResourceId></DescribeStackResourceResponse>".into_response();
    }
    let unknown = "<ErrorResponse><Error><Code>ValidationError</Code><Message>Stack 'other' does not exist</Message></Error></ErrorResponse>";
    (StatusCode::BAD_REQUEST, unknown).into_response()
}

fn cloudwatch(operation: &str, request: &Value) -> Value {
    if operation == "DescribeAlarms" {
        assert_eq!(request["AlarmNamePrefix"], "belfry-test-");
        let types = json!(["MetricAlarm", "CompositeAlarm"]);
        assert_eq!(request["AlarmTypes"], types);
        if request["NextToken"] == "page 2" {
            return json!({"CompositeAlarms": [{"AlarmName": "belfry-test-any"}]});
        }
        return json!({
            "MetricAlarms": [{"AlarmName": "belfry-test-broadcast-slow"}], "NextToken": "page 2",
        });
    }
    assert_eq!(operation, "GetMetricData");
    let last = request["EndTime"].as_f64().unwrap() - 60.0;
    let result = |id: &str, value: f64| json!({"Id": id, "Timestamps": [last], "Values": [value]});
    json!({"MetricDataResults": [
        result("frames", 120.0), result("posts", 600.0), result("p50", 4.0), result("p99", 41.0),
    ]})
}
