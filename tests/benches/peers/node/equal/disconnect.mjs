// $disconnect: forgets a connection, or leaves a tombstone for a $connect that
// still runs.
import { PutItemCommand } from "@aws-sdk/client-dynamodb";
import { run } from "../runtime.mjs";
import { log, record } from "./logs.mjs";
import { dynamodb, number, readRow, removeRow, seconds, State, tombstoneKey } from "./store.mjs";

const ATTEMPTS = 8;
const TOMBSTONE_MS = 10 * 60 * 1_000;

async function handler(event, { awsRequestId }) {
  const { connectionId, disconnectStatusCode: status } = event.requestContext;
  const line = { connectionId, requestId: awsRequestId };
  try {
    await forget(connectionId);
  } catch (error) {
    const reason = error.message;
    log("ERROR", "connection.remove-failed", "could not remove a connection", { ...line, reason });
    throw error;
  }
  record({ ConnectionsEnded: 1 });
  log("INFO", "connection.ended", "disconnected", { ...line, status });
  return { statusCode: 200 };
}

async function forget(id) {
  let hasTombstone = false;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const row = await readRow(id);
    if (row !== undefined) {
      if (await removeRow(row)) return;
    } else if (hasTombstone) {
      return;
    } else {
      await putTombstone(id);
      hasTombstone = true;
    }
  }
  throw new Error("the row changed at every attempt");
}

async function putTombstone(id) {
  const expiresAt = number(seconds(Date.now() + TOMBSTONE_MS));
  await dynamodb.send(new PutItemCommand({ TableName: State, Item: { ...tombstoneKey(id), expiresAt } }));
}

await run(handler);
