// $connect: checks origin and token, then stores and counts the connection in
// one transaction, unless it is too many, its user was signed out, or it has
// ended already.
import { createHash } from "node:crypto";
import { BatchGetItemCommand } from "@aws-sdk/client-dynamodb";
import { run } from "../runtime.mjs";
import { areKeysMissing, verifier } from "../tokens.mjs";
import { log, record } from "./logs.mjs";
import * as store from "./store.mjs";

const { Connections, State, number, text } = store;
const { env } = process;

const userIdClaim = env.USER_ID_CLAIM || "sub";
const ttlMs = 1_000 * Number(env.CONNECTION_TTL_SECONDS || 7_500);
const heartbeatMs = 1_000 * Number(env.HEARTBEAT_INTERVAL_SECONDS || 480);
const maxConnections = Number(env.MAX_CONNECTIONS || 10_000);
const maxPerUser = Number(env.MAX_CONNECTIONS_PER_USER || 20);
const allowsMissingOrigin = env.ALLOW_MISSING_ORIGIN !== "false";

const origins = (env.ALLOWED_ORIGINS ?? "").split(",").map((entry) => entry.trim().toLowerCase());
const exactOrigins = new Set(origins.filter((entry) => entry !== "" && !entry.includes("*")));
// As [scheme, end of the host] of `https://*.example.com`.
const wildcards = origins.filter((entry) => entry.includes("://*.")).map((entry) => entry.split("*"));

const LEEWAY_SECONDS = 5;
const MAX_TOKEN_SECONDS = 24 * 60 * 60;
const MAX_TOKEN_BYTES = 8 * 1_024;
const MAX_KEPT_BYTES = 80;
const SUBPROTOCOL = "belfry.v1";

class Refusal extends Error {
  constructor(statusCode, reason, metric) {
    super(reason);
    Object.assign(this, { statusCode, metric });
  }
}

async function handler(event, { awsRequestId }) {
  const { connectionId, identity } = event.requestContext;
  const line = { connectionId, requestId: awsRequestId };
  try {
    const userId = await connect(event);
    record({ ConnectionsAccepted: 1 });
    log("INFO", "connection.accepted", "connected", { ...line, userId });
  } catch (error) {
    const { statusCode, message, metric } =
      error instanceof Refusal ? error : new Refusal(503, `store: ${error.message}`, "storeUnavailable");
    record({ ConnectionsRefused: 1 }, { Reason: metric });
    const [origin, sourceIp] = [originOf(event) ?? "", identity.sourceIp];
    const level = statusCode >= 500 ? "ERROR" : "WARN";
    log(level, "connection.refused", "refused", { ...line, reason: message, statusCode, origin, sourceIp });
    return { statusCode };
  }
  if (!subprotocols(event).includes(SUBPROTOCOL)) return { statusCode: 200 };
  return { statusCode: 200, headers: { "Sec-WebSocket-Protocol": SUBPROTOCOL } };
}

async function connect(event) {
  const origin = originOf(event);
  if (!isAllowed(origin)) throw new Refusal(403, "origin not allowed", "origin");
  const offers = subprotocols(event);
  if (offers.length > 0 && !offers.includes(SUBPROTOCOL)) {
    throw new Refusal(400, "the offered subprotocols do not include belfry.v1", "token");
  }
  const tokens = tokensOf(event, offers);
  if (tokens.length === 0) throw new Refusal(401, "no token", "token");
  if (tokens.length > 1) throw new Refusal(400, "more than one token source", "token");
  const claims = await verify(tokens[0]);
  const { requestContext } = event;
  const connection = {
    id: requestContext.connectionId,
    userId: claims[userIdClaim],
    connectedAt: requestContext.connectedAt,
    tokenExpiresAt: claims.exp,
    tokenIssuedAt: claims.iat,
    origin,
    sourceIp: requestContext.identity.sourceIp ?? "",
    userAgent: requestContext.identity.userAgent,
  };
  await write(connection);
  await confirm(connection);
  return connection.userId;
}

