//! Whether a channel's name fits the pattern of a rule.

use belfry_protocol::{ChannelName, ChannelPattern, PatternSegment};

/// Compares segment by segment; `claim_fits` says whether a segment fits a
/// `{claim}`.
pub(super) fn fits(
    pattern: &ChannelPattern,
    name: &ChannelName,
    claim_fits: impl Fn(&str, &str) -> bool,
) -> bool {
    let mut segments = name.segments();
    for expected in pattern.segments() {
        let Some(segment) = segments.next() else {
            return false;
        };
        let fits = match expected {
            PatternSegment::Name(name) => name == segment,
            PatternSegment::Claim(claim) => claim_fits(claim, segment),
            PatternSegment::Any => true,
            PatternSegment::Rest => return true,
        };
        if !fits {
            return false;
        }
    }
    segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_names() {
        for (pattern, fitting, others) in [
            ("room", &["room"][..], &["rooms", "Room", "room:1"][..]),
            ("room:7", &["room:7"], &["room", "room:77", "room:7:a"]),
            (
                "room:*",
                &["room:7", "room:a"],
                &["room", "room:7:a", "rooms:7"],
            ),
            ("*:7", &["a:7"], &["7", "a:8", "a:b:7"]),
            ("room:**", &["room:7", "room:7:a:b"], &["room", "rooms:7"]),
            ("**", &["a", "a:b:c"], &[]),
            ("*:**", &["a:b", "a:b:c"], &["a"]),
            ("u:{id}", &["u:me"], &["u", "u:you", "u:me:x"]),
            ("u:{id}:**", &["u:me:x", "u:me:x:y"], &["u:me", "u:you:x"]),
            ("{id}:{id}", &["me:me"], &["me:you", "me"]),
            ("{other}", &[], &["me", "other"]),
        ] {
            let parsed = ChannelPattern::parse(pattern).unwrap();
            let fits = |name: &&&str| {
                let name = ChannelName::parse(**name).unwrap();
                fits(&parsed, &name, |claim, text| claim == "id" && text == "me")
            };
            let all: Vec<_> = fitting.iter().chain(others).filter(fits).copied().collect();
            assert_eq!(all, fitting, "{pattern}");
        }
    }
}
