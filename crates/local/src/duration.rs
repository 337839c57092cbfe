//! Durations as people write them: `250ms`, `90s`, `10m`, `2h`.

use std::time::Duration;

use jiff::SignedDuration;

/// Reads a duration that is not negative and not unreasonably long.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let duration: Option<SignedDuration> = text.parse().ok();
    duration
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| "must be a duration like 250ms, 90s, 10m or 2h".to_owned())
}

/// Far more than anything here needs, and far less than breaks a clock.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);

/// Reads a duration that is not zero.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    let duration = parse(text)?;
    if duration.is_zero() {
        return Err("must be longer than nothing".into());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
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
}
