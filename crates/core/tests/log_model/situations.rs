//! Situations that must occur, or the model would prove little.

use super::model::Scope;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Situation {
    /// A publisher stored another's entry before it moved the head.
    Healed,
    /// That entry was stored already.
    HealedInVain,
    /// That entry had expired.
    LeftExpired,
    /// The head had moved, and its message was the publisher's own.
    FoundOwnHead,
    /// The head had moved on from the publisher's own message.
    FoundOwnEntry,
    /// The other publisher had appended the message.
    WasBefore,
    WasBusy,
    /// A request moved the head after its publisher had given up.
    ArrivedLate,
    EntryDeleted,
    HeadDeleted,
    /// A log began anew after its head was deleted.
    EpochBegun,
    RecoveredAll,
    RecoveredPage,
    RecoveredFromEmptyLog,
    FoundNothingMissed,
    FoundExpired,
    FoundOtherEpoch,
    ComparedEqual,
    ComparedMissed,
    /// The joiner's read found a message.
    FoundInLog,
    ReceivedLive,
}

const APPENDING: &[Situation] = &[
    Situation::Healed,
    Situation::HealedInVain,
    Situation::WasBefore,
];

const LOSING_ANSWERS: &[Situation] = &[
    Situation::FoundOwnHead,
    Situation::FoundOwnEntry,
    Situation::WasBusy,
    Situation::ArrivedLate,
];

const READING: &[Situation] = &[
    Situation::RecoveredAll,
    Situation::RecoveredPage,
    Situation::RecoveredFromEmptyLog,
    Situation::FoundNothingMissed,
    Situation::ComparedEqual,
    Situation::ComparedMissed,
];

const EXPIRING: &[Situation] = &[
    Situation::LeftExpired,
    Situation::EntryDeleted,
    Situation::HeadDeleted,
    Situation::EpochBegun,
    Situation::FoundExpired,
    Situation::FoundOtherEpoch,
];

const JOINING: &[Situation] = &[Situation::FoundInLog, Situation::ReceivedLive];

impl Situation {
    /// Those that must occur in a scope.
    pub(crate) fn of(scope: Scope) -> impl Iterator<Item = Self> {
        let more = match scope {
            Scope::Requests => [READING, LOSING_ANSWERS],
            Scope::Expiry => [READING, EXPIRING],
            Scope::Joining => [JOINING, LOSING_ANSWERS],
        };
        [APPENDING].into_iter().chain(more).flatten().copied()
    }

    pub(crate) fn bit(self) -> u32 {
        1 << self as u32
    }
}
