// $connect: checks origin and token, and stores the connection.
import { DynamoDBClient, PutItemCommand } from "@aws-sdk/client-dynamodb";
import { run } from "./runtime.mjs";
import { areKeysMissing, verifier } from "./tokens.mjs";

const {
  ALLOW_MISSING_ORIGIN,
  ALLOWED_ORIGINS,
  CONNECTION_TTL_SECONDS,
  USER_ID_CLAIM,
  WEBSOCKET_CONNECTION_TABLE,
} = process.env;

const list = (text = "") => text.split(",").map((entry) => entry.trim()).filter(Boolean);

const allowedOrigins = new Set(list(ALLOWED_ORIGINS));
const allowsMissingOrigin = ALLOW_MISSING_ORIGIN !== "false";
const userIdClaim = USER_ID_CLAIM || "sub";
const ttlSeconds = Number(CONNECTION_TTL_SECONDS || 7500);

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
    return refused(areKeysMissing(error) ? 503 : 401, error.message);
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

await run(handler);
