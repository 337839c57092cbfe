use std::sync::Mutex;

use belfry_protocol::CallAction;
use serde_json::{Value, json};

use super::{connection_id, tenant, user_id};
use crate::ports::{CallError, Callee, ClientCall, MAX_RESULT_BYTES};

/// What the application's function does with a call.
#[derive(Debug, Clone, Default)]
pub enum CallBehaviour {
    /// There is no function.
    #[default]
    Absent,
    /// It answers with this text.
    Answers(String),
    Fails,
    NeverAnswers,
    Throttled,
    /// There is a function by name only.
    Unknown,
}

/// Behaves as the test says. Unless told otherwise, there is no function.
#[derive(Debug, Default)]
pub struct FakeCallee {
    behaviour: Mutex<CallBehaviour>,
    calls: Mutex<Vec<Value>>,
}

impl FakeCallee {
    pub fn behave(&self, behaviour: CallBehaviour) {
        *self.behaviour.lock().expect("no panic") = behaviour;
    }

    /// The calls since the last time, as the application sees them.
    pub fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.calls.lock().expect("no panic"))
    }
}

impl Callee for FakeCallee {
    async fn call(&self, call: ClientCall<'_>) -> Result<Value, CallError> {
        let behaviour = self.behaviour.lock().expect("no panic").clone();
        let seen = json!({
            "connectionId": call.connection_id,
            "userId": call.user_id,
            "claims": call.claims.to_value(),
            "action": call.action,
            "data": call.data,
        });
        let arrived = || self.calls.lock().expect("no panic").push(seen);
        match behaviour {
            CallBehaviour::Absent => Err(CallError::NoFunction),
            CallBehaviour::Throttled => Err(CallError::Throttled),
            CallBehaviour::Unknown => Err(CallError::Unavailable("told to".into())),
            CallBehaviour::Fails => {
                arrived();
                Err(CallError::Failed)
            }
            CallBehaviour::NeverAnswers => {
                arrived();
                Err(CallError::TimedOut)
            }
            CallBehaviour::Answers(text) => {
                arrived();
                if text.len() > MAX_RESULT_BYTES {
                    return Err(CallError::TooLarge);
                }
                let value: Value = serde_json::from_str(&text).map_err(|_| CallError::NotJson)?;
                let fits = value.to_string().len() <= MAX_RESULT_BYTES;
                fits.then_some(value).ok_or(CallError::TooLarge)
            }
        }
    }
}

/// Holds a callee to its promises. `behave` says what the function does from
/// now on, `arrived` takes the calls that have reached it.
pub async fn callee_contract<L: Callee>(
    callee: &L,
    behave: impl Fn(CallBehaviour),
    arrived: impl Fn() -> Vec<Value>,
) {
    let (id, user, claims) = (connection_id("c1"), user_id("alice"), tenant("acme"));
    let action = CallAction::parse("quote.edit").expect("a valid action");
    let data = json!({"age": 41});
    let call = ClientCall {
        connection_id: &id,
        user_id: &user,
        claims: &claims,
        action: &action,
        data: Some(&data),
    };
    let ask = async |behaviour, call| {
        behave(behaviour);
        callee.call(call).await
    };
    let answers = |text: &str| CallBehaviour::Answers(text.into());
    for text in [r#"{"premium":482.5}"#, "[1,null]", r#""text""#, "7", "null"] {
        let answer = ask(answers(text), call).await.expect(text);
        assert_eq!(answer.to_string(), text);
    }
    let event = json!({"connectionId": "c1", "userId": "alice", "claims": {"tenant": "acme"},
        "action": "quote.edit", "data": {"age": 41}});
    assert_eq!(arrived(), vec![event.clone(); 5]);
    ask(answers("1"), ClientCall { data: None, ..call })
        .await
        .expect("an answer without data");
    assert_eq!(arrived()[0]["data"], Value::Null);

    let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    let longest = text(MAX_RESULT_BYTES);
    assert!(ask(answers(&longest), call).await.is_ok());
    let too_long = text(MAX_RESULT_BYTES + 1);
    // A number may be longer in the frame than it was in the answer.
    let grows = format!("[{}]", vec!["1e15"; MAX_RESULT_BYTES / 6].join(","));
    arrived();
    for (behaviour, error, reached) in [
        (CallBehaviour::Fails, CallError::Failed, 1),
        (CallBehaviour::NeverAnswers, CallError::TimedOut, 1),
        (answers(&too_long), CallError::TooLarge, 1),
        (answers(&grows), CallError::TooLarge, 1),
        (answers(""), CallError::NotJson, 1),
        (answers("{\"a\":1"), CallError::NotJson, 1),
        (CallBehaviour::Throttled, CallError::Throttled, 0),
    ] {
        let context = format!("{behaviour:.80?}");
        assert_eq!(ask(behaviour, call).await, Err(error), "{context}");
        assert_eq!(arrived().len(), reached, "{context}: once at most");
    }
    let unknown = ask(CallBehaviour::Unknown, call).await;
    assert!(
        matches!(unknown, Err(CallError::Unavailable(_))),
        "{unknown:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let callee = FakeCallee::default();
        callee_contract(&callee, |b| callee.behave(b), || callee.take()).await;
    }
}