function isAllowed(origin) {
  if (origin === undefined) return allowsMissingOrigin;
  const text = origin.toLowerCase();
  if (exactOrigins.has(text)) return true;
  return wildcards.some(([scheme, end]) => {
    const label = text.slice(scheme.length, -end.length);
    return text.startsWith(scheme) && text.endsWith(end) && /^[\w-]{1,63}$/.test(label);
  });
}

async function verify(token) {
  const rejected = (reason) => new Refusal(401, `token: ${reason}`, "token");
  if (token.length > MAX_TOKEN_BYTES) throw rejected("too long");
  let claims;
  try {
    claims = await verifier.verify(token);
  } catch (error) {
    if (areKeysMissing(error)) throw new Refusal(503, `token: ${error.message}`, "keysUnavailable");
    throw rejected(error.message);
  }
  const { exp, iat } = claims;
  if (!Number.isFinite(iat)) throw rejected("no time of issue");
  if (iat > Date.now() / 1_000 + LEEWAY_SECONDS) throw rejected("issued in the future");
  if (!(exp <= iat + MAX_TOKEN_SECONDS)) throw rejected("valid for more than 24 hours");
  const userId = claims[userIdClaim];
  // Without control characters.
  if (typeof userId !== "string" || !/^\P{Cc}{1,128}$/u.test(userId)) throw rejected("no usable user id");
  return claims;
}

// The row, its id in the user's set and its count: all of them or none.
async function write(connection) {
  const { id, userId, connectedAt, tokenExpiresAt } = connection;
  const shard = store.shardOf(id);
  const row = {
    ...store.key(id),
    userId: text(userId),
    connectedAt: number(connectedAt),
    lastSeenAt: number(connectedAt),
    expiresAt: number(store.seconds(connectedAt + ttlMs)),
    tokenExpiresAt: number(tokenExpiresAt),
    sourceIp: text(bounded(connection.sourceIp)),
    shard: number(shard),
    // A connection is asked to reconnect after its first heartbeat is due.
    dueAt: number(Math.min(connectedAt + heartbeatMs, tokenExpiresAt * 1_000)),
  };
  if (connection.origin !== undefined) row.origin = text(bounded(connection.origin));
  if (connection.userAgent) row.userAgent = text(bounded(connection.userAgent));
  const items = [
    {
      Put: {
        TableName: Connections,
        Item: row,
        ConditionExpression: "attribute_not_exists(connectionId)",
        ReturnValuesOnConditionCheckFailure: "ALL_OLD",
      },
    },
    {
      Update: {
        TableName: State,
        Key: store.userKey(userId),
        UpdateExpression: "ADD connectionIds :ids SET expiresAt = :end",
        ConditionExpression:
          "(attribute_not_exists(signedOutAt) OR signedOutAt < :issuedAt)" +
          " AND (attribute_not_exists(lastEnded) OR lastEnded <> :id)" +
          " AND (attribute_not_exists(connectionIds) OR size(connectionIds) < :most)",
        ExpressionAttributeValues: {
          ":most": number(maxPerUser),
          ":ids": { SS: [id] },
          ":id": text(id),
          ":end": number(store.userExpiresAt(connectedAt)),
          ":issuedAt": number(connection.tokenIssuedAt),
        },
        ReturnValuesOnConditionCheckFailure: "ALL_OLD",
      },
    },
    {
      Update: {
        TableName: State,
        Key: store.shardKey(shard),
        UpdateExpression: "ADD connections :one, inserted :one",
        ConditionExpression: "attribute_not_exists(connections) OR connections < :capacity",
        ExpressionAttributeValues: { ":one": number(1), ":capacity": number(shareOfLimit(shard)) },
      },
    },
  ];
  const reasons = await store.transact(items, { patience: store.IMPATIENT_MS, name: nameOf(connection) });
  if (reasons !== undefined) refuse(connection, reasons);
}

const shareOfLimit = (shard) =>
  Math.floor(maxConnections / store.SHARDS) + (shard < maxConnections % store.SHARDS ? 1 : 0);

