//! Durations as people write them: `250ms`, `90s`, `10m`, `2h`.

use std::time::Duration;

use jiff::SignedDuration;

/// Parses a duration of at most a year.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let duration: Option<SignedDuration> = text.parse().ok();
    duration
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| *duration <= MAX)
        .ok_or_else(|| "must be a duration like 250ms, 90s, 10m or 2h, at most a year".to_owned())
}

/// No setting needs more, and no clock overflows.
const MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// Parses a duration above zero.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    let duration = parse(text)?;
    if duration.is_zero() {
        return Err("must be longer than zero".into());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, ms) in [
            ("250ms", 250),
            ("90s", 90_000),
            ("600s", 600_000),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("1h 30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "10", "-1s", "soon", "10 parsecs", "100000h"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_positive("0s").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_duration_of_at_most_a_year_or_an_error(
            text in "(?s).{0,40}|[-+]?[0-9]{1,30}[.,]?[0-9]{0,12} ?[a-zµ]{0,9}|P?T?([0-9]{1,20}[YMWDHS]){1,4}",
        ) {
            for duration in [parse(&text), parse_positive(&text)].into_iter().flatten() {
                prop_assert!(duration <= MAX);
            }
        }
    }
}
