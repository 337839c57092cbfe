//! Points in time, each with its unit in the type.

use std::time::Duration;

use belfry_protocol::Timestamp;

/// Milliseconds since the Unix epoch: what API Gateway and clocks speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// Seconds since the Unix epoch: what tokens and DynamoDB's TTL speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u64);

impl UnixMillis {
    /// This time and `duration` more; the end of time rather than an overflow.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This time less `duration`; the epoch rather than an underflow.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Time since `earlier`; zero if that is in the future, as it may be when
    /// two clocks differ.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The second that this time lies in.
    #[must_use]
    pub fn to_seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1_000)
    }

    /// As frames carry it.
    #[must_use]
    pub fn to_timestamp(self) -> Timestamp {
        Timestamp::from_millis(self.0)
    }
}

impl UnixSeconds {
    /// The first millisecond of this second.
    #[must_use]
    pub fn to_millis(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(1_000))
    }

    /// Whether this deadline has come. A deadline is the first moment that is
    /// too late, as RFC 7519 says of `exp` ("on or after").
    #[must_use]
    pub fn has_passed(self, now: UnixMillis) -> bool {
        self.to_millis() <= now
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_passed_at_its_first_millisecond() {
        let deadline = UnixSeconds(100);
        assert!(!deadline.has_passed(UnixMillis(99_999)));
        assert!(deadline.has_passed(UnixMillis(100_000)));
    }

    #[test]
    fn nothing_overflows() {
        let end = UnixMillis(u64::MAX);
        assert_eq!(end.plus(Duration::MAX), end);
        assert_eq!(UnixMillis(0).minus(Duration::MAX), UnixMillis(0));
        assert_eq!(UnixMillis(1).since(end), Duration::ZERO);
        assert!(!UnixSeconds(u64::MAX).has_passed(UnixMillis(u64::MAX - 1)));
    }
}
