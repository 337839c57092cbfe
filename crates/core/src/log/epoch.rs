//! Names of epochs. Each begins with its time, so that in a listing the newest
//! epoch comes last. Only costs depend on that order, since clocks differ.

use belfry_protocol::Epoch;

use crate::ports::Randomness;
use crate::time::UnixMillis;

/// Hexadecimal digits of the time. They suffice until the year 2527.
const TIME_DIGITS: usize = 11;

/// A new epoch. Two publishers that begin a log together have different ones,
/// and one of them becomes the log's.
pub(super) fn new(now: UnixMillis, random: &impl Randomness) -> Epoch {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghijkmnpqrstvwxy";
    let suffix = (0..8).map(|_| char::from(ALPHABET[random.index(ALPHABET.len())]));
    let text = format!("{:011x}{}", now.0, suffix.collect::<String>());
    Epoch::parse(text).expect("hexadecimal digits and letters")
}

/// When the epoch began, by its creator's clock. `None` if Belfry never made
/// such a name.
pub(super) fn begun_at(epoch: &Epoch) -> Option<UnixMillis> {
    let time = epoch.as_str().get(..TIME_DIGITS)?;
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    let digits = time.chars().all(is_digit).then_some(time)?;
    u64::from_str_radix(digits, 16).ok().map(UnixMillis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, SeededRandomness};
    use proptest::prelude::*;

    #[test]
    fn an_epoch_tells_when_it_began() {
        let random = SeededRandomness::default();
        let (one, other) = (new(START, &random), new(START, &random));
        assert_ne!(one, other);
        assert_eq!(begun_at(&one), Some(START));
        assert!(one < new(UnixMillis(START.0 + 1), &random));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not(text in "[!-~]{1,20}") {
            let _ = begun_at(&Epoch::parse(text).unwrap());
        }
    }
}
