//! A parser accepts exactly the texts that the pattern in its schema allows.

use belfry_protocol::{
    Address, ChannelName, ChannelPattern, ConnectionId, FrameId, Group, MessageId, Timestamp,
    UserId, Version,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::string::string_regex;
use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A type whose schema has a pattern.
struct Text {
    schema: Value,
    is_parsed: fn(&str) -> bool,
}

fn text<T: JsonSchema + DeserializeOwned>() -> Text {
    Text {
        schema: schema_for!(T).into(),
        is_parsed: |text| serde_json::from_value::<T>(text.into()).is_ok(),
    }
}

fn all() -> [Text; 10] {
    [
        text::<Timestamp>(),
        text::<Version>(),
        text::<ConnectionId>(),
        text::<UserId>(),
        text::<MessageId>(),
        text::<FrameId>(),
        text::<Group>(),
        text::<ChannelName>(),
        text::<Address>(),
        text::<ChannelPattern>(),
    ]
}

/// Texts that one of the patterns and its length allow, with the index of its type.
fn allowed() -> impl Strategy<Value = (usize, String)> {
    (0..all().len()).prop_flat_map(|index| {
        let schema = &all()[index].schema;
        let pattern = schema["pattern"].as_str().unwrap();
        let inside = pattern.trim_start_matches('^').trim_end_matches('$');
        let longest = schema["maxLength"]
            .as_u64()
            .map_or(usize::MAX, |most| most as usize);
        let short = move |text: &String| text.chars().count() <= longest;
        let text = string_regex(inside).unwrap();
        (Just(index), text.prop_filter("too long", short))
    })
}

proptest! {
    #[test]
    fn every_text_that_the_pattern_allows_is_parsed((index, text) in allowed()) {
        prop_assert!((all()[index].is_parsed)(&text), "{text:?}");
    }

    #[test]
    fn a_damaged_text_is_parsed_if_the_schema_allows_it(
        (index, text) in allowed(),
        at in any::<Index>(),
        length in 0..3_usize,
        piece in "[0-9]{0,2}|[:.TZ+-]|\\PC|[\\x00-\\x20\\x7e-\\xa1]",
        times in select(vec![1, 1, 1, 127, 128]),
    ) {
        let mut text: Vec<char> = text.chars().collect();
        let from = at.index(text.len() + 1);
        let to = (from + length).min(text.len());
        text.splice(from..to, piece.repeat(times).chars());
        let text: String = text.into_iter().collect();
        let Text { schema, is_parsed } = &all()[index];
        let validator = jsonschema::validator_for(schema).unwrap();
        let allowed = validator.is_valid(&Value::from(text.as_str()));
        prop_assert_eq!(is_parsed(&text), allowed, "{:?}", text);
    }
}

#[test]
fn every_date_is_parsed_if_the_schema_allows_it() {
    let Text { schema, is_parsed } = text::<Timestamp>();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for year in [
        "0000", "0001", "1900", "2000", "2024", "2026", "2100", "9996", "9999",
    ] {
        for month in 0..=13 {
            for day in 0..=32 {
                let text = format!("{year}-{month:02}-{day:02}T23:59:60.999999999Z");
                let allowed = validator.is_valid(&Value::from(text.as_str()));
                assert_eq!(is_parsed(&text), allowed, "{text}");
            }
        }
    }
    for hour in 0..=25 {
        for (minute, second) in [(0, 0), (59, 60), (60, 0), (0, 61)] {
            let text = format!("2026-02-09T{hour:02}:{minute:02}:{second:02}Z");
            let allowed = validator.is_valid(&Value::from(text.as_str()));
            assert_eq!(is_parsed(&text), allowed, "{text}");
        }
    }
}
