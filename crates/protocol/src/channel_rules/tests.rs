use proptest::prelude::*;

use super::*;

#[test]
fn minified_is_the_same_rules_without_the_rest() {
    let text = r#" {
        "$schema": "./schemas/channels.json", "version": "1.3", "all": null,
        "user": {"history": {"seconds": 600}},
        "channels": [
            {"history": null, "allow": ["publish", "subscribe"], "match": "a\u003ab", "autoSubscribe": false},
            {"match": "{sub}", "groups": ["ü"], "allow": "ask"}
        ]
    }"#;
    let minified = ChannelsFile::parse(text).unwrap().minified();
    assert_eq!(
        minified,
        r#"{"version":"1.0","user":{"history":{"seconds":600}},"channels":[{"match":"a:b","allow":["publish","subscribe"],"autoSubscribe":false},{"match":"{sub}","allow":"ask","groups":["ü"]}]}"#
    );
    assert_eq!(ChannelsFile::parse(&minified).unwrap().minified(), minified);
    assert_eq!(ChannelsFile::default().minified(), r#"{"version":"1.0"}"#);
}

#[test]
fn a_long_match_is_cut_in_messages() {
    let file = format!(
        r#"{{"version":"1.0","channels":[{{"match":"{} ","allow":"ask"}}]}}"#,
        "ü".repeat(2_000)
    );
    let error = ChannelsFile::parse(&file).unwrap_err().to_string();
    assert!(error.starts_with("channels[0] (üüü"), "{error}");
    assert!(error.contains("ü…), match: must be"), "{error}");
    assert!(error.len() < 300, "{error}");
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text in r#"(\PC|[{}\[\]":,*@]|match|allow|ask|channels){0,40}"#) {
        let _ = ChannelsFile::parse(&text);
        let _ = ChannelPattern::parse(text);
    }
}
