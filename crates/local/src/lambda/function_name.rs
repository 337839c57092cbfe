//! The forms in which `Invoke` accepts a function's name.

use crate::template::ACCOUNT;

/// The qualifier of the function itself. The local stack publishes no versions
/// and has no aliases, so it knows no other.
pub(super) const LATEST: &str = "$LATEST";

/// A name, a partial ARN or an ARN, each with or without a qualifier.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FunctionName<'a> {
    /// `None` unless it is an ARN.
    pub(super) region: Option<&'a str>,
    pub(super) name: &'a str,
    pub(super) qualifier: Option<&'a str>,
}

/// Why `Invoke` cannot tell which function is meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnresolvedName {
    #[error("Function not found: {0}")]
    NotFound(String),
    #[error("Functions from '{function}' are not reachable in this region ('{stack}')")]
    OtherRegion { function: String, stack: String },
    #[error("The derived qualifier from the function name does not match the specified qualifier.")]
    OtherQualifier,
}

impl<'a> FunctionName<'a> {
    /// A text of none of these forms is a name, which no function has.
    pub(super) fn parse(text: &'a str) -> Self {
        let parts: Vec<_> = text.split(':').collect();
        let (region, rest) = match parts[..] {
            [
                "arn",
                _,
                "lambda",
                region,
                ACCOUNT,
                "function",
                ref rest @ ..,
            ] => (Some(region), rest),
            [ACCOUNT, "function", ref rest @ ..] => (None, rest),
            ref rest => (None, rest),
        };
        match *rest {
            [name] => Self {
                region,
                name,
                qualifier: None,
            },
            [name, qualifier] => Self {
                region,
                name,
                qualifier: Some(qualifier),
            },
            _ => Self {
                region: None,
                name: text,
                qualifier: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_a_name_and_may_have_a_qualifier() {
        let arn = "arn:aws:lambda:eu-west-1:000000000000:function:Connect";
        let region = Some("eu-west-1");
        for (text, region) in [
            ("Connect", None),
            ("000000000000:function:Connect", None),
            (arn, region),
        ] {
            for (text, qualifier) in [
                (text.to_owned(), None),
                (format!("{text}:$LATEST"), Some("$LATEST")),
                (format!("{text}:7"), Some("7")),
                (format!("{text}:"), Some("")),
            ] {
                let expected = FunctionName {
                    region,
                    name: "Connect",
                    qualifier,
                };
                assert_eq!(FunctionName::parse(&text), expected, "{text}");
            }
        }
    }

    #[test]
    fn any_other_text_is_a_name() {
        for text in [
            "",
            "a:b:c",
            "arn:aws:lambda:eu-west-1:000000000000:function",
            "arn:aws:lambda:eu-west-1:111111111111:function:Connect",
            "arn:aws:sqs:eu-west-1:000000000000:function:Connect",
            "000000000000:function:Connect:1:2",
        ] {
            assert_eq!(FunctionName::parse(text).name, text);
        }
    }
}
