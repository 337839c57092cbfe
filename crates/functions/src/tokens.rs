use belfry_aws::Http;
use belfry_aws::cognito::{
    CognitoVerifier, HttpJwks, InvalidJwksUrl, JwksCache, JwksUrl, TokenPolicy, TokenUse,
    pool_issuer,
};

use crate::environment::{Environment, SettingError};

const CLIENT_IDS: &str = "COGNITO_CLIENT_IDS";

/// The accepted tokens and the address of their signing keys: settings that
/// `$connect` and `$default` share.
#[derive(Debug)]
pub(crate) struct Tokens {
    policy: TokenPolicy,
    jwks: JwksUrl,
}

impl Tokens {
    pub(crate) fn read(environment: &Environment, region: &str) -> Result<Self, SettingError> {
        let issuer = match environment.optional("TOKEN_ISSUER") {
            Some(issuer) => issuer,
            None => pool_issuer(region, &environment.required("COGNITO_USER_POOL_ID")?),
        };
        let well_known: Result<JwksUrl, InvalidJwksUrl> =
            format!("{}/.well-known/jwks.json", issuer.trim_end_matches('/')).parse();
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
                issuer,
                client_ids,
                token_use: environment.parsed("TOKEN_USE", TokenUse::Access)?,
                user_id_claim: environment
                    .optional("USER_ID_CLAIM")
                    .unwrap_or_else(|| "sub".into()),
            },
            jwks,
        })
    }

    /// The verifier. It fetches the keys when it sees its first token.
    pub(crate) fn verifier(self, http: Http) -> CognitoVerifier<HttpJwks> {
        let keys = HttpJwks::new(http, self.jwks);
        CognitoVerifier::new(self.policy, JwksCache::new(keys))
    }
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
        Tokens::read(&variables.into_iter().collect(), "eu-west-1")
    }

    #[test]
    fn the_pool_determines_issuer_and_keys() {
        let tokens = read(&[]).unwrap();
        assert_eq!(
            tokens.policy.issuer,
            "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_abc"
        );
        let expected =
            "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_abc/.well-known/jwks.json";
        assert_eq!(tokens.jwks, expected.parse().unwrap());
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
        assert_eq!(tokens.policy.issuer, "urn:issuer");
    }

    #[test]
    fn an_invalid_setting_is_named() {
        for (name, value) in [
            ("COGNITO_USER_POOL_ID", ""),
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
