// Sends a notification to the connections of one user.
import { ApiGatewayManagementApiClient, PostToConnectionCommand } from "@aws-sdk/client-apigatewaymanagementapi";
import { paginateQuery } from "@aws-sdk/client-dynamodb";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "../runtime.mjs";
import { log, record } from "./logs.mjs";
import { Connections, dynamodb, number, readRow, removeRow, seconds, text } from "./store.mjs";

const { env } = process;
const concurrency = Number(env.POST_CONCURRENCY || 64);
const postsPerSecond = Number(env.POSTS_PER_SECOND || 2_500) / Number(env.MAX_WORKERS || 4);

const sockets = { keepAlive: true, maxSockets: concurrency };
const management = new ApiGatewayManagementApiClient({
  endpoint: env.WEBSOCKET_API_ENDPOINT,
  // A second post may be a duplicate.
  maxAttempts: 1,
  requestHandler: {
    httpAgent: sockets,
    httpsAgent: sockets,
    requestTimeout: Number(env.POST_TIMEOUT_MS || 3_000),
    throwOnRequestTimeout: true,
  },
});

const MAX_FRAME_BYTES = 128 * 1_024;
const BURST_SECONDS = 0.02;
const SAMPLE = 5;
// A handshake may be pending as long; then a 410 proves nothing.
const HANDSHAKE_MS = 35_000;

// The fields of the kinds that have fixed ones, those that are needed first.
const upload = [["file"], { file: "string", size: "number", contentType: "string", url: "string" }];
const kinds = {
  "upload.completed": upload,
  "upload.finalized": upload,
  "set.created": [["setId"], { setId: "string", name: "string" }],
  "system.announcement": [["text"], { text: "string", level: "string" }],
};

async function handler(event, { awsRequestId, deadline }) {
  const begun = Date.now();
  const { userId, exclude, frame } = read(event, awsRequestId, begun);
  const recipients = await list(userId, exclude, begun);
  const posts = await postAll(recipients, frame, deadline - 10_000);
  const { success, failures } = posts;
  record(withoutZeros({
    PostLatency: posts.latencies,
    PostsAccepted: success,
    PostsGone: failures.gone,
    PostsThrottled: failures.throttled,
    PostsTooLarge: failures.tooLarge,
    PostsFailed: failures.failed,
    PostsNotAttempted: failures.notAttempted,
  }));
  const failure = Object.values(failures).reduce((sum, count) => sum + count, 0);
  const durationMs = Date.now() - begun;
  record({ BroadcastRecipients: success + failure, BroadcastDuration: durationMs });
  log("INFO", "broadcast.reported", "broadcast done", {
    requestId: awsRequestId,
    messageId: awsRequestId,
    success,
    failure,
    ...failures,
    durationMs,
    rowsKept: posts.rowsKept,
    failedSample: posts.sample.join(", "),
    complete: true,
  });
  return { messageId: awsRequestId, status: "done", success, failure, failures };
}

// Checks the request, and makes the frame of it.
function read(event, id, now) {
  const { target, message, exclude = [], ...rest } = event;
  const unknown = Object.keys(rest);
  if (unknown.length > 0) throw new TypeError(`unknown field ${unknown[0]}`);
  if (target?.type !== "user" || !isText(target.userId)) throw new TypeError("target must be a user");
  if (!Array.isArray(exclude) || exclude.length > 1_000 || !exclude.every(isText)) {
    throw new TypeError("exclude must be a list of up to 1000 connection ids");
  }
  const { type, data, timestamp = new Date(now).toISOString(), correlationId } = message ?? {};
  if (type !== "notification") throw new TypeError("message.type must be notification");
  if (Number.isNaN(Date.parse(timestamp))) throw new TypeError("message.timestamp must be RFC 3339");
  checkData(data);
  const frame = JSON.stringify({ type, version: "1.0", id, timestamp, data, correlationId });
  const bytes = Buffer.from(frame);
  if (bytes.length > MAX_FRAME_BYTES) throw new RangeError(`the frame has ${bytes.length} bytes`);
  return { userId: target.userId, exclude: new Set(exclude), frame: bytes };
}

// Without control characters.
const isText = (value) => typeof value === "string" && /^\P{Cc}{1,128}$/u.test(value);

