//! Names of epochs. Each begins with its time, so that in a listing the newest
//! epoch comes last. Only costs depend on that order, since clocks differ.

use std::hash::Hasher;

use belfry_protocol::Epoch;
use fnv::FnvHasher;

use crate::ports::Randomness;
use crate::time::UnixMillis;

/// Hexadecimal digits of the time. They suffice until the year 2527.
const TIME_DIGITS: usize = 11;

/// Characters after the time.
const SUFFIX: usize = 8;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghijkmnpqrstvwxy";

/// A new epoch. Two publishers that begin a log together have different ones,
/// and one of them becomes the log's.
pub(super) fn new(now: UnixMillis, random: &impl Randomness) -> Epoch {
    let suffix = (0..SUFFIX).map(|_| char::from(ALPHABET[random.index(ALPHABET.len())]));
    named(now, &suffix.collect::<String>())
}

/// The epoch that a request begins. A repeated request may give it another time.
pub(super) fn of_request(now: UnixMillis, request: &str) -> Epoch {
    named(now, &suffix_of(request))
}

/// Whether this request began the epoch. For another one it is taken once in 10¹²
/// times.
pub(super) fn is_of_request(epoch: &Epoch, request: &str) -> bool {
    epoch.as_str().get(TIME_DIGITS..) == Some(&suffix_of(request))
}

fn suffix_of(request: &str) -> String {
    let mut hasher = FnvHasher::default();
    hasher.write(request.as_bytes());
    let mut rest = hasher.finish();
    let mut next = || {
        let index = usize::try_from(rest % 32).unwrap_or_default();
        rest /= 32;
        char::from(ALPHABET[index])
    };
    (0..SUFFIX).map(|_| next()).collect()
}

fn named(now: UnixMillis, suffix: &str) -> Epoch {
    let text = format!("{:011x}{suffix}", now.0);
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

    #[test]
    fn a_request_knows_its_epoch_at_any_time() {
        let requests: Vec<_> = (0..1_000).map(|n| format!("request-{n}")).collect();
        for request in &requests {
            let epoch = of_request(UnixMillis(START.0 + 60_000), request);
            assert_eq!(begun_at(&epoch), Some(UnixMillis(START.0 + 60_000)));
            let own: Vec<_> = requests
                .iter()
                .filter(|one| is_of_request(&epoch, one))
                .collect();
            assert_eq!(own, [request]);
        }
        let random = new(START, &SeededRandomness::default());
        assert!(!requests.iter().any(|one| is_of_request(&random, one)));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not(text in "[!-~]{1,20}") {
            let _ = begun_at(&Epoch::parse(text).unwrap());
        }
    }
}
