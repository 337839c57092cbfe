// $connect: checks origin and token, and stores the connection.
import http from "node:http";
import { DynamoDBClient, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { JwtVerifier } from "aws-jwt-verify";
import { validateCognitoJwtFields } from "aws-jwt-verify/cognito-verifier";
import { FetchError, WaitPeriodNotYetEndedJwkError } from "aws-jwt-verify/error";
import { SimpleJwksCache } from "aws-jwt-verify/jwk";
import { run } from "./runtime.mjs";

const {
  ALLOW_MISSING_ORIGIN,
  ALLOWED_ORIGINS,
  AWS_REGION,
  COGNITO_CLIENT_IDS,
  COGNITO_USER_POOL_ID,
  CONNECTION_TTL_SECONDS,
  TOKEN_ISSUER,
  TOKEN_JWKS_URL,
  TOKEN_USE,
  USER_ID_CLAIM,
  WEBSOCKET_CONNECTION_TABLE,
} = process.env;

const list = (text = "") => text.split(",").map((entry) => entry.trim()).filter(Boolean);

const allowedOrigins = new Set(list(ALLOWED_ORIGINS));
const allowsMissingOrigin = ALLOW_MISSING_ORIGIN !== "false";
const userIdClaim = USER_ID_CLAIM || "sub";
const ttlSeconds = Number(CONNECTION_TTL_SECONDS || 7500);

const issuer = TOKEN_ISSUER || `https://cognito-idp.${AWS_REGION}.amazonaws.com/${COGNITO_USER_POOL_ID}`;
const jwksUri = TOKEN_JWKS_URL || `${issuer.replace(/\/$/, "")}/.well-known/jwks.json`;
const cognito = { tokenUse: TOKEN_USE || "access", clientId: list(COGNITO_CLIENT_IDS) };
// CognitoJwtVerifier supports only Cognito's own issuers. This does the same for
// any issuer.
const verifier = JwtVerifier.create(
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
const dynamodb = new DynamoDBClient({});

async function handler(event, { awsRequestId }) {
  const { connectionId, connectedAt, identity } = event.requestContext;
  const refused = (statusCode, reason) => {
    log("WARN", "refused", { requestId: awsRequestId, connectionId, statusCode, reason });
    return { statusCode };
  };

  const origin = header(event, "origin");
  if (origin === undefined ? !allowsMissingOrigin : !allowedOrigins.has(origin)) return refused(403, "origin");
  const token = /^Bearer +(\S+)$/i.exec(header(event, "authorization") ?? "")?.[1];
  if (token === undefined) return refused(401, "no token");

  let claims;
  try {
    claims = await verifier.verify(token);
  } catch (error) {
    const noKeys = error instanceof FetchError || error instanceof WaitPeriodNotYetEndedJwkError;
    return refused(noKeys ? 503 : 401, error.message);
  }
  const userId = claims[userIdClaim];
  if (typeof userId !== "string" || userId === "") return refused(401, "no user id");

  const now = Date.now();
  const row = {
    connectionId: { S: connectionId },
    userId: { S: userId },
    connectedAt: { N: String(connectedAt) },
    lastSeenAt: { N: String(now) },
    expiresAt: { N: String(Math.floor(now / 1000) + ttlSeconds) },
    tokenExpiresAt: { N: String(claims.exp) },
    sourceIp: { S: identity.sourceIp },
  };
  if (origin !== undefined) row.origin = { S: origin };
  if (identity.userAgent) row.userAgent = { S: identity.userAgent };
  await dynamodb.send(new PutItemCommand({ TableName: WEBSOCKET_CONNECTION_TABLE, Item: row }));
  log("INFO", "connected", { requestId: awsRequestId, connectionId, userId });
  return { statusCode: 200 };
}

function log(level, message, fields) {
  console.log(JSON.stringify({ level, message, ...fields }));
}

// API Gateway keeps the client's spelling of names.
function header(event, name) {
  for (const [spelt, value] of Object.entries(event.headers ?? {})) {
    if (spelt.toLowerCase() === name) return value;
  }
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

await run(handler);
