import { describe, expect, it } from "vitest";
import type { BelfryOptions, Lost, Message } from "../../src/index.js";
import { connected, type Setup, textsOf } from "../support/client.js";
import { settle } from "../support/clock.js";
import type { FakeServer } from "../support/server.js";

async function joined(options?: Partial<BelfryOptions>, prepare?: (server: FakeServer) => void) {
  const setup: Setup = await connected(options, prepare);
  const messages: Message[] = [];
  const lost: Lost[] = [];
  const log = setup.server.log("room:7");
  const room = setup.belfry.channel("room:7");
  room.on("message", (message) => messages.push(message));
  room.on("lost", (one) => lost.push(one));
  await room.subscribe();
  return { ...setup, room, log, messages, lost };
}

describe("a reconnect", () => {
  it("recovers what was missed with one frame", async () => {
    const { environment, server, log, messages, lost } = await joined();
    server.publish("room:7", "a");
    server.socket.end(1006);
    for (const text of ["b", "c"]) log.append(text);
    await environment.advance(500);
    expect(textsOf(messages)).toEqual(["a", "b", "c"]);
    expect(lost).toEqual([]);
    expect(server.socket.received.length).toBe(1);
    expect(server.socket.of("hello")[0]?.data?.subscribe?.channels).toContainEqual({
      channel: "room:7",
      since: { epoch: "e1", seq: 1 },
    });
  });

  it("reads page after page", async () => {
    const { environment, server, log, messages, lost } = await joined();
    server.pageSize = 10;
    server.socket.end(1006);
    for (let index = 0; index < 95; index += 1) log.append(String(index));
    await environment.advance(500);
    expect(messages.length).toBe(95);
    expect(lost).toEqual([]);
    expect(server.socket.of("history").length).toBe(9);
  });

  it.each([
    ["expired", (server: FakeServer) => (server.log("room:7").expired = 2)],
    ["epoch", (server: FakeServer) => server.log("room:7").restart("e2")],
    ["tooFar", (server: FakeServer) => (server.maxMissed = 1)],
  ])("reports messages that are lost: %s", async (reason, damage) => {
    const { environment, server, log, messages, lost } = await joined();
    server.publish("room:7", "a");
    server.socket.end(1006);
    for (const text of ["b", "c", "d"]) log.append(text);
    damage(server);
    await environment.advance(500);
    expect(lost).toMatchObject([{ reason, from: { epoch: "e1", seq: 1 }, to: { seq: log.newest.seq } }]);
    server.publish("room:7", "e");
    expect(textsOf(messages)).toEqual(["a", "e"]);
  });

  it("reports nothing of an idle channel, even if all of it has expired", async () => {
    const { environment, server, log, lost } = await joined();
    server.publish("room:7", "a");
    log.expired = 1;
    server.socket.end(1006);
    await environment.advance(500);
    expect(lost).toEqual([]);
  });

  it("recovers where nothing had been published before", async () => {
    const { environment, server, log, messages } = await joined();
    server.socket.end(1006);
    log.append("first");
    await environment.advance(500);
    expect(textsOf(messages)).toEqual(["first"]);
  });

  it("reports that nobody knows, if the channel has no history", async () => {
    const { environment, server, belfry } = await connected();
    const lost: unknown[] = [];
    belfry.on("lost", ({ channel, reason }) => lost.push([channel, reason]));
    await belfry.channel("room:8").subscribe();
    expect(lost).toEqual([]);
    server.socket.end(1006);
    await environment.advance(500);
    expect(lost).toEqual([
      ["@me", "noHistory"],
      ["@all", "noHistory"],
      ["room:8", "noHistory"],
    ]);
  });

  it("continues a recovery that the next cut interrupts", async () => {
    const { environment, server, log, messages, lost } = await joined();
    server.pageSize = 10;
    server.socket.end(1006);
    for (let index = 0; index < 50; index += 1) log.append(String(index));
    server.intercept = (frame, socket) => {
      if (frame.type !== "history" || socket.of("history").length < 2) return false;
      server.intercept = () => false;
      socket.end(1006);
      return true;
    };
    await environment.advance(5_000);
    expect(textsOf(messages)).toEqual(Array.from({ length: 50 }, (_, index) => String(index)));
    expect(lost).toEqual([]);
  });
});