function checkData(data) {
  if (data === null || typeof data !== "object" || Array.isArray(data)) {
    throw new TypeError("data must be a JSON object");
  }
  const { kind } = data;
  if (typeof kind !== "string" || kind === "" || kind.length > 64) throw new TypeError("kind is invalid");
  if (!Object.hasOwn(kinds, kind)) return;
  const [needed, types] = kinds[kind];
  for (const field of needed) if (!data[field]) throw new TypeError(`${kind}: missing field ${field}`);
  for (const [field, type] of Object.entries(types)) {
    if ((data[field] ?? null) !== null && typeof data[field] !== type) {
      throw new TypeError(`${kind}: ${field} must be a ${type}`);
    }
  }
}

// The user's connections with a valid token, each once.
async function list(userId, exclude, now) {
  const query = {
    TableName: Connections,
    IndexName: "userId-index",
    KeyConditionExpression: "userId = :user",
    FilterExpression: "expiresAt > :now",
    ExpressionAttributeValues: { ":user": text(userId), ":now": number(seconds(now)) },
  };
  const found = new Map();
  for await (const { Items = [] } of paginateQuery({ client: dynamodb }, query)) {
    for (const { connectionId, connectedAt, tokenExpiresAt } of Items) {
      const isMeant = Number(tokenExpiresAt.N) * 1_000 > now && !exclude.has(connectionId.S);
      if (isMeant) found.set(connectionId.S, Number(connectedAt.N));
    }
  }
  return found;
}

async function postAll(recipients, frame, deadline) {
  const failures = { gone: 0, throttled: 0, tooLarge: 0, failed: 0, notAttempted: 0 };
  const posts = { success: 0, failures, latencies: [], sample: [], rowsKept: 0 };
  const limiter = new RateLimiter(postsPerSecond);
  const waiting = recipients.entries();
  const worker = async () => {
    for (const [id, connectedAt] of waiting) {
      await limiter.take();
      const begun = Date.now();
      const outcome = begun < deadline ? await post(id, frame) : { failure: "notAttempted" };
      if (outcome.failure === undefined) posts.success += 1;
      else {
        failures[outcome.failure] += 1;
        if (posts.sample.length < SAMPLE) posts.sample.push(`${id}: ${outcome.failure}`);
      }
      if (outcome.failure !== "notAttempted") posts.latencies.push(Date.now() - begun);
      if (outcome.failure === "gone") posts.rowsKept += (await forget(id, connectedAt)) ? 0 : 1;
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, recipients.size) }, worker));
  posts.latencies.length = Math.min(posts.latencies.length, 100);
  return posts;
}

async function post(id, frame) {
  try {
    await management.send(new PostToConnectionCommand({ ConnectionId: id, Data: frame }));
    return {};
  } catch (error) {
    // By the status: API Gateway's 410 may have no body.
    const failures = { 410: "gone", 413: "tooLarge", 429: "throttled" };
    return { failure: failures[error.$metadata?.httpStatusCode] ?? "failed" };
  }
}

// Removes the row of a connection that is gone, and only the row that was read.
async function forget(id, connectedAt) {
  if (Date.now() < connectedAt + HANDSHAKE_MS) return false;
  try {
    const row = await readRow(id);
    return row === undefined || Number(row.connectedAt.N) !== connectedAt || (await removeRow(row));
  } catch {
    return false;
  }
}

// A bucket of tokens that fills at a rate.
class RateLimiter {
  constructor(perSecond) {
    Object.assign(this, { perSecond, tokens: 1, filledAt: Date.now() });
  }

  async take() {
    for (;;) {
      const now = Date.now();
      const earned = ((now - this.filledAt) / 1_000) * this.perSecond;
      this.tokens = Math.min(this.tokens + earned, Math.max(1, BURST_SECONDS * this.perSecond));
      this.filledAt = now;
      if (this.tokens >= 1) {
        this.tokens -= 1;
        return;
      }
      await sleep(Math.max(1, ((1 - this.tokens) / this.perSecond) * 1_000));
    }
  }
}

// CloudWatch treats a missing count as zero.
function withoutZeros(metrics) {
  const kept = Object.entries(metrics).filter(([, value]) => value !== 0 && value.length !== 0);
  return Object.fromEntries(kept);
}

await run(handler);
