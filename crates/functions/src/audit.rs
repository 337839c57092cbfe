//! What the log lines of operators' requests have in common.

use belfry_protocol::Target;
use lambda_runtime::Context;

/// The longest name that is logged, in characters.
const MAX_NAME: usize = 256;

/// The most names that are logged of a list.
const MAX_LISTED: usize = 10;

/// Who asks: what the caller says in the member `by` of the client context's
/// `custom`. Lambda tells a function nothing of its caller; `CloudTrail` does, by
/// the request id.
pub(crate) fn asked_by(context: &Context) -> Option<String> {
    let by = context.client_context.as_ref()?.custom.get("by")?;
    let printable = by.chars().filter(|char| !char.is_control());
    Some(printable.take(MAX_NAME).collect())
}

/// A target in one line.
pub(crate) fn describe(target: &Target) -> String {
    match target {
        Target::User { user_id } => format!("user {user_id}"),
        Target::Users { user_ids } => format!("users {}", list(user_ids.as_slice())),
        Target::Connections { connection_ids } => {
            format!("connections {}", list(connection_ids.as_slice()))
        }
        Target::Channel { channel } => format!("channel {channel}"),
        Target::All {} => "all".into(),
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    let mut names: Vec<_> = items.iter().take(MAX_LISTED).map(T::to_string).collect();
    if let Some(more) = items.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn context(custom: &serde_json::Value) -> Context {
        let client_context = json!({"custom": custom});
        let mut context = Context::default();
        context.client_context = serde_json::from_value(client_context).unwrap();
        context
    }

    #[test]
    fn a_name_is_printable_and_short() {
        assert_eq!(asked_by(&Context::default()), None);
        assert_eq!(asked_by(&context(&json!({}))), None);
        let by = asked_by(&context(&json!({"by": "alice\n\u{7}@desk"})));
        assert_eq!(by.as_deref(), Some("alice@desk"));
        let long = asked_by(&context(&json!({"by": "ü".repeat(1_000)})));
        assert_eq!(long, Some("ü".repeat(256)));
    }

    #[test]
    fn a_target_is_one_short_line() {
        let many: Vec<_> = (0..12).map(|n| format!("c{n}")).collect();
        for (target, line) in [
            (json!({"type": "user", "userId": "alice"}), "user alice"),
            (
                json!({"type": "users", "userIds": ["alice", "bob"]}),
                "users alice, bob",
            ),
            (
                json!({"type": "connections", "connectionIds": many}),
                "connections c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, and 2 more",
            ),
            (
                json!({"type": "channel", "channel": "room:7"}),
                "channel room:7",
            ),
            (json!({"type": "all"}), "all"),
        ] {
            let target: Target = serde_json::from_value(target).unwrap();
            assert_eq!(describe(&target), line);
        }
    }
}
