use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn rules(channels: &Value) -> ChannelRules {
    let file = json!({"version": "1.0", "channels": channels});
    file.to_string().parse().unwrap()
}

fn claims(token: &Value) -> Claims {
    let token = token.as_object().unwrap();
    Claims::keep(token, token.keys().map(String::as_str)).unwrap()
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

/// Like `0: subscribe, publish`, `1: ask` or `refused`.
fn decision(rules: &ChannelRules, name: &str, token: &Value) -> String {
    match rules.decide(&channel(name), &claims(token)) {
        Decision::Refused => "refused".into(),
        Decision::Allowed { rule, actions } => format!("{rule}: {actions}"),
        Decision::Ask { rule } => format!("{rule}: ask"),
    }
}

/// The rules in docs/CHANNELS.md.
fn documented() -> ChannelRules {
    rules(&json!([
        {"match": "tenant:{custom:tenant}", "allow": ["subscribe"], "autoSubscribe": true, "history": {"seconds": 600}},
        {"match": "tenant:{custom:tenant}:**", "allow": ["subscribe", "publish", "presence", "lock"], "history": {"seconds": 86400}},
        {"match": "admin:**", "groups": ["admins"], "allow": ["subscribe", "publish"]},
        {"match": "demo:**", "allow": ["subscribe", "publish", "presence", "lock"], "history": {"seconds": 300}},
        {"match": "doc:*", "allow": "ask"},
    ]))
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = documented();
    let acme = json!({"custom:tenant": "acme"});
    let both = json!({"custom:tenant": ["acme", "globex"]});
    let admin = json!({"cognito:groups": ["staff", "admins"]});
    let nobody = json!({});
    for (name, token, expected) in [
        ("tenant:acme", &acme, "0: subscribe"),
        (
            "tenant:acme:orders",
            &acme,
            "1: subscribe, publish, presence, lock",
        ),
        (
            "tenant:acme:orders:7",
            &acme,
            "1: subscribe, publish, presence, lock",
        ),
        ("tenant:globex", &acme, "refused"),
        ("tenant:globex:orders", &acme, "refused"),
        ("tenant:globex", &both, "0: subscribe"),
        ("tenant:ACME", &acme, "refused"),
        ("tenant", &acme, "refused"),
        ("tenant:acme", &nobody, "refused"),
        ("admin:audit", &admin, "2: subscribe, publish"),
        ("admin:audit", &acme, "refused"),
        (
            "admin:audit",
            &json!({"cognito:groups": "admins"}),
            "2: subscribe, publish",
        ),
        (
            "admin:audit",
            &json!({"cognito:groups": ["Admins"]}),
            "refused",
        ),
        ("admin", &admin, "refused"),
        ("demo:a:b", &nobody, "3: subscribe, publish, presence, lock"),
        ("doc:7", &nobody, "4: ask"),
        ("doc:7:x", &nobody, "refused"),
        ("other", &acme, "refused"),
    ] {
        assert_eq!(decision(&rules, name, token), expected, "{name} {token}");
    }
    assert_eq!(
        decision(&ChannelRules::default(), "demo:a", &nobody),
        "refused"
    );
}

#[test]
fn rules_for_groups_leave_others_to_the_next_rule() {
    let rules = rules(&json!([
        {"match": "news", "groups": ["editors", "admins"], "allow": ["subscribe", "publish"]},
        {"match": "news", "groups": ["banned"], "allow": ["presence"]},
        {"match": "news", "allow": ["subscribe"]},
        {"match": "**", "groups": ["admins"], "allow": "ask"},
    ]));
    for (groups, expected) in [
        (json!(["admins"]), "0: subscribe, publish"),
        (json!(["banned", "editors"]), "0: subscribe, publish"),
        (json!(["banned"]), "1: presence"),
        (json!([]), "2: subscribe"),
    ] {
        let token = json!({"cognito:groups": groups});
        assert_eq!(decision(&rules, "news", &token), expected, "{token}");
    }
}

#[test]
fn a_claim_that_is_no_segment_matches_nothing() {
    let rules = rules(&json!([
        {"match": "a:{x}", "allow": ["subscribe"]},
        {"match": "b:{x}:**", "allow": ["subscribe"]},
        {"match": "{x}", "allow": ["subscribe"], "autoSubscribe": true},
    ]));
    for value in [
        "", ":", "b:c", "*", "**", "{x}", "a b", "ü", "a\n", "@me", "@all", "x:",
    ] {
        let token = json!({"x": value});
        for name in ["a:b", "a:b:c", "b:c", "b:b:c", "b:c:d", "x", "me"] {
            assert_eq!(
                decision(&rules, name, &token),
                "refused",
                "{value:?} {name}"
            );
        }
        assert_eq!(rules.auto_subscribe(&claims(&token)), [], "{value:?}");
    }
    assert_eq!(
        decision(&rules, "a:@me", &json!({"x": "@me"})),
        "0: subscribe"
    );
}

#[test]
fn the_rules_name_the_claims_that_they_need() {
    let names = |rules: &ChannelRules| {
        let names = rules.claim_names();
        names.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&documented()), ["cognito:groups", "custom:tenant"]);
    let own = rules(&json!([{"match": "{sub}:{b}:{sub}", "allow": "ask"}]));
    assert_eq!(names(&own), ["b", "sub"]);
    assert_eq!(ChannelRules::default().claim_names().len(), 0);
}

