//! Settings from environment variables.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use belfry_core::connections::{AllowedOrigins, OriginPolicy};
use belfry_core::liveness::LivenessSettings;
use belfry_core::presence::PresenceSettings;
use belfry_protocol::MAX_FRAME_BYTES;

/// A setting is missing or invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} {problem}")]
pub struct SettingError {
    name: &'static str,
    problem: String,
}

impl SettingError {
    pub(crate) fn new(name: &'static str, problem: impl Display) -> Self {
        Self {
            name,
            problem: problem.to_string(),
        }
    }
}

/// The environment variables. An empty value counts as absent, because
/// CloudFormation can set a variable to nothing but cannot leave it out.
#[derive(Debug, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// The process's own environment. A value that is not Unicode counts as absent.
    #[must_use]
    pub fn of_process() -> Self {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        std::env::vars_os().filter_map(unicode).collect()
    }

    /// An optional text.
    #[must_use]
    pub fn optional(&self, name: &'static str) -> Option<String> {
        let value = self.0.get(name).map(|value| value.trim());
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// A required text.
    ///
    /// # Errors
    /// [`SettingError`] if it is absent.
    pub fn required(&self, name: &'static str) -> Result<String, SettingError> {
        self.optional(name)
            .ok_or_else(|| SettingError::new(name, "is not set"))
    }

    /// A value that can be parsed, or the default.
    ///
    /// # Errors
    /// [`SettingError`] if it is present and invalid.
    pub fn parsed<T: FromStr<Err: Display>>(
        &self,
        name: &'static str,
        default: T,
    ) -> Result<T, SettingError> {
        match self.optional(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|error: T::Err| SettingError::new(name, error)),
        }
    }

    /// A whole number in a range, or the default.
    ///
    /// # Errors
    /// [`SettingError`] if it is present and not such a number.
    pub fn number(
        &self,
        name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, SettingError> {
        let value = match self.optional(name) {
            None => Some(default),
            Some(text) => text.parse().ok(),
        };
        value.filter(|value| range.contains(value)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            SettingError::new(
                name,
                format_args!("must be a whole number from {least} to {most}"),
            )
        })
    }

    /// `true` or `false`, or the default.
    ///
    /// # Errors
    /// [`SettingError`] for any other word.
    pub fn flag(&self, name: &'static str, default: bool) -> Result<bool, SettingError> {
        match self.optional(name).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(SettingError::new(name, "must be true or false")),
        }
    }

    /// The region of the AWS endpoints.
    ///
    /// # Errors
    /// [`SettingError`] if neither Belfry's variable nor Lambda's is set.
    pub fn region(&self) -> Result<String, SettingError> {
        match self.optional("WEBSOCKET_REGION") {
            Some(region) => Ok(region),
            None => self.required("AWS_REGION"),
        }
    }
}

/// Settings that several functions share.
impl Environment {
    /// A whole number of at least one, or the default.
    pub(crate) fn count(
        &self,
        name: &'static str,
        default: u64,
        most: u64,
    ) -> Result<u32, SettingError> {
        let number = self.number(name, default, 1..=most)?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// The pages that may connect.
    pub(crate) fn origins(&self) -> Result<OriginPolicy, SettingError> {
        Ok(OriginPolicy {
            allowed: self.parsed("ALLOWED_ORIGINS", AllowedOrigins::default())?,
            allow_missing: self.flag("ALLOW_MISSING_ORIGIN", true)?,
        })
    }

    /// The longest frame that is parsed.
    pub(crate) fn max_message_bytes(&self) -> Result<usize, SettingError> {
        let bytes = self.number("MAX_MESSAGE_BYTES", 16_384, 256..=MAX_FRAME_BYTES as u64)?;
        Ok(usize::try_from(bytes).unwrap_or(MAX_FRAME_BYTES))
    }

    pub(crate) fn connections_per_worker(&self) -> Result<u32, SettingError> {
        self.count("CONNECTIONS_PER_WORKER", 5_000, 1_000_000)
    }

    /// Connections of the stack at a time.
    pub(crate) fn max_connections(&self) -> Result<u64, SettingError> {
        self.number("MAX_CONNECTIONS", 10_000, 1..=10_000_000)
    }

    /// Connections of a user at a time.
    pub(crate) fn connections_per_user(&self) -> Result<u32, SettingError> {
        self.count("MAX_CONNECTIONS_PER_USER", 20, 1_000)
    }

    /// Frames of a connection, or messages of a user's HTTP readers.
    pub(crate) fn messages_per_minute(&self) -> Result<u32, SettingError> {
        self.count("MESSAGES_PER_MINUTE", 600, 60_000)
    }

    /// How presence is announced.
    pub(crate) fn presence(&self) -> Result<PresenceSettings, SettingError> {
        let announced = self.number("PRESENCE_ANNOUNCED", 100, 1..=100)?;
        Ok(PresenceSettings {
            announced: usize::try_from(announced).unwrap_or(1),
        })
    }

    /// How long API Gateway lets a connection live.
    pub(crate) fn connection_lifetime(&self) -> Result<Duration, SettingError> {
        let seconds = self.number("CONNECTION_LIFETIME_SECONDS", 7_200, 10..=7_200)?;
        Ok(Duration::from_secs(seconds))
    }

    /// When connections are checked. With a sweep a minute, an interval beyond
    /// 520 seconds would exceed API Gateway's idle timeout.
    pub(crate) fn liveness(&self) -> Result<LivenessSettings, SettingError> {
        let interval = self.number("HEARTBEAT_INTERVAL_SECONDS", 480, 1..=520)?;
        let grace = self.number("HEARTBEAT_GRACE_SECONDS", 30, 1..=300)?;
        Ok(LivenessSettings {
            heartbeat_interval: Duration::from_secs(interval),
            heartbeat_grace: Duration::from_secs(grace),
            connection_lifetime: self.connection_lifetime()?,
        })
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let owned = |(name, value): (N, V)| (name.into(), value.into());
        Self(variables.into_iter().map(owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(value: &str) -> Environment {
        Environment::from_iter([("X", value)])
    }

    #[test]
    fn empty_is_absent() {
        for empty in [environment(""), environment("  "), Environment::default()] {
            assert_eq!(empty.required("X").unwrap_err().to_string(), "X is not set");
            assert_eq!(empty.number("X", 3, 1..=5), Ok(3));
            assert_eq!(empty.flag("X", true), Ok(true));
        }
    }

    #[test]
    fn errors_name_the_variable_and_say_what_is_expected() {
        for wrong in ["0", "6", "-1", "1.5", "many"] {
            let error = environment(wrong).number("X", 3, 1..=5).unwrap_err();
            assert_eq!(error.to_string(), "X must be a whole number from 1 to 5");
        }
        let error = environment("yes").flag("X", true).unwrap_err();
        assert_eq!(error.to_string(), "X must be true or false");
    }

    #[test]
    fn belfrys_region_takes_precedence_over_lambdas() {
        let both = [
            ("WEBSOCKET_REGION", "eu-west-1"),
            ("AWS_REGION", "us-east-1"),
        ];
        let region = |variables: &[(&str, &str)]| {
            let environment: Environment = variables.iter().copied().collect();
            environment.region().unwrap()
        };
        assert_eq!(region(&both), "eu-west-1");
        assert_eq!(region(&both[1..]), "us-east-1");
        assert!(Environment::default().region().is_err());
    }
}
