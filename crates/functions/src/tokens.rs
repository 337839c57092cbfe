use belfry_aws::Http;
use belfry_aws::cognito::{
    CognitoVerifier, HttpJwks, InvalidJwksUrl, InvalidUserPool, JwksCache, JwksUrl, TokenPolicy,
    TokenUse, UserPool,
};

use belfry_core::channels::ChannelRules;

use crate::environment::{Environment, SettingError};

const USER_POOL_ID: &str = "COGNITO_USER_POOL_ID";
const CLIENT_IDS: &str = "COGNITO_CLIENT_IDS";

/// The accepted tokens and the address of their signing keys: settings that
/// `$connect` and `$default` share.
#[derive(Debug)]
pub(crate) struct Tokens {
    policy: TokenPolicy,
    jwks: JwksUrl,
    /// They say which claims of a token are kept.
    pub(crate) rules: ChannelRules,
}

impl Tokens {
    pub(crate) fn read(environment: &Environment) -> Result<Self, SettingError> {
        let rules = environment.parsed("CHANNEL_RULES", ChannelRules::default())?;
        let issuers = issuers(environment)?;
        let well_known: Result<JwksUrl, InvalidJwksUrl> =
            format!("{}/.well-known/jwks.json", issuers[0].trim_end_matches('/')).parse();
        let jwks = match well_known {
            Ok(default) => environment.parsed("TOKEN_JWKS_URL", default)?,
            // An issuer need not be an address if the keys have one.
            Err(_) => environment
                .required("TOKEN_JWKS_URL")?
                .parse()
                .map_err(|error: InvalidJwksUrl| SettingError::new("TOKEN_JWKS_URL", error))?,
        };
        let listed = environment.required(CLIENT_IDS)?;
        let client_ids: Vec<String> = listed
            .split(',')
            .map(|id| id.trim().to_owned())
            .filter(|id| !id.is_empty())
            .collect();
        if client_ids.is_empty() {
            return Err(SettingError::new(CLIENT_IDS, "names no client"));
        }
        Ok(Self {
            policy: TokenPolicy {
                issuers,
                client_ids,
                token_use: environment.parsed("TOKEN_USE", TokenUse::Access)?,
                user_id_claim: environment
                    .optional("USER_ID_CLAIM")
                    .unwrap_or_else(|| "sub".into()),
                kept_claims: rules.claim_names().into_iter().map(Into::into).collect(),
            },
            jwks,
            rules,
        })
    }

    /// The verifier. It fetches the keys when it sees its first token.
    pub(crate) fn verifier(self, http: Http) -> CognitoVerifier<HttpJwks> {
        let keys = HttpJwks::new(http, self.jwks);
        CognitoVerifier::new(self.policy, JwksCache::new(keys))
    }
}

/// The accepted issuers. The keys are below the first.
fn issuers(environment: &Environment) -> Result<Vec<String>, SettingError> {
    if let Some(issuer) = environment.optional("TOKEN_ISSUER") {
        return Ok(vec![issuer]);
    }
    let pool: UserPool = environment
        .required(USER_POOL_ID)?
        .parse()
        .map_err(|error: InvalidUserPool| SettingError::new(USER_POOL_ID, error))?;
    Ok(pool.issuers().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changes: &[(&str, &str)]) -> Result<Tokens, SettingError> {
        let mut variables = vec![
            ("COGNITO_USER_POOL_ID", "eu-west-1_abc"),
            ("COGNITO_CLIENT_IDS", "web, app,"),
        ];
        variables.extend(changes);
        Tokens::read(&variables.into_iter().collect())
    }

    #[test]
    fn the_pool_determines_issuer_and_keys() {
        for (pool, host) in [
            ("eu-west-1_abc", "eu-west-1.amazonaws.com"),
            ("cn-north-1_abc", "cn-north-1.amazonaws.com.cn"),
        ] {
            let tokens = read(&[
                ("COGNITO_USER_POOL_ID", pool),
                ("AWS_REGION", "us-east-1"),
                ("WEBSOCKET_REGION", "us-east-1"),
            ])
            .unwrap();
            let original = format!("https://cognito-idp.{host}/{pool}");
            let updated = format!("https://issuer-cognito-idp.{host}/{pool}");
            assert_eq!(tokens.policy.issuers, [original.clone(), updated]);
            let keys = format!("{original}/.well-known/jwks.json");
            assert_eq!(tokens.jwks, keys.parse().unwrap());
        }
        let tokens = read(&[]).unwrap();
        assert_eq!(tokens.policy.client_ids, ["web", "app"]);
        assert_eq!(tokens.policy.token_use, TokenUse::Access);
        assert_eq!(tokens.policy.user_id_claim, "sub");
    }

    #[test]
    fn another_issuer_needs_no_pool() {
        let issuer = ("TOKEN_ISSUER", "http://127.0.0.1:9/p");
        let tokens = read(&[("COGNITO_USER_POOL_ID", ""), issuer]).unwrap();
        assert_eq!(
            tokens.jwks,
            "http://127.0.0.1:9/p/.well-known/jwks.json"
                .parse()
                .unwrap()
        );
        let tokens = read(&[
            ("TOKEN_ISSUER", "urn:issuer"),
            ("TOKEN_JWKS_URL", "https://a.test/k"),
        ])
        .unwrap();
        assert_eq!(tokens.policy.issuers, ["urn:issuer"]);
    }

    #[test]
    fn an_invalid_setting_is_named() {
        for (name, value) in [
            ("COGNITO_USER_POOL_ID", ""),
            ("COGNITO_USER_POOL_ID", "abc"),
            ("COGNITO_CLIENT_IDS", " "),
            ("COGNITO_CLIENT_IDS", ", ,"),
            ("TOKEN_JWKS_URL", "http://a.test/keys"),
            ("TOKEN_USE", "refresh"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
