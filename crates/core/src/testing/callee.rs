use std::sync::Mutex;

use belfry_protocol::CallAction;
use serde_json::{Value, json};

use super::{connection_id, tenant, user_id};
use crate::ports::{CallError, Callee, ClientCall, MAX_RESULT_BYTES};

/// What becomes of a call.
#[derive(Debug, Clone, Default)]
pub enum CallBehaviour {
    /// There is no function.
    #[default]
    Absent,
    /// The function answers with this text.
    Answers(String),
    Fails,
    NeverAnswers,
    /// Too many calls for now.
    Throttled,
    /// What should invoke it fails.
    Unavailable,
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
        if !matches!(behaviour, CallBehaviour::Absent) {
            self.calls.lock().expect("no panic").push(seen);
        }
        match behaviour {
            CallBehaviour::Absent => Err(CallError::NoFunction),
            CallBehaviour::Throttled => Err(CallError::Throttled),
            CallBehaviour::Unavailable => Err(CallError::Unavailable("told to".into())),
            CallBehaviour::Fails => Err(CallError::Failed),
            CallBehaviour::NeverAnswers => Err(CallError::TimedOut),
            CallBehaviour::Answers(text) => {
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

/// Holds a callee to its promises. `behave` says what becomes of calls
/// from now on, `arrived` takes those that were made.
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
    for (behaviour, error) in [
        (CallBehaviour::Fails, CallError::Failed),
        (CallBehaviour::NeverAnswers, CallError::TimedOut),
        (answers(&too_long), CallError::TooLarge),
        (answers(&grows), CallError::TooLarge),
        (answers(""), CallError::NotJson),
        (answers("{\"a\":1"), CallError::NotJson),
        (CallBehaviour::Throttled, CallError::Throttled),
    ] {
        let context = format!("{behaviour:.80?}");
        assert_eq!(ask(behaviour, call).await, Err(error), "{context}");
        assert_eq!(arrived().len(), 1, "{context} is not repeated");
    }
    let unavailable = ask(CallBehaviour::Unavailable, call).await;
    let is_told = matches!(unavailable, Err(CallError::Unavailable(_)));
    assert!(is_told, "{unavailable:?}");
    assert_eq!(arrived().len(), 1, "nor is this");
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
