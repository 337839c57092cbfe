// The tables: keys, transactions, and the removal of a connection.
import { setTimeout as sleep } from "node:timers/promises";
import {
  DynamoDBClient,
  GetItemCommand,
  TransactionCanceledException,
  TransactionConflictException,
  TransactWriteItemsCommand,
  UpdateItemCommand,
} from "@aws-sdk/client-dynamodb";

export const Connections = process.env.WEBSOCKET_CONNECTION_TABLE;
export const State = process.env.WEBSOCKET_STATE_TABLE;

export const dynamodb = new DynamoDBClient({
  requestHandler: { requestTimeout: 2_000, throwOnRequestTimeout: true },
});

export const SHARDS = 64;

// How long transactions that conflict with others are retried. A client waits
// for a handshake, and for a frame.
export const IMPATIENT_MS = 3_000;
const PATIENT_MS = 15_000;

const DAY_MS = 24 * 60 * 60 * 1_000;
// As long as a sign-out is remembered, after the longest life of a row.
const USER_ITEM_MS = DAY_MS + DAY_MS + 2 * 5_000;

export const text = (S) => ({ S });
export const number = (value) => ({ N: String(value) });
export const seconds = (ms) => Math.floor(ms / 1_000);

export const key = (id) => ({ connectionId: text(id) });
export const userKey = (user) => ({ pk: text(`user#${user}`), sk: text("connections") });
export const tombstoneKey = (id) => ({ pk: text(`connection#${id}`), sk: text("ended") });
export const shardKey = (shard) => ({
  pk: text(`shard#${String(shard).padStart(2, "0")}`),
  sk: text("connections"),
});

export const userExpiresAt = (connectedAt) => seconds(connectedAt + USER_ITEM_MS);

// FNV-1a, of which 64 shards need only the lowest 32 bits.
export function shardOf(id) {
  let hash = 0x84222325;
  for (let i = 0; i < id.length; i += 1) hash = Math.imul(hash ^ id.charCodeAt(i), 0x1b3);
  return (hash >>> 0) % SHARDS;
}

// A row, by a consistent read.
export async function readRow(id) {
  const read = { TableName: Connections, Key: key(id), ConsistentRead: true };
  return (await dynamodb.send(new GetItemCommand(read))).Item;
}

// Writes every item or none. Returns the reasons if conditions did not hold.
// Later attempts have other names: DynamoDB repeats the answer to a named one.
export async function transact(TransactItems, { patience = PATIENT_MS, name } = {}) {
  const begun = Date.now();
  for (let retries = 0; ; retries += 1) {
    const ClientRequestToken = retries === 0 ? name : undefined;
    try {
      await dynamodb.send(new TransactWriteItemsCommand({ TransactItems, ClientRequestToken }));
      return undefined;
    } catch (error) {
      if (!(error instanceof TransactionCanceledException)) throw error;
      const reasons = error.CancellationReasons ?? [];
      if (reasons.some(hasFailed)) return reasons;
      if (!reasons.some(passes) || Date.now() - begun > patience) throw error;
    }
    await backOff(retries);
  }
}

export const hasFailed = (reason) => reason?.Code === "ConditionalCheckFailed";

const passes = ({ Code }) =>
  Code === "TransactionConflict" || Code === "ThrottlingError" || Code === "ProvisionedThroughputExceeded";

// Updates an item, and retries while a transaction holds it: the SDK does not.
export async function update(input) {
  const begun = Date.now();
  for (let retries = 0; ; retries += 1) {
    try {
      return await dynamodb.send(new UpdateItemCommand(input));
    } catch (error) {
      const waits = error instanceof TransactionConflictException && Date.now() - begun <= IMPATIENT_MS;
      if (!waits) throw error;
    }
    await backOff(retries);
  }
}

// With full jitter.
async function backOff(retries) {
  await sleep(Math.random() * Math.min(10 * 2 ** retries, 1_000));
}

// Removes a connection's row, its id in the user's set and its count together,
// unless the row has changed since it was read.
export async function removeRow(row) {
  const id = row.connectionId.S;
  const items = [
    {
      Delete: {
        TableName: Connections,
        Key: key(id),
        ConditionExpression:
          "connectedAt = :seen AND attribute_not_exists(replacedAt) AND attribute_not_exists(hasSession)",
        ExpressionAttributeValues: { ":seen": row.connectedAt },
      },
    },
    {
      Update: {
        TableName: State,
        Key: userKey(row.userId.S),
        UpdateExpression:
          "DELETE connectionIds :ids SET lastEnded = :id, expiresAt = if_not_exists(expiresAt, :end)",
        ExpressionAttributeValues: {
          ":ids": { SS: [id] },
          ":id": text(id),
          ":end": number(userExpiresAt(Number(row.connectedAt.N))),
        },
      },
    },
  ];
  const countDown = {
    Update: {
      TableName: State,
      Key: shardKey(Number(row.shard.N)),
      UpdateExpression: "SET connections = connections - :one",
      ConditionExpression: "connections >= :one",
      ExpressionAttributeValues: { ":one": number(1) },
    },
  };
  const reasons = await transact([...items, countDown]);
  if (reasons === undefined) return true;
  if (hasFailed(reasons[0])) return false;
  // The counter is wrong. The row must go all the same.
  return (await transact(items)) === undefined;
}