function refuse(connection, [row, user]) {
  if (store.hasFailed(row)) {
    // The SDK retries calls whose answer was lost.
    const old = row.Item;
    const isSame = old?.userId.S === connection.userId && Number(old.connectedAt.N) === connection.connectedAt;
    if (isSame) return;
    throw new Refusal(503, "connection id already in use", "other");
  }
  if (!store.hasFailed(user)) throw new Refusal(503, "connection limit reached", "atCapacity");
  const { signedOutAt, lastEnded } = user.Item ?? {};
  if (Number(signedOutAt?.N) >= connection.tokenIssuedAt) throw new Refusal(401, "signed out", "signedOut");
  if (lastEnded?.S === connection.id) throw ended();
  throw new Refusal(429, "connection limit of this user reached", "userAtCapacity");
}

const ended = () => new Refusal(503, "the client left during the handshake", "other");

// Whether nothing has ended the connection while its row was written.
async function confirm({ id, connectedAt }) {
  const read = {
    [Connections]: {
      Keys: [store.key(id)],
      ProjectionExpression: "connectedAt, tokenExpiresAt",
      ConsistentRead: true,
    },
    [State]: { Keys: [store.tombstoneKey(id)], ProjectionExpression: "pk", ConsistentRead: true },
  };
  const { Responses, UnprocessedKeys } = await store.dynamodb.send(
    new BatchGetItemCommand({ RequestItems: read }),
  );
  if (Object.keys(UnprocessedKeys ?? {}).length > 0) throw new Error("some keys were not processed");
  const [row] = Responses[Connections] ?? [];
  const isOurs = Number(row?.connectedAt.N) === connectedAt;
  const isSignedOut = isOurs && row.tokenExpiresAt.N === "0";
  const hasEnded = !isOurs || (Responses[State] ?? []).length > 0;
  if (!isSignedOut && !hasEnded) return;
  // A client that is refused gets no $disconnect.
  const left = isOurs && (await store.readRow(id));
  if (left && Number(left.connectedAt.N) === connectedAt) await store.removeRow(left);
  throw isSignedOut ? new Refusal(401, "signed out", "signedOut") : ended();
}

// Names the handshake, so that DynamoDB writes it once if it is handled twice: a
// UUID made of its SHA-1 (RFC 9562, version 5) in the namespace of OIDs.
const NAMESPACE = Buffer.from("6ba7b8129dad11d180b400c04fd430c8", "hex");

function nameOf({ id, connectedAt, userId, tokenExpiresAt }) {
  const hash = createHash("sha1").update(NAMESPACE).update(`${id} ${connectedAt} ${userId} ${tokenExpiresAt}`);
  const bytes = hash.digest();
  bytes[6] = (bytes[6] & 0x0f) | 0x50;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = bytes.toString("hex", 0, 16);
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

// Every value of a header: API Gateway keeps the client's spelling of names.
function header(event, name) {
  const values = [];
  for (const [spelt, some] of Object.entries(event.multiValueHeaders ?? {})) {
    if (spelt.toLowerCase() === name) values.push(...some);
  }
  return values;
}

function originOf(event) {
  const all = header(event, "origin");
  return all.length === 0 ? undefined : all.join(", ");
}

function subprotocols(event) {
  const offers = header(event, "sec-websocket-protocol").flatMap((value) => value.split(","));
  return offers.map((offer) => offer.trim()).filter(Boolean);
}

// The token of each source that has one.
function tokensOf(event, offers) {
  const bearers = header(event, "authorization").map((value) => /^bearer +(\S+)$/i.exec(value)?.[1] ?? "");
  const offered = offers.filter((offer) => offer.startsWith("bearer.")).map((offer) => offer.slice(7));
  return [...bearers, ...offered, ...(event.multiValueQueryStringParameters?.token ?? [])];
}

function bounded(value) {
  if (Buffer.byteLength(value) <= MAX_KEPT_BYTES) return value;
  return new TextDecoder().decode(Buffer.from(value).subarray(0, MAX_KEPT_BYTES), { stream: true });
}

await run(handler);
