//! The rules of channels: the parser against the schema, and the evaluator
//! against a slower one that writes the claims into the pattern first.

use std::sync::LazyLock;

use belfry_core::channels::{ChannelRules, Claims, Decision};
use belfry_protocol::{Action, Address, ChannelName, ChannelsFile};
use jsonschema::Validator;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::config;
use crate::mutate::{Corpus, mutated};
use crate::schema::{CHANNELS, is_beyond_schemas, judged};

static FILES: LazyLock<Corpus> = LazyLock::new(|| Corpus::of_cases("channels.json"));

/// What no schema says: rules that depend on each other, and the size.
fn is_about_all_rules(explanation: &str) -> bool {
    [
        "autoSubscribe: ",
        "never decides: ",
        "never counts: ",
        "bytes when minified",
    ]
    .iter()
    .any(|part| explanation.contains(part))
}

fn agrees(schema: &Validator, text: &str) -> Result<(), TestCaseError> {
    let by_schema = judged(schema, text);
    match ChannelsFile::parse(text) {
        Ok(file) => {
            prop_assert_eq!(by_schema, Some(true));
            let minified = file.minified();
            prop_assert!(minified.len() <= 3_072);
            let again = ChannelsFile::parse(&minified).map(|file| file.minified());
            prop_assert_eq!(again, Ok(minified));
        }
        Err(error) => {
            let explanation = error.to_string();
            let beyond = is_beyond_schemas(&explanation) || is_about_all_rules(&explanation);
            prop_assert!(by_schema != Some(true) || beyond, "{}", explanation);
            prop_assert!(explanation.len() <= 300, "{}", explanation);
        }
    }
    Ok(())
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = "[ab]|\\*|\\{x\\}|\\{y:z\\}";
    (vec(segment, 1..4), any::<bool>()).prop_map(|(mut segments, rest)| {
        if rest {
            segments.push("**".into());
        }
        segments.join(":")
    })
}

/// Rules without two of the same match, which would be refused.
fn rules() -> impl Strategy<Value = Vec<Value>> {
    let allow = prop_oneof![
        Just(json!("ask")),
        Just(json!(["subscribe"])),
        Just(json!(["publish", "lock"])),
    ];
    let groups = prop_oneof![
        Just(json!(null)),
        Just(json!(["g"])),
        Just(json!(["h", "g"]))
    ];
    let rule = (pattern(), allow, groups).prop_map(
        |(pattern, allow, groups)| json!({"match": pattern, "allow": allow, "groups": groups}),
    );
    vec(rule, 0..6).prop_map(|mut rules| {
        let mut seen = Vec::new();
        rules.retain(|rule| {
            let is_new = !seen.contains(&rule["match"]);
            seen.push(rule["match"].clone());
            is_new
        });
        rules
    })
}

fn claim() -> impl Strategy<Value = Value> {
    let text = || "[ab]|[ab:*{}@x ]{0,3}|a:b|\\*\\*|(?s).{0,3}";
    prop_oneof![
        text().prop_map(Value::from),
        vec(text(), 0..4).prop_map(Value::from),
        Just(json!(7)),
        Just(json!(["a", 7])),
    ]
}

fn token() -> impl Strategy<Value = Value> {
    let groups = prop_oneof![Just(json!([])), Just(json!("g")), Just(json!(["g", "k"]))];
    (claim(), claim(), groups)
        .prop_map(|(x, y, groups)| json!({"x": x, "y:z": y, "cognito:groups": groups}))
}

/// The texts of a claim that can be segments.
fn segments_of(claim: &Value) -> Vec<String> {
    let texts = match claim {
        Value::Array(list) if list.iter().all(Value::is_string) => list.clone(),
        Value::String(text) => vec![json!(text)],
        _ => Vec::new(),
    };
    let texts = texts.iter().filter_map(Value::as_str).map(str::to_owned);
    texts
        .filter(|text| !text.is_empty() && text.chars().all(|c| "ab@x".contains(c)))
        .collect()
}

/// Every pattern that results from writing the claims into this one.
fn without_claims(pattern: &str, token: &Value) -> Vec<String> {
    for claim in ["x", "y:z"] {
        let placeholder = format!("{{{claim}}}");
        if pattern.contains(&placeholder) {
            let texts = segments_of(&token[claim]).into_iter();
            return texts
                .map(|text| pattern.replacen(&placeholder, &text, 1))
                .flat_map(|pattern| without_claims(&pattern, token))
                .collect();
        }
    }
    vec![pattern.to_owned()]
}

fn fits(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (["**"], [_, ..]) => true,
        (["*", pattern @ ..], [_, name @ ..]) => fits(pattern, name),
        ([one, pattern @ ..], [other, name @ ..]) => one == other && fits(pattern, name),
        _ => false,
    }
}

fn is_met(rule: &Value, name: &str, token: &Value) -> bool {
    let is_member = rule["groups"].is_null() || token["cognito:groups"] != json!([]);
    let name: Vec<_> = name.split(':').collect();
    let matches = without_claims(rule["match"].as_str().unwrap(), token);
    let fits = |pattern: &String| fits(&pattern.split(':').collect::<Vec<_>>(), &name);
    is_member && matches.iter().any(fits)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_file_is_accepted_as_its_schema_says(text in mutated(&FILES)) {
        agrees(&CHANNELS, &text)?;
    }

    #[test]
    fn an_accepted_file_decides_about_any_channel(
        text in mutated(&FILES),
        name in "[a-z@:.]{0,12}|tenant:[a-z]{1,3}|doc:[0-9]",
        token in token(),
    ) {
        if let (Ok(file), Ok(name)) = (ChannelsFile::parse(&text), ChannelName::parse(name)) {
            let rules = ChannelRules::from(file);
            let claims = Claims::keep(token.as_object().unwrap(), rules.claim_names()).unwrap();
            let decision = rules.decide(&name, &claims);
            if let Decision::Allowed { rule, .. } | Decision::Ask { rule } = decision {
                prop_assert!(rule < rules.rules().len());
            }
            if let Some(history) = rules.history(&Address::Channel(name)) {
                prop_assert!((60..=2_592_000).contains(&history.retention.as_secs()));
            }
            for channel in rules.auto_subscribe(&claims) {
                prop_assert!(rules.decide(&channel, &claims).allows(Action::Subscribe));
            }
        }
    }

    #[test]
    fn the_first_rule_that_is_met_decides(
        rules in rules(),
        token in token(),
        name in "[abx](:[abx@]{1,2}){0,3}",
    ) {
        let file = json!({"version": "1.0", "channels": rules}).to_string();
        let evaluated: ChannelRules = file.parse().unwrap();
        let claims = Claims::keep(token.as_object().unwrap(), evaluated.claim_names()).unwrap();
        let decision = evaluated.decide(&ChannelName::parse(name.as_str()).unwrap(), &claims);
        let expected = rules.iter().position(|rule| is_met(rule, &name, &token));
        match (decision, expected) {
            (Decision::Refused, None) => {}
            (Decision::Ask { rule }, Some(index)) => {
                prop_assert_eq!(rule, index);
                prop_assert_eq!(&rules[index]["allow"], "ask");
            }
            (Decision::Allowed { rule, actions }, Some(index)) => {
                prop_assert_eq!(rule, index);
                let words: Vec<_> = actions.iter().map(Action::as_str).collect();
                prop_assert_eq!(json!(words), rules[index]["allow"].clone());
            }
            (decision, expected) => prop_assert!(false, "{decision:?}, not {expected:?}"),
        }
    }
}
