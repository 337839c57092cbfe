//! Every fault that the local stack knows.

use std::collections::BTreeMap;

use belfry_tests::Stack;
use serde_json::{Value, json};

/// A fault by its name, and the fields with which it strikes often enough.
pub(crate) fn all() -> Vec<Value> {
    let mut faults = vec![
        json!({"fault": "disconnect-drop", "share": 0.5}),
        json!({"fault": "disconnect-duplicate", "share": 0.5}),
        json!({"fault": "disconnect-delay", "delay": "3s", "share": 0.5}),
        json!({"fault": "post-410", "share": 0.05}),
        json!({"fault": "post-429", "share": 0.3}),
        json!({"fault": "post-500", "share": 0.3}),
        json!({"fault": "post-silence", "share": 0.02}),
        json!({"fault": "peer-freeze", "share": 0.05}),
        json!({"fault": "dynamodb-throttle", "share": 0.1}),
        json!({"fault": "dynamodb-conflict", "share": 0.1}),
        json!({"fault": "dynamodb-contention", "delay": "20ms"}),
        json!({"fault": "dynamodb-timeout", "share": 0.01}),
        json!({"fault": "dynamodb-lose-answer", "share": 0.01}),
        json!({"fault": "dynamodb-slow", "delay": "100ms", "share": 0.2}),
    ];
    for (function, share) in [
        ("Connect", 0.3),
        ("Default", 0.05),
        ("Disconnect", 0.5),
        ("Broadcaster", 0.3),
        ("Worker", 0.5),
        ("Sweeper", 0.5),
    ] {
        let kill =
            json!({"fault": "function-kill", "function": function, "share": share, "delay": "5ms"});
        let lose = json!({"fault": "function-lose-answer", "function": function, "share": share});
        faults.extend([kill, lose]);
    }
    faults
}

fn name(fault: &Value) -> String {
    let field = |name: &str| fault[name].as_str();
    let fault = field("fault").expect("a fault");
    match field("function") {
        Some(function) => format!("{fault} of {function}"),
        None => fault.to_owned(),
    }
}

/// The faults that are active, and how often each has struck so far.
#[derive(Debug, Default)]
pub(crate) struct Strikes {
    active: Vec<(String, String)>,
    struck: BTreeMap<String, u64>,
}

impl Strikes {
    /// Ends the faults that are active, and injects these.
    pub(crate) async fn change(&mut self, stack: &Stack, faults: &[Value]) {
        self.end(stack).await;
        for fault in faults {
            let id = stack.fault(fault.clone()).await;
            self.active.push((id, name(fault)));
        }
    }

    pub(crate) async fn end(&mut self, stack: &Stack) {
        for (id, name) in self.active.drain(..) {
            *self.struck.entry(name).or_default() += stack.strikes(&id).await;
            stack.end_fault(&id).await;
        }
    }

    pub(crate) fn active(&self) -> String {
        let names: Vec<_> = self.active.iter().map(|(_, name)| name.as_str()).collect();
        if names.is_empty() {
            "no fault".into()
        } else {
            names.join(" and ")
        }
    }

    pub(crate) fn table(&self) -> String {
        let lines = self.struck.iter();
        let lines: Vec<_> = lines
            .map(|(name, times)| format!("{name:<40} struck {times:>7} times"))
            .collect();
        lines.join("\n")
    }
}
