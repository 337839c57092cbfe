use std::fmt;

use belfry_protocol::Action;

/// A set of actions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Actions(u8);

impl Actions {
    #[must_use]
    pub fn contains(self, action: Action) -> bool {
        self.0 & bit(action) != 0
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The actions, in the order of [`Action::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL
            .into_iter()
            .filter(move |action| self.contains(*action))
    }
}

fn bit(action: Action) -> u8 {
    match action {
        Action::Subscribe => 1,
        Action::Publish => 2,
        Action::Presence => 4,
        Action::Lock => 8,
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().map(bit).fold(0, |set, one| set | one))
    }
}

impl fmt::Display for Actions {
    /// Like `subscribe, publish`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, action) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{action}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        for mask in 0..16_u8 {
            let put = |index: &usize| mask & (1 << index) != 0;
            let chosen: Vec<_> = (0..4).filter(put).map(|i| Action::ALL[i]).collect();
            let set: Actions = chosen.iter().copied().collect();
            assert_eq!(set.iter().collect::<Vec<_>>(), chosen);
            assert_eq!(set.is_empty(), chosen.is_empty());
        }
    }

    #[test]
    fn a_set_is_written_as_a_list() {
        let set: Actions = [Action::Publish, Action::Subscribe].into_iter().collect();
        assert_eq!(set.to_string(), "subscribe, publish");
    }
}