describe("a handover", () => {
  it("loses and repeats nothing, and reports nothing", async () => {
    const { environment, server, log, messages, lost, belfry } = await joined();
    const lostAnywhere: unknown[] = [];
    belfry.on("lost", (one) => lostAnywhere.push(one));
    server.publish("room:7", "a");
    server.accepts = false;
    server.socket.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(600_000) } });
    await settle();
    server.publish("room:7", "b");
    server.accepts = true;
    server.socket.accept();
    server.publish("room:7", "c");
    await settle();
    log.append("d");
    server.publish("room:7", "e");
    await environment.advance(2_000);
    expect(textsOf(messages)).toEqual(["a", "b", "c", "d", "e"]);
    expect([...lost, ...lostAnywhere]).toEqual([]);
  });

  it("leaves the old connection no say about subscriptions", async () => {
    const { server, room, messages } = await joined();
    const errors: unknown[] = [];
    room.on("error", (error) => errors.push(error));
    const [old] = server.sockets;
    server.intercept = (frame, socket) => frame.type === "publish" && socket === old;
    const published = room.publish("chat.line");
    await settle();
    old?.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(600_000) } });
    await settle();
    expect(server.open.length).toBe(2);
    old?.send({ type: "unsubscribed", version: "1.0", data: { channels: ["room:7"], reason: "FORBIDDEN" } });
    old?.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(600_000) } });
    await settle();
    server.publish("room:7", "a");
    expect(errors).toEqual([]);
    expect(textsOf(messages)).toEqual(["a"]);
    expect(server.sockets.length).toBe(2);
    old?.end(1001);
    await expect(published).resolves.toMatchObject({ channel: "room:7" });
  });

  it("takes channels along that are opened meanwhile", async () => {
    const { server, belfry } = await joined();
    const held: Array<() => void> = [];
    server.intercept = (frame, socket) => {
      if (frame.type !== "hello") return false;
      held.push(() => server.answer(frame, socket));
      return true;
    };
    server.socket.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(600_000) } });
    await settle();
    await belfry.channel("room:8").subscribe();
    belfry.channel("room:7").close();
    await settle();
    for (const answer of held) answer();
    await settle();
    expect(server.open.length).toBe(1);
    expect([...server.socket.subscribed].filter((name) => !name.startsWith("@"))).toEqual(["room:8"]);
  });
});

describe("a gap", () => {
  it("is closed from the history after two seconds", async () => {
    const { environment, server, log, messages } = await joined();
    log.append("a");
    server.publish("room:7", "b");
    await environment.advance(1_999);
    expect(messages).toEqual([]);
    expect(server.socket.of("history")).toEqual([]);
    await environment.advance(1);
    expect(textsOf(messages)).toEqual(["a", "b"]);
    expect(server.socket.of("history")).toMatchObject([{ data: { channel: "room:7", after: { seq: 0 }, limit: 300 } }]);
  });

  it("that closes by itself costs no frame", async () => {
    const { environment, server, log, messages } = await joined();
    const first = log.append("a");
    server.publish("room:7", "b");
    await environment.advance(1_000);
    server.post(first);
    await environment.advance(60_000);
    expect(textsOf(messages)).toEqual(["a", "b"]);
    expect(server.socket.of("history")).toEqual([]);
  });

  it("is asked about again if the answer is an error", async () => {
    const { environment, server, log, messages } = await joined();
    server.intercept = (frame, socket) => {
      if (frame.type !== "history" || socket.of("history").length > 2) return false;
      server.refuse(frame, socket, "INTERNAL");
      return true;
    };
    log.append("a");
    server.publish("room:7", "b");
    await environment.advance(2_000 + 500 + 1_000);
    expect(textsOf(messages)).toEqual(["a", "b"]);
  });
});

describe("sync", () => {
  it("finds a lost last message every five minutes", async () => {
    const { environment, log, messages } = await joined();
    log.append("a");
    await environment.advance(5 * 60_000 - 1);
    expect(messages).toEqual([]);
    await environment.advance(1);
    expect(textsOf(messages)).toEqual(["a"]);
  });

  it("finds it when the page becomes visible", async () => {
    const { environment, log, messages, server } = await joined();
    log.append("a");
    await environment.wake();
    expect(textsOf(messages)).toEqual(["a"]);
    expect(server.socket.of("sync").length).toBe(1);
  });

  it("subscribes again if the server has forgotten", async () => {
    const { environment, server, log, messages } = await joined();
    server.socket.subscribed.delete("room:7");
    log.append("a");
    await environment.wake();
    expect(server.socket.subscribed).toContain("room:7");
    expect(textsOf(messages)).toEqual(["a"]);
  });
});

describe("messages that are not kept", () => {
  it("are delivered at once, each once", async () => {
    const { server, messages, lost } = await joined();
    const frame = { type: "message" as const, version: "1.0", id: "1", channel: "room:7", from: { userId: "bob" } };
    server.post({ ...frame, data: { kind: "cursor", data: { text: "x" } } });
    server.post({ ...frame, data: { kind: "cursor", data: { text: "x" } } });
    server.post({ ...frame, from: { userId: "carol" }, data: { kind: "cursor", data: { text: "y" } } });
    expect(textsOf(messages)).toEqual(["x", "y"]);
    expect(lost).toEqual([]);
  });
});

describe("an answer that says that a message is gone", () => {
  it.each(["history", "hello"] as const)("is no loss if the message arrives before the answer to %s", async (type) => {
    const { environment, server, log, messages, lost } = await joined();
    server.publish("room:7", "a");
    const late = log.append("b");
    if (type === "hello") server.socket.end(1006);
    else server.publish("room:7", "c");
    server.intercept = (frame, socket) => {
      if (frame.type !== type || log.expired > 0) return false;
      log.expired = 2;
      socket.send(late);
      log.append("d");
      return false;
    };
    await environment.advance(2_000);
    expect(lost).toEqual([]);
    expect(textsOf(messages)).toEqual(type === "hello" ? ["a", "b", "d"] : ["a", "b", "c", "d"]);
  });
});
