import assert from "node:assert/strict";
import test from "node:test";

import { handler } from "./index.mjs";

const ask = (userId, channel) => handler({ userId, claims: {}, channel, action: "subscribe" });

test("the owner of a document may subscribe and publish for five minutes", async () => {
  const expected = { allow: ["subscribe", "publish"], seconds: 300 };
  for (const userId of ["alice", "5f1c-77", "a~b"]) {
    assert.deepEqual(await ask(userId, `doc:${userId}~plan`), expected, userId);
  }
});

test("nobody else may do anything", async () => {
  for (const [userId, channel] of [
    ["bob", "doc:alice~plan"],
    ["a", "doc:a~b~plan"],
    ["b", "doc:a~b~plan"],
    ["alic", "doc:alice~plan"],
    ["", "doc:~plan"],
    ["null", "doc:plan"],
    [undefined, "doc:plan"],
    [null, "doc:plan"],
  ]) {
    assert.deepEqual(await ask(userId, channel), { allow: [] }, `${userId} in ${channel}`);
  }
});

test("other channels are refused", async () => {
  for (const channel of ["room:alice~plan", "doc:alice", "doc:alice~", "doc:alice~plan:draft", "xdoc:alice~plan", ""]) {
    assert.deepEqual(await ask("alice", channel), { allow: [] }, channel);
  }
});
