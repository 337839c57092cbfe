import assert from "node:assert/strict";
import { createServer } from "node:http";
import test from "node:test";

import { handler } from "./index.mjs";

const opened = {
  type: "connection.opened",
  version: "1.0",
  id: "6d9c34e4-6b62-5d0f-8b5a-4a3f1c2d7e10",
  time: "2026-11-26T12:00:00.000Z",
  connectionId: "c1",
  userId: "alice",
  connectedAt: "2026-11-26T12:00:00.000Z",
};

/** Runs with a DynamoDB that gives these answers, and returns the calls that it gets. */
async function withTable(answers, run) {
  const calls = [];
  const server = createServer(async (request, response) => {
    const chunks = await request.toArray();
    calls.push({ target: request.headers["x-amz-target"], ...JSON.parse(chunks.join("")) });
    const [status, body] = answers.shift();
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  process.env.DYNAMODB_ENDPOINT = `http://127.0.0.1:${server.address().port}`;
  try {
    await run();
  } finally {
    delete process.env.DYNAMODB_ENDPOINT;
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  }
  return calls;
}

const cancelled = (...codes) => [
  400,
  {
    __type: "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
    message: "cancelled",
    CancellationReasons: codes.map((Code) => ({ Code })),
  },
];

test("an event changes the user's row, and its id is remembered in the same transaction", async () => {
  const closed = { ...opened, type: "connection.closed", id: "2", time: "2026-11-26T12:01:00.000Z" };
  const calls = await withTable([[200, {}], [200, {}]], async () => {
    await handler(opened);
    await handler(closed);
  });
  for (const [call, event, change] of [
    [calls[0], opened, "ADD"],
    [calls[1], closed, "DELETE"],
  ]) {
    assert.equal(call.target, "DynamoDB_20120810.TransactWriteItems");
    const [{ Put }, { Update }] = call.TransactItems;
    assert.deepEqual(Put.Item.id, { S: `event#${event.id}` });
    assert.equal(Put.ConditionExpression, "attribute_not_exists(id)");
    assert.deepEqual(Update.Key, { id: { S: "user#alice" } });
    assert.equal(Update.UpdateExpression, `SET lastSeenAt = :time ${change} connections :connection`);
    assert.deepEqual(Update.ExpressionAttributeValues, { ":time": { S: event.time }, ":connection": { SS: ["c1"] } });
  }
});

test("a repetition changes nothing and is no error", async () => {
  await withTable([cancelled("ConditionalCheckFailed", "None")], () => handler(opened));
});

test("a failure is told, so that the event comes again", async () => {
  for (const answer of [cancelled("None", "TransactionConflict"), [500, { message: "down" }]]) {
    await withTable([answer], () => assert.rejects(handler(opened)));
  }
});

test("other events are ignored", async () => {
  const calls = await withTable([], async () => {
    await handler({ type: "presence.joined", id: "3", channel: "room:7", userId: "alice" });
    await handler({ type: "something.later", id: "4" });
  });
  assert.deepEqual(calls, []);
});
