//! The gateway's own API: tokens and faults.

use serde_json::{Value, json};

use crate::crowd::Ticket;
use crate::stack::{Stack, soon};

/// How many users of a crowd have one connection alone.
pub const SOLO: usize = 100;

/// How many connections the others have.
const TABS: usize = 10;

impl Stack {
    /// Asks the local issuer for tokens.
    pub async fn tokens(&self, request: Value) -> Value {
        let url = format!("{}/_local/tokens", self.ready.lambda);
        let response = reqwest::Client::new()
            .post(url)
            .header("content-type", "application/json")
            .body(request.to_string())
            .send()
            .await
            .expect("the issuer answers");
        let text = response.text().await.expect("a body");
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("the issuer refused: {text}"))
    }

    /// Asks something of the gateway's own API, like `/_local/faults`.
    ///
    /// # Panics
    /// If it does not answer with JSON, or with nothing.
    pub async fn local(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("{}/_local/{path}", self.ready.lambda);
        let method = method.parse().expect("a method");
        let mut request = reqwest::Client::new().request(method, url);
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
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
        };
        (status, answer)
    }

    /// Puts a fault into force and returns its id.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn fault(&self, fault: Value) -> String {
        let (status, answer) = self.local("POST", "faults", Some(&fault)).await;
        assert_eq!(status, 200, "{answer}");
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// Ends a fault.
    ///
    /// # Panics
    /// If it was not in force.
    pub async fn end_fault(&self, id: &str) {
        let (status, answer) = self.local("DELETE", &format!("faults/{id}"), None).await;
        assert_eq!(status, 204, "{answer}");
    }

    /// Waits until a fault has struck.
    ///
    /// # Panics
    /// If it never does.
    pub async fn struck(&self, id: &str) {
        soon(async { while self.strikes(id).await == 0 {} }).await;
    }

    /// How often a fault has struck.
    ///
    /// # Panics
    /// If it is not in force.
    pub async fn strikes(&self, id: &str) -> u64 {
        let (_, list) = self.local("GET", "faults", None).await;
        let fault = list
            .as_array()
            .expect("a list")
            .iter()
            .find(|fault| fault["id"] == id);
        fault.expect("in force")["struck"]
            .as_u64()
            .expect("a number")
    }

    /// Tickets for so many clients: of [`SOLO`] users with one each, and of
    /// others with ten.
    pub async fn tickets(&self, count: usize) -> Vec<Ticket> {
        let mut tickets: Vec<Ticket> = Vec::with_capacity(count);
        for number in 0..count {
            let user = match number {
                0..SOLO => format!("solo-{number}"),
                _ => format!("crowd-{}", number / TABS),
            };
            let authorization = match tickets.last() {
                Some(last) if *last.user == *user => last.authorization.clone(),
                _ => Some(format!("Bearer {}", self.token(&user).await).into()),
            };
            tickets.push(Ticket {
                url: self.ready.websocket.as_str().into(),
                authorization,
                user: user.into(),
            });
        }
        tickets
    }

    /// A user's access token.
    pub async fn token(&self, user: &str) -> String {
        self.token_with(json!({"user": user})).await
    }

    /// An access token of a special kind.
    pub async fn token_with(&self, request: Value) -> String {
        self.tokens(request).await["accessToken"]
            .as_str()
            .expect("a token")
            .to_owned()
    }
}
