import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { closeClients, RealClient, Transcript, untilRead } from "../support/real.js";
import { Stack } from "../support/stack.js";

const CALLS = fileURLToPath(new URL("../support/calls.mjs", import.meta.url));

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start("--function", `CallFunction=${CALLS}`);
});
afterEach(closeClients);
afterAll(() => stack.stop());

describe("ack", () => {
  it("lets another device begin with what is unread", async () => {
    const publisher = await RealClient.connect(stack, "bob");
    const room = publisher.belfry.channel("room:unread");
    const phone = await RealClient.connect(stack, "alice");
    const onPhone = phone.belfry.channel("room:unread");
    const transcript = await Transcript.of(onPhone);
    for (const text of ["a", "b", "c"]) await room.publish("chat.line", { text });
    await transcript.until(({ messages }) => messages.length === 3);
    onPhone.ack(transcript.messages[1]?.position);
    await untilRead(stack, "room:unread", 2, "alice");
    phone.network.cut();
    const laptop = await RealClient.connect(stack, "alice");
    const unread = await Transcript.of(laptop.belfry.channel("room:unread", { since: "acked" }));
    await unread.until(({ messages }) => messages.length === 1);
    await room.publish("chat.line", { text: "d" });
    await unread.until(({ messages }) => messages.length === 2);
    expect(unread.texts).toEqual(["c", "d"]);
    expect(unread.lost).toEqual([]);
  });

  it("reaches the server after a cut", async () => {
    const publisher = await RealClient.connect(stack, "bob");
    const client = await RealClient.connect(stack, "alice");
    const room = client.belfry.channel("room:cut");
    const transcript = await Transcript.of(room);
    for (const text of ["a", "b"]) await publisher.belfry.channel("room:cut").publish("chat.line", { text });
    await transcript.until(({ messages }) => messages.length === 2);
    client.network.block(true);
    client.network.cut();
    await client.until("reconnecting");
    room.ack();
    client.network.block(false);
    await untilRead(stack, "room:cut", 2, "alice");
  });

  it("of nothing is said when somebody asks for what is unread", async () => {
    const client = await RealClient.connect(stack, "carol");
    await RealClient.connect(stack, "bob").then(({ belfry }) =>
      belfry.channel("room:new").publish("chat.line", { text: "a" }),
    );
    const transcript = await Transcript.of(client.belfry.channel("room:new", { since: "acked" }));
    expect(transcript.lost).toMatchObject([{ reason: "notAcked", to: { seq: 1 } }]);
  });
});

describe("call", () => {
  it("resolves with what the application's function returned", async () => {
    const { belfry } = await RealClient.connect(stack, "alice");
    const result = { userId: "alice", action: "quote.edit", data: { age: 41 } };
    await expect(belfry.call("quote.edit", { age: 41 })).resolves.toEqual(result);
  });

  it("rejects if the function fails", async () => {
    const { belfry } = await RealClient.connect(stack, "alice");
    await expect(belfry.call("fail")).rejects.toMatchObject({ code: "CALL_FAILED", advice: "retryLater" });
  });

  it("rejects if a function of the stack is killed, and is not repeated", async () => {
    const { belfry } = await RealClient.connect(stack, "alice");
    const end = await stack.fault({ fault: "function-kill", function: "Default", times: 1 });
    await expect(belfry.call("quote.edit")).rejects.toMatchObject({ code: "INTERNAL" });
    await end();
  });
});
