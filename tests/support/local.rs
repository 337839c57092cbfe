//! The local stack's own API: tokens and faults.

use std::sync::Arc;

use belfry_loadtest::{Ticket, user_of, users_for};
use serde_json::{Value, json};

use crate::patience::{http, until};
use crate::stack::Stack;

impl Stack {
    /// Asks the local issuer for tokens.
    pub async fn tokens(&self, request: Value) -> Value {
        let url = format!("{}/_local/tokens", self.ready.lambda);
        let response = http()
            .post(url)
            .header("content-type", "application/json")
            .body(request.to_string())
            .send()
            .await
            .expect("the issuer answers");
        let text = response.text().await.expect("a body");
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("the issuer refused: {text}"))
    }

    /// Calls the local stack's own API, like `/_local/faults`.
    ///
    /// # Panics
    /// If the answer is neither JSON nor empty.
    pub async fn local(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("{}/_local/{path}", self.ready.lambda);
        let method = method.parse().expect("a method");
        let mut request = http().request(method, url);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        let answer = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
        };
        (status, answer)
    }

    /// Injects a fault and returns its id.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn fault(&self, fault: Value) -> String {
        let (status, answer) = self.local("POST", "faults", Some(&fault)).await;
        assert_eq!(status, 200, "{answer}");
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// # Panics
    /// If the fault is not active.
    pub async fn end_fault(&self, id: &str) {
        let (status, answer) = self.local("DELETE", &format!("faults/{id}"), None).await;
        assert_eq!(status, 204, "{answer}");
    }

    /// Waits until a fault has struck this often.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn struck(&self, id: &str, times: u64) {
        let event = format!("fault {id} has struck {times} times");
        until(&event, async || self.strikes(id).await >= times).await;
    }

    /// How often a fault has struck so far.
    ///
    /// # Panics
    /// If it is not active.
    pub async fn strikes(&self, id: &str) -> u64 {
        let (_, list) = self.local("GET", "faults", None).await;
        let fault = list
            .as_array()
            .expect("a list")
            .iter()
            .find(|fault| fault["id"] == id);
        fault.expect("an active fault")["struck"]
            .as_u64()
            .expect("a number")
    }

    /// Tickets for this many clients, with tokens of the local issuer.
    pub async fn tickets(&self, count: usize) -> Vec<Ticket> {
        let mut users: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for number in 0..users_for(count) {
            let user = format!("crowd-{number}");
            let authorization = format!("Bearer {}", self.token(&user).await);
            users.push((user.into(), authorization.into()));
        }
        let url: Arc<str> = self.ready.websocket.as_str().into();
        let ticket = |client| {
            let (user, authorization) = users[user_of(client, users.len())].clone();
            Ticket {
                url: Arc::clone(&url),
                authorization: Some(authorization),
                user,
            }
        };
        (0..count).map(ticket).collect()
    }

    pub async fn token(&self, user: &str) -> String {
        self.token_with(json!({"user": user})).await
    }

    /// An access token with other claims or another lifetime.
    pub async fn token_with(&self, request: Value) -> String {
        self.tokens(request).await["accessToken"]
            .as_str()
            .expect("a token")
            .to_owned()
    }
}
