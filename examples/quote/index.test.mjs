import assert from "node:assert/strict";
import { createServer } from "node:http";
import test from "node:test";

import { handler } from "./index.mjs";

const call = (action, data) => handler({ connectionId: "c1", userId: "alice", claims: {}, action, data });
const get = async (id) => (await call("quote.get", { id })).quote;

/** Runs with a broadcaster that answers with a status, and returns the requests that it gets. */
async function withBroadcaster(status, run) {
  const requests = [];
  const server = createServer(async (request, response) => {
    const chunks = await request.toArray();
    requests.push({ path: request.url, type: request.headers["x-amz-invocation-type"], ...JSON.parse(chunks.join("")) });
    response.writeHead(status).end();
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  process.env.LAMBDA_ENDPOINT = `http://127.0.0.1:${server.address().port}`;
  process.env.BROADCASTER_FUNCTION = "Broadcaster";
  try {
    await run();
  } finally {
    delete process.env.LAMBDA_ENDPOINT;
    delete process.env.BROADCASTER_FUNCTION;
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  }
  return requests;
}

test("an edit changes fields, raises the version and recalculates the premium", async () => {
  const quote = { version: 0, driverAge: 40, carValue: 20_000, excess: 300, cover: "full", premium: 56_320 };
  assert.deepEqual(await get("q-1"), quote);
  const edited = await call("quote.edit", { id: "q-1", version: 0, set: { driverAge: 22, excess: 0 } });
  const expected = { ...quote, version: 1, driverAge: 22, excess: 0, premium: 102_400 };
  assert.deepEqual(edited, { ok: true, quote: expected });
  assert.deepEqual(await get("q-1"), expected);
  assert.deepEqual(await get("q-2"), quote, "another quote");
});

test("of two edits of one version, the second is a conflict and shows the first", async () => {
  const edit = (carValue) => call("quote.edit", { id: "q-3", version: 0, set: { carValue } });
  const first = await edit(10_000);
  assert.deepEqual(await edit(15_000), { ok: false, reason: "conflict", quote: first.quote });
  assert.equal((await get("q-3")).carValue, 10_000);
});

test("an edit that names a wrong value or field changes nothing", async () => {
  for (const [field, value] of [
    ["driverAge", 17],
    ["driverAge", "40"],
    ["driverAge", 40.5],
    ["carValue", null],
    ["excess", 100],
    ["cover", "none"],
    ["premium", 1],
    ["version", 7],
    ["__proto__", {}],
    ["constructor", 1],
  ]) {
    const set = JSON.parse(`{"cover":"liability",${JSON.stringify(field)}:${JSON.stringify(value)}}`);
    const { ok, reason, fields } = await call("quote.edit", { id: "q-4", version: 0, set });
    assert.deepEqual([ok, reason, fields], [false, "invalid", [field]]);
  }
  assert.equal((await get("q-4")).version, 0);
});

test("calls that make no sense are refused", async () => {
  for (const data of [null, undefined, {}, { id: 7 }, { id: "" }, { id: "a:b" }, { id: "x".repeat(41) }, []]) {
    assert.equal((await call("quote.get", data)).reason, "invalid", JSON.stringify(data));
  }
  for (const set of [undefined, null, [], "cover"]) {
    assert.equal((await call("quote.edit", { id: "q-5", version: 0, set })).reason, "invalid", JSON.stringify(set));
  }
  assert.equal((await call("quote.delete", { id: "q-5" })).reason, "unknown action");
});

test("a change is published to the channel of the quote, a refused one is not", async () => {
  const edit = { id: "q-6", version: 0, set: { cover: "liability" } };
  const [request, ...more] = await withBroadcaster(202, async () => {
    assert.equal((await call("quote.edit", edit)).ok, true);
    assert.equal((await call("quote.edit", edit)).reason, "conflict");
  });
  assert.deepEqual(more, []);
  assert.deepEqual(request, {
    path: "/2015-03-31/functions/Broadcaster/invocations",
    type: "Event",
    target: { type: "channel", channel: "demo:quote:q-6" },
    message: {
      type: "notification",
      data: { kind: "quote.changed", id: "q-6", quote: await get("q-6"), changed: ["cover"], by: "alice" },
    },
    exclude: ["c1"],
  });
});

test("an edit stands even if it cannot be published", async (context) => {
  const logged = context.mock.method(console, "error", () => {});
  await withBroadcaster(500, async () => {
    const edited = await call("quote.edit", { id: "q-7", version: 0, set: { excess: 500 } });
    assert.equal(edited.quote.version, 1);
  });
  assert.equal(logged.mock.callCount(), 1);
});