#[test]
fn history_belongs_to_the_channel() {
    let seconds = |rules: &ChannelRules, address: &str| {
        let history = rules.history(&Address::parse(address).unwrap());
        history.map(|history| history.retention.as_secs())
    };
    let rules = documented();
    for (address, expected) in [
        ("tenant:anyone", Some(600)),
        ("tenant:anyone:orders", Some(86_400)),
        ("admin:audit", None),
        ("demo:a", Some(300)),
        ("doc:7", None),
        ("other", None),
        ("@me", None),
        ("@all", None),
    ] {
        assert_eq!(seconds(&rules, address), expected, "{address}");
    }
    let own: ChannelRules = r#"{"version":"1.0","user":{"history":{"seconds":60}},"all":{"history":{"seconds":90}},"channels":[
        {"match":"a:{x}","groups":["g"],"allow":["subscribe"]},
        {"match":"a:*","allow":["subscribe"],"history":{"seconds":100}},
        {"match":"b:*","groups":["g"],"allow":"ask","history":{"seconds":200}},
        {"match":"**","allow":["subscribe"],"history":{"seconds":300}}]}"#
        .parse()
        .unwrap();
    for (address, expected) in [
        ("@me", Some(60)),
        ("@all", Some(90)),
        // The first rule that fits anyone has none.
        ("a:1", None),
        ("b:1", Some(200)),
        ("c", Some(300)),
    ] {
        assert_eq!(seconds(&own, address), expected, "{address}");
    }
}

#[test]
fn connections_are_subscribed_to_the_channels_of_their_claims() {
    let rules = rules(&json!([
        {"match": "closed:*", "allow": ["publish"]},
        {"match": "asked:*", "allow": "ask"},
        {"match": "user:{sub}", "allow": ["subscribe"], "autoSubscribe": true},
        {"match": "{team}:{place}", "allow": ["subscribe"], "autoSubscribe": true},
        {"match": "staff", "groups": ["staff"], "allow": ["subscribe"], "autoSubscribe": true},
        {"match": "news", "allow": ["subscribe"], "autoSubscribe": true},
        {"match": "later:{sub}", "allow": ["subscribe"], "autoSubscribe": false},
    ]));
    let names = |token: &Value| {
        let channels = rules.auto_subscribe(&claims(token));
        channels.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&json!({})), ["news"]);
    assert_eq!(names(&json!({"sub": "alice"})), ["user:alice", "news"]);
    let token = json!({
        "sub": "a:b", "cognito:groups": ["staff"],
        "team": ["red", "closed", "asked", "red", "a:b", ""], "place": ["x", "y"],
    });
    assert_eq!(names(&token), ["red:x", "red:y", "staff", "news"]);
    let long = "x".repeat(124);
    assert_eq!(names(&json!({"sub": long})), ["news"]);
}

#[test]
fn no_list_of_claims_makes_more_than_fifty_subscriptions() {
    let rules = rules(&json!([
        {"match": "{a}:{a}:{a}:{a}:{a}:{a}:{a}:{a}", "allow": ["subscribe"], "autoSubscribe": true},
        {"match": "{a}", "allow": ["subscribe"], "autoSubscribe": true},
    ]));
    let texts: Vec<_> = (0..300).map(|n| format!("{n}")).collect();
    let channels = rules.auto_subscribe(&claims(&json!({"a": texts})));
    assert_eq!(channels.len(), 50);
}

/// Texts that a careless matcher would take for more than a segment.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab:*{}@.]{0,6}",
        "(?s).{0,6}",
        "a|b|\\*\\*|a:b|\\{x\\}|@me"
    ]
}

fn name() -> impl Strategy<Value = ChannelName> {
    "[ab.][ab.@]{0,2}(:[ab.@]{1,3}){0,3}".prop_map(|text| channel(&text))
}

proptest! {
    #[test]
    fn a_claim_opens_nothing_outside_its_own_segment(
        values in prop::collection::vec(value(), 0..4),
        name in name(),
    ) {
        let rules = rules(&json!([
            {"match": "a:{x}", "allow": ["subscribe"], "autoSubscribe": true},
            {"match": "{x}:b:**", "allow": ["subscribe"]},
        ]));
        let claims = claims(&json!({"x": values}));
        let own = |segment: &str| values.iter().any(|value| value == segment);
        let segments: Vec<_> = name.segments().collect();
        let expected = match &segments[..] {
            ["a", segment] => own(segment),
            [first, "b", _, ..] => own(first),
            _ => false,
        };
        let allowed = rules.decide(&name, &claims).allows(Action::Subscribe);
        prop_assert_eq!(allowed, expected);
        for channel in rules.auto_subscribe(&claims) {
            let segments: Vec<_> = channel.segments().collect();
            prop_assert!(matches!(&segments[..], ["a", segment] if own(segment)), "{}", channel);
        }
    }

    #[test]
    fn history_is_the_same_for_everyone_who_may_read(value in value(), name in name()) {
        let rules = documented();
        let token = claims(&json!({"custom:tenant": value, "cognito:groups": [value]}));
        if let Decision::Allowed { rule, .. } = rules.decide(&name, &token) {
            let own = rules.rules()[rule].history.map(History::from);
            prop_assert_eq!(rules.history(&Address::Channel(name)), own);
        }
    }
}
