use std::sync::Mutex;
use std::time::Duration;

use belfry_protocol::Action;

use crate::ports::{Authorizer, Permission, Question};

/// Allows what the test says. Unless told otherwise, it fails.
#[derive(Debug, Default)]
pub struct FakeAuthorizer {
    answer: Mutex<Option<Permission>>,
    asked: Mutex<Vec<String>>,
}

impl FakeAuthorizer {
    /// Allows these actions for so long.
    pub fn allow(&self, actions: impl IntoIterator<Item = Action>, lifetime: Duration) {
        *self.answer.lock().expect("no panic") = Some(Permission {
            actions: actions.into_iter().collect(),
            lifetime,
        });
    }

    /// The questions since the last call, each as user, action and channel.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("no panic"))
    }
}

impl Authorizer for FakeAuthorizer {
    async fn ask(&self, question: Question<'_>) -> Result<Permission, String> {
        let Question {
            user_id,
            channel,
            action,
            ..
        } = question;
        let asked = format!("{user_id} {action} {channel}");
        self.asked.lock().expect("no panic").push(asked);
        let answer = *self.answer.lock().expect("no panic");
        answer.ok_or_else(|| "told to fail".into())
    }
}
