import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { BelfryError } from "../../src/index.js";
import { closeClients, RealClient, Transcript } from "../support/real.js";
import { Stack } from "../support/stack.js";

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start();
});
afterEach(closeClients);
afterAll(() => stack.stop());

/** Two users in a channel: one who may be cut off, and one who publishes. */
async function pair(name: string) {
  const [client, publisher] = await Promise.all([RealClient.connect(stack, "alice"), RealClient.connect(stack, "bob")]);
  const transcript = await Transcript.of(client.belfry.channel(name));
  const room = publisher.belfry.channel(name);
  const publish = async (...texts: string[]) => {
    await Promise.all(texts.map((text) => room.publish("chat.line", { text })));
  };
  return { client, publisher, transcript, publish };
}

describe("a message", () => {
  it("reaches subscribers with its sender and its position", async () => {
    const { transcript, publish } = await pair("room:reach");
    await publish("hi");
    await transcript.until(({ messages }) => messages.length === 1);
    expect(transcript.messages).toMatchObject([
      { kind: "chat.line", data: { text: "hi" }, from: "bob", channel: "room:reach", position: { seq: 1 } },
    ]);
  });

  it("that was missed during a cut is recovered, in order", async () => {
    const { client, transcript, publish } = await pair("room:cut");
    await publish("a");
    await transcript.until(({ messages }) => messages.length === 1);
    client.network.block(true);
    client.network.cut();
    await client.until("reconnecting");
    await publish("b", "c", "d");
    client.network.block(false);
    await transcript.until(({ messages }) => messages.length === 4);
    await publish("e");
    await transcript.until(({ messages }) => messages.length === 5);
    expect(transcript.texts).toEqual(["a", "b", "c", "d", "e"]);
    expect(transcript.lost).toEqual([]);
  });

  it("is recovered page by page if many were missed", async () => {
    const { client, transcript, publish } = await pair("room:pages");
    client.network.block(true);
    client.network.cut();
    await client.until("reconnecting");
    const padding = "x".repeat(10_000);
    const texts = Array.from({ length: 30 }, (_, index) => `${index} ${padding}`);
    await publish(...texts);
    client.network.block(false);
    await transcript.until(({ messages }) => messages.length === 30);
    expect(transcript.texts).toEqual(texts);
    expect(transcript.lost).toEqual([]);
  });

  it("that a post loses is found in the history after two seconds", async () => {
    const { client, transcript, publish } = await pair("room:post");
    const end = await stack.fault({ fault: "post-500", connection: client.connectionId });
    await publish("a");
    await end();
    await publish("b");
    await transcript.until(({ messages }) => messages.length === 2);
    expect(transcript.texts).toEqual(["a", "b"]);
  });

  it("that is the last one and lost is found when the page becomes visible", async () => {
    const { client, transcript, publish } = await pair("room:last");
    const end = await stack.fault({ fault: "post-500", connection: client.connectionId });
    await publish("a");
    await end();
    client.environment.wake();
    await transcript.until(({ messages }) => messages.length === 1);
    expect(client.states).toEqual(["connected"]);
  });

  it("that is the last one and lost is found by the sync every five minutes", async () => {
    const { client, transcript, publish } = await pair("room:sync");
    const end = await stack.fault({ fault: "post-500", connection: client.connectionId });
    await publish("a");
    await end();
    client.environment.skip((ms) => ms === 5 * 60_000);
    await transcript.until(({ messages }) => messages.length === 1);
  });

  it("that cannot be recovered is reported as lost", async () => {
    const { client, publisher, transcript } = await pair("room:far");
    client.network.block(true);
    client.network.cut();
    await client.until("reconnecting");
    const room = publisher.belfry.channel("room:far");
    // One more than a subscription recovers, and no more at a time than may wait.
    for (const length of [100, 100, 100, 1]) {
      await Promise.all(Array.from({ length }, () => room.publish("chat.line", { text: "x" })));
    }
    client.network.block(false);
    await transcript.until(({ lost }) => lost.length === 1);
    expect(transcript.lost).toMatchObject([{ reason: "tooFar", to: { seq: 301 } }]);
    await room.publish("chat.line", { text: "after" });
    await transcript.until(({ messages }) => messages.length === 1);
    expect(transcript.texts).toEqual(["after"]);
  });

  it("of a channel without a history is reported as perhaps lost after a cut", async () => {
    const { client, transcript, publish } = await pair("plain:1");
    await publish("a");
    await transcript.until(({ messages }) => messages.length === 1);
    expect(transcript.messages[0]?.position).toBeUndefined();
    client.network.cut();
    await transcript.until(({ lost }) => lost.length === 1);
    expect(transcript.lost).toMatchObject([{ reason: "noHistory" }]);
  });
});

