// Verifies tokens like Cognito's. The keys stay in memory.
import http from "node:http";
import { JwtVerifier } from "aws-jwt-verify";
import { validateCognitoJwtFields } from "aws-jwt-verify/cognito-verifier";
import { FetchError, WaitPeriodNotYetEndedJwkError } from "aws-jwt-verify/error";
import { SimpleJwksCache } from "aws-jwt-verify/jwk";

const { AWS_REGION, COGNITO_CLIENT_IDS, COGNITO_USER_POOL_ID, TOKEN_ISSUER, TOKEN_JWKS_URL, TOKEN_USE } = process.env;

const issuer = TOKEN_ISSUER || `https://cognito-idp.${AWS_REGION}.amazonaws.com/${COGNITO_USER_POOL_ID}`;
const jwksUri = TOKEN_JWKS_URL || `${issuer.replace(/\/$/, "")}/.well-known/jwks.json`;
const clientId = COGNITO_CLIENT_IDS.split(",").map((id) => id.trim());
const cognito = { tokenUse: TOKEN_USE || "access", clientId };
// CognitoJwtVerifier supports only Cognito's own issuers. This does the same for
// any issuer.
export const verifier = JwtVerifier.create(
  {
    issuer,
    jwksUri,
    audience: null, // access tokens name the client in client_id
    customJwtCheck: ({ payload }) => validateCognitoJwtFields(payload, cognito),
    graceSeconds: 5,
  },
  // The library's own fetcher supports only https, unlike a local key server.
  jwksUri.startsWith("http:") ? { jwksCache: new SimpleJwksCache({ fetcher: { fetch: fetchPlain } }) } : undefined,
);

// Whether a token could not be checked, because there were no keys.
export function areKeysMissing(error) {
  return error instanceof FetchError || error instanceof WaitPeriodNotYetEndedJwkError;
}

function fetchPlain(uri) {
  return new Promise((resolve, reject) => {
    const failed = (problem) => reject(new FetchError(uri, problem));
    const request = http.get(uri, { timeout: 3000 }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", (error) => failed(error.message));
      response.on("end", () => {
        if (response.statusCode === 200) resolve(Buffer.concat(chunks));
        else failed(`status ${response.statusCode}`);
      });
    });
    request.on("timeout", () => request.destroy(new Error("no answer in time")));
    request.on("error", (error) => failed(error.message));
  });
}
