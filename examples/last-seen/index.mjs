// Keeps a row for each user: which connections are open, and when the user was last seen.

import { transactWrite } from "./table.mjs";

const TABLE = process.env.LAST_SEEN_TABLE ?? "LastSeen";

// Belfry tells of an event for a day at most.
const REMEMBERED_SECONDS = 2 * 24 * 60 * 60;

/** Belfry's hook. What it throws, or does not finish in ten seconds, it is told again. */
export async function handler(event) {
  const change = { "connection.opened": "ADD", "connection.closed": "DELETE" }[event.type];
  // There may be other events: now presence.joined and presence.left, and more in later versions.
  if (!change) return;
  const writes = [
    {
      // The same event may come again. It has the same id, so this condition refuses all of the transaction.
      Put: {
        TableName: TABLE,
        Item: { id: { S: `event#${event.id}` }, expiresAt: { N: `${nowSeconds() + REMEMBERED_SECONDS}` } },
        ConditionExpression: "attribute_not_exists(id)",
      },
    },
    {
      Update: {
        TableName: TABLE,
        Key: { id: { S: `user#${event.userId}` } },
        UpdateExpression: `SET lastSeenAt = :time ${change} connections :connection`,
        ExpressionAttributeValues: {
          ":time": { S: event.time },
          ":connection": { SS: [event.connectionId] },
        },
      },
    },
  ];
  try {
    await transactWrite(writes);
  } catch (error) {
    if (!isRepetition(error)) throw error;
  }
}

function isRepetition(error) {
  return error.name === "TransactionCanceledException" && error.CancellationReasons?.[0]?.Code === "ConditionalCheckFailed";
}

function nowSeconds() {
  return Math.floor(Date.now() / 1_000);
}
