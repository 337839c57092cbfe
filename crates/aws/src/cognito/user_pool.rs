use std::str::FromStr;

/// A Cognito user pool, known by its ID, which begins with the pool's region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPool {
    region: String,
    id: String,
}

/// The text is not the ID of a user pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the ID of a user pool, like eu-west-1_AbCdEf123")]
pub struct InvalidUserPool;

impl UserPool {
    /// The issuers of its tokens: the original one, below which its keys are,
    /// and the one of pools that were updated (AWS: "IssuerConfigurationType").
    #[must_use]
    pub fn issuers(&self) -> [String; 2] {
        let Self { region, id } = self;
        let suffix = match region.starts_with("cn-") {
            true => "amazonaws.com.cn",
            false => "amazonaws.com",
        };
        ["cognito-idp", "issuer-cognito-idp"]
            .map(|service| format!("https://{service}.{region}.{suffix}/{id}"))
    }
}

impl FromStr for UserPool {
    type Err = InvalidUserPool;

    fn from_str(id: &str) -> Result<Self, InvalidUserPool> {
        let (region, name) = id.split_once('_').ok_or(InvalidUserPool)?;
        let is_region = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let valid = !region.is_empty()
            && region.chars().all(is_region)
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric());
        if !valid {
            return Err(InvalidUserPool);
        }
        Ok(Self {
            region: region.into(),
            id: id.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_determines_the_issuers() {
        for (id, issuers) in [
            (
                "eu-west-1_AbCdEf123",
                [
                    "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEf123",
                    "https://issuer-cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEf123",
                ],
            ),
            (
                "us-gov-west-1_a",
                [
                    "https://cognito-idp.us-gov-west-1.amazonaws.com/us-gov-west-1_a",
                    "https://issuer-cognito-idp.us-gov-west-1.amazonaws.com/us-gov-west-1_a",
                ],
            ),
            (
                "cn-north-1_a",
                [
                    "https://cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_a",
                    "https://issuer-cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_a",
                ],
            ),
        ] {
            assert_eq!(id.parse::<UserPool>().unwrap().issuers(), issuers);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for wrong in [
            "",
            "_",
            "pool",
            "eu-west-1_",
            "_abc",
            "eu-west-1_a_b",
            "eu-west-1.evil.test/_a",
            "EU-west-1_a",
            "eu-west-1_a/../b",
            "eu-west-1_ü",
        ] {
            assert_eq!(wrong.parse::<UserPool>(), Err(InvalidUserPool), "{wrong}");
        }
    }
}