describe("publish", () => {
  it("waits for the connection, keeps the order, and publishes each message once", async () => {
    const { client, transcript, publisher } = await pair("room:queue");
    publisher.network.block(true);
    publisher.network.cut();
    await publisher.until("reconnecting");
    const room = publisher.belfry.channel("room:queue");
    const published = ["a", "b", "c"].map((text) => room.publish("chat.line", { text }));
    publisher.network.block(false);
    await Promise.all(published);
    await transcript.until(({ messages }) => messages.length === 3);
    expect(transcript.texts).toEqual(["a", "b", "c"]);
    expect(client.states).toEqual(["connected"]);
  });

  it.each([
    ["whose answer is lost", "function-lose-answer"],
    ["whose function dies", "function-kill"],
  ])("%s is repeated, and the message published once", async (name, fault) => {
    const { transcript, publish } = await pair(`room:${fault}`);
    const end = await stack.fault({ fault, function: "Default", times: 1 });
    await publish("a");
    expect(await stack.struck()).toBe(1);
    await end();
    await publish("b");
    await transcript.until(({ messages }) => messages.length === 2);
    expect(transcript.texts, name).toEqual(["a", "b"]);
  });

  it("is repeated if the connection is cut before the answer", async () => {
    const { transcript, publisher } = await pair("room:answer");
    const room = publisher.belfry.channel("room:answer");
    for (const text of ["a", "b", "c", "d"]) {
      const published = room.publish("chat.line", { text });
      await new Promise((resolve) => setImmediate(resolve));
      publisher.network.cut();
      await published;
    }
    await transcript.until(({ messages }) => messages.length === 4);
    expect(transcript.texts).toEqual(["a", "b", "c", "d"]);
  });

  it("rejects where the rules do not allow it", async () => {
    const client = await RealClient.connect(stack, "alice");
    await expect(client.belfry.channel("admin:1").publish("chat.line")).rejects.toMatchObject({ code: "FORBIDDEN" });
  });
});

describe("a subscription", () => {
  it("is refused where the rules do not allow it", async () => {
    const client = await RealClient.connect(stack, "alice");
    const allowed = client.belfry.channel("room:rules").subscribe();
    await expect(client.belfry.channel("admin:1").subscribe()).rejects.toMatchObject({ code: "FORBIDDEN" });
    await allowed;
  });

  it("ends with an error if a newer token does not allow it any more", async () => {
    let groups = ["admins"];
    const client = await RealClient.connect(stack, "carol", {
      speed: 1,
      token: () => stack.token("carol", { ttl: 16, groups }),
    });
    const room = client.belfry.channel("admin:1");
    const refused = new Promise<BelfryError>((resolve) => room.on("error", resolve));
    await room.subscribe();
    groups = [];
    await expect(refused).resolves.toMatchObject({ code: "FORBIDDEN" });
    expect(client.states).toEqual(["connected"]);
  });

  it("to many channels survives a cut", async () => {
    const client = await RealClient.connect(stack, "alice");
    const publisher = await RealClient.connect(stack, "bob", { speed: 1 });
    const names = Array.from({ length: 48 }, (_, index) => `room:many:${index}`);
    const transcripts = await Promise.all(names.map((name) => Transcript.of(client.belfry.channel(name))));
    client.network.cut();
    await client.untilReconnected();
    await Promise.all(names.map((name) => publisher.belfry.channel(name).publish("chat.line", { text: name })));
    await Promise.all(transcripts.map((one) => one.until(({ messages }) => messages.length === 1)));
    expect(client.network.count).toBe(2);
  });
});

describe("for await", () => {
  it("yields what is published", async () => {
    const { client, publish } = await pair("room:loop");
    const room = client.belfry.channel("room:loop");
    const loop = (async () => {
      const texts: unknown[] = [];
      for await (const { data } of room) if (texts.push(data) === 2) return texts;
      return texts;
    })();
    await publish("a", "b");
    await expect(loop).resolves.toEqual([{ text: "a" }, { text: "b" }]);
  });
});
