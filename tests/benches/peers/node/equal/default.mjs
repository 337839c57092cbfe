// $default: counts a client's frame in its row, and answers it.
import { ConditionalCheckFailedException } from "@aws-sdk/client-dynamodb";
import { run } from "../runtime.mjs";
import { log, record } from "./logs.mjs";
import { Connections, key, number, seconds, update } from "./store.mjs";

const maxBytes = Number(process.env.MAX_MESSAGE_BYTES || 16_384);

// A token bucket for each connection. Its row says when it is full again.
const interval = Math.ceil(60_000 / Number(process.env.MESSAGES_PER_MINUTE || 600));
const burst = Math.max(5, Math.floor(Math.round(60_000 / interval) / 10));

const IN_SESSION = "attribute_exists(connectionId) AND expiresAt > :now AND tokenExpiresAt > :now";
const ANSWER_PING = "REMOVE pingedAt, unreachableSince";

async function handler(event, { awsRequestId }) {
  const { connectionId } = event.requestContext;
  const { frame, refused } = parse(event.isBase64Encoded ? undefined : (event.body ?? ""));
  const answer = (await count(connectionId)) ?? refused ?? reply(frame);
  if (answer.type !== "error") {
    record({ FramesServed: 1 }, { Type: frame.type });
  } else {
    const { code } = answer.data;
    record({ FramesRefused: 1 }, { Code: code });
    if (code !== "RATE_LIMITED") {
      log("INFO", "frame.refused", "frame refused", { connectionId, requestId: awsRequestId, code });
    }
  }
  return { statusCode: 200, body: JSON.stringify(answer) };
}

// Takes a token from the connection's bucket. Returns why the frame is not
// served, if it is not. Most frames find a full bucket, so that is tried first.
async function count(id) {
  const now = Date.now();
  const full = await write(id, now, {
    UpdateExpression: `SET lastSeenAt = :seen, bucketFullAt = :full ${ANSWER_PING}, refusals`,
    ConditionExpression: `${IN_SESSION} AND (attribute_not_exists(bucketFullAt) OR bucketFullAt <= :seen)`,
    values: { ":full": number(now + interval) },
  });
  if (full.isWritten) return undefined;
  const problem = problemOf(full.row, now);
  if (problem !== undefined) return problem;
  const latest = now + interval * (burst - 1);
  const fullAt = Number(full.row.bucketFullAt?.N ?? 0);
  if (fullAt > latest) {
    await write(id, now, {
      UpdateExpression: `SET lastSeenAt = :seen ${ANSWER_PING} ADD refusals :one`,
      ConditionExpression: IN_SESSION,
      values: { ":one": number(1) },
    });
    return rateLimited(fullAt - latest);
  }
  const filling = await write(id, now, {
    UpdateExpression: `SET lastSeenAt = :seen, bucketFullAt = bucketFullAt + :interval ${ANSWER_PING}`,
    ConditionExpression: `${IN_SESSION} AND bucketFullAt BETWEEN :seen AND :latest`,
    values: { ":interval": number(interval), ":latest": number(latest) },
  });
  return filling.isWritten ? undefined : (problemOf(filling.row, now) ?? rateLimited(interval));
}

async function write(id, now, { values, ...expressions }) {
  try {
    await update({
      TableName: Connections,
      Key: key(id),
      ...expressions,
      ExpressionAttributeValues: { ":seen": number(now), ":now": number(seconds(now)), ...values },
      ReturnValues: "ALL_NEW",
      ReturnValuesOnConditionCheckFailure: "ALL_OLD",
    });
    return { isWritten: true };
  } catch (error) {
    if (error instanceof ConditionalCheckFailedException) return { isWritten: false, row: error.Item };
    throw error;
  }
}

function problemOf(row, now) {
  const hasPassed = (end) => Number(end.N) * 1_000 <= now;
  if (row === undefined || hasPassed(row.expiresAt)) {
    return refuse("UNKNOWN_CONNECTION", "this connection is unknown; connect again");
  }
  if (row.tokenExpiresAt.N === "0") return refuse("SIGNED_OUT", "the user was signed out");
  if (hasPassed(row.tokenExpiresAt)) return refuse("TOKEN_EXPIRED", "the token has expired");
  return undefined;
}

function rateLimited(wait) {
  const retryAfterMs = Math.min(wait, 60_000);
  const answer = refuse("RATE_LIMITED", `too many messages; wait ${retryAfterMs} ms`);
  answer.data.retryAfterMs = retryAfterMs;
  return answer;
}

function parse(body) {
  if (body === undefined) return { refused: refuse("INVALID_MESSAGE", "a frame is text, not binary") };
  if (Buffer.byteLength(body) > maxBytes) {
    return { refused: refuse("MESSAGE_TOO_LARGE", `a frame must have at most ${maxBytes} bytes`) };
  }
  let frame;
  try {
    frame = JSON.parse(body);
  } catch (error) {
    return { refused: refuse("INVALID_MESSAGE", `not valid JSON: ${error.message}`) };
  }
  const refused = check(frame);
  return { frame, refused };
}

function check(frame) {
  if (frame === null || typeof frame !== "object" || Array.isArray(frame)) {
    return refuse("INVALID_MESSAGE", "a frame must be a JSON object");
  }
  const { type, version, timestamp, data } = frame;
  const id = isId(frame.id) ? frame.id : undefined;
  const invalid = (message) => refuse("INVALID_MESSAGE", message, id);
  if (typeof type !== "string") return invalid("type must be a string");
  if (typeof version !== "string" || !/^(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})$/.test(version)) {
    return invalid("version must be a string of the form MAJOR.MINOR");
  }
  if (!version.startsWith("1.")) {
    return refuse("UNSUPPORTED_VERSION", "version is not supported; this server supports 1.x", id);
  }
  if (type !== "ping" && type !== "echo") {
    return refuse("UNKNOWN_TYPE", "type must be one of ping, echo", id);
  }
  for (const field of [frame.id, frame.correlationId]) {
    if ((field ?? null) !== null && !isId(field)) return invalid("a frame id has 1 to 128 characters");
  }
  if ((timestamp ?? null) !== null && !isTimestamp(timestamp)) {
    return invalid("timestamp must be RFC 3339 in UTC");
  }
  if (type === "echo" && data === undefined) return invalid("missing field `data`");
  return undefined;
}

// Without control characters.
const isId = (id) => typeof id === "string" && /^\P{Cc}{1,128}$/u.test(id);

const isTimestamp = (text) =>
  typeof text === "string" &&
  /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/.test(text) &&
  !Number.isNaN(Date.parse(text));

function reply({ type, id, data }) {
  const answer = { type, version: "1.0", timestamp: new Date().toISOString(), data, correlationId: id };
  return type === "ping" ? { ...answer, type: "pong", data: undefined } : answer;
}

function refuse(code, message, correlationId) {
  const timestamp = new Date().toISOString();
  return { type: "error", version: "1.0", data: { code, message, timestamp }, correlationId };
}

await run(handler);
