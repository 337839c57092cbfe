import { describe, expect, it } from "vitest";
import type { BelfryError, Lost, Message } from "../../src/index.js";
import { locks } from "../../src/locks.js";
import { presence } from "../../src/presence.js";
import { connected, setUp, textsOf } from "../support/client.js";
import { settle } from "../support/clock.js";
import type { FakeServer } from "../support/server.js";

describe("a channel", () => {
  it("is subscribed to when somebody listens, and not before", async () => {
    const { server, belfry } = await connected();
    const room = belfry.channel("room:7");
    await settle();
    expect(server.socket.of("subscribe")).toEqual([]);
    room.on("message", () => {});
    await settle();
    expect(server.socket.of("subscribe")).toMatchObject([{ data: { channels: [{ channel: "room:7" }] } }]);
  });

  it("rides on hello if it is wanted before the connection is there", async () => {
    const { server, belfry } = setUp();
    const joined = belfry.channel("room:7").subscribe();
    await joined;
    expect(server.socket.received.length).toBe(1);
    expect(server.socket.of("hello")[0]?.data?.subscribe?.channels).toContainEqual({ channel: "room:7" });
  });

  it("shares a frame with others that are wanted at the same time", async () => {
    const { server, belfry } = await connected();
    const names = Array.from({ length: 60 }, (_, index) => `room:${index}`);
    await Promise.all(names.map((name) => belfry.channel(name).subscribe()));
    expect(server.socket.of("subscribe").map(({ data }) => data.channels.length)).toEqual([50, 10]);
  });

  it("is split over frames that the server accepts", async () => {
    const { server, belfry } = await connected({}, (server) => {
      server.maxMessageBytes = 1_000;
    });
    const names = Array.from({ length: 30 }, (_, index) => `room:${"x".repeat(60)}:${index}`);
    await Promise.all(names.map((name) => belfry.channel(name).subscribe()));
    for (const frame of server.socket.received) expect(JSON.stringify(frame).length).toBeLessThanOrEqual(1_000);
  });

  it("delivers messages by kind and as messages", async () => {
    const { server, belfry } = await connected();
    server.log("room:7");
    const room = belfry.channel("room:7");
    const messages: Message[] = [];
    const lines: unknown[] = [];
    room.on("message", (message) => messages.push(message));
    room.on("chat.line", ({ data }) => lines.push(data));
    room.on("chat.other", () => lines.push("wrong"));
    await room.subscribe();
    server.publish("room:7", "hi");
    expect(messages).toMatchObject([
      {
        kind: "chat.line",
        data: { text: "hi" },
        from: "bob",
        id: "hi",
        channel: "room:7",
        position: { epoch: "e1", seq: 1 },
      },
    ]);
    expect(lines).toEqual([{ text: "hi" }]);
    expect(room.position).toEqual({ epoch: "e1", seq: 1 });
  });

  it("never takes a kind for an event", async () => {
    const { server, belfry } = await connected();
    const room = belfry.channel("room:7");
    const events: unknown[] = [];
    room.on("lost", (lost) => events.push(lost));
    room.on("error", (error) => events.push(error));
    await room.subscribe();
    for (const kind of ["lost", "error"]) {
      server.post({ type: "message", version: "1.0", channel: "room:7", data: { kind }, from: { userId: "mallory" } });
    }
    expect(events).toEqual([]);
  });

  it("keeps working when a listener throws", async () => {
    const { server, belfry } = await connected();
    server.log("room:7");
    const room = belfry.channel("room:7");
    const messages: Message[] = [];
    const thrown = new Promise((resolve) => process.once("uncaughtException", resolve));
    const listeners = process.rawListeners("uncaughtException").slice(0, -1) as NodeJS.UncaughtExceptionListener[];
    for (const listener of listeners) process.off("uncaughtException", listener);
    room.on("message", ({ id }) => {
      if (id === "a") throw new Error("a listener's fault");
    });
    room.on("message", (message) => messages.push(message));
    await room.subscribe();
    server.publish("room:7", "a");
    server.publish("room:7", "b");
    await expect(thrown).resolves.toMatchObject({ message: "a listener's fault" });
    await new Promise((resolve) => setImmediate(resolve));
    for (const listener of listeners) process.on("uncaughtException", listener);
    expect(textsOf(messages)).toEqual(["a", "b"]);
  });

  it("has one object for each name, until it is closed", async () => {
    const { belfry } = await connected();
    const room = belfry.channel("room:7");
    expect(belfry.channel("room:7")).toBe(room);
    room.close();
    expect(belfry.channel("room:7")).not.toBe(room);
    await expect(room.subscribe()).rejects.toMatchObject({ code: "CLOSED" });
  });

  it.each(["", "@you", "room::7", ":", "room 7", "x".repeat(129), "räume"])("cannot be named %j", async (name) => {
    const { belfry } = await connected();
    expect(() => belfry.channel(name)).toThrow(TypeError);
  });

  it("that is forbidden says so, and the others are not affected", async () => {
    const { server, belfry } = await connected();
    server.forbidden.add("room:8");
    const [seven, eight] = [belfry.channel("room:7"), belfry.channel("room:8")];
    const errors: BelfryError[] = [];
    eight.on("error", (error) => errors.push(error));
    await Promise.all([
      seven.subscribe(),
      expect(eight.subscribe()).rejects.toMatchObject({ code: "FORBIDDEN", advice: "giveUp" }),
    ]);
    expect(errors.map(({ code }) => code)).toEqual(["FORBIDDEN"]);
    server.forbidden.clear();
    await eight.subscribe();
  });

  it("that was forbidden is asked for again on the next connection", async () => {
    const { environment, server, belfry } = await connected();
    server.forbidden.add("room:7");
    const room = belfry.channel("room:7");
    await expect(room.subscribe()).rejects.toMatchObject({ code: "FORBIDDEN" });
    server.forbidden.clear();
    server.socket.end(1006);
    await environment.advance(500);
    expect(server.socket.subscribed).toContain("room:7");
  });

  it("unsubscribes when it is closed", async () => {
    const { server, belfry } = await connected();
    const room = belfry.channel("room:7");
    await room.subscribe();
    room.close();
    await settle();
    expect(server.socket.of("unsubscribe")).toMatchObject([{ data: { channels: ["room:7"] } }]);
    expect(server.socket.subscribed).not.toContain("room:7");
  });

  it("unsubscribes when it is closed right after its options changed", async () => {
    const { server, belfry } = await connected();
    const room = belfry.channel("room:7", { presence: { name: "Alice" } });
    await room.subscribe();
    belfry.channel("room:7", { presence: undefined });
    room.close();
    await settle();
    expect(server.socket.subscribed).not.toContain("room:7");
  });

  it("that is closed and opened again is subscribed only after it was unsubscribed", async () => {
    const { server, belfry } = await connected();
    await belfry.channel("room:7").subscribe();
    const held: Array<() => void> = [];
    server.intercept = (frame, socket) => {
      if (frame.type !== "unsubscribe") return false;
      held.push(() => server.answer(frame, socket));
      return true;
    };
    belfry.channel("room:7").close();
    const again = belfry.channel("room:7").subscribe();
    await settle();
    expect(server.socket.of("subscribe").length).toBe(1);
    for (const answer of held) answer();
    await again;
    expect(server.socket.subscribed).toContain("room:7");
  });

  it("that the server unsubscribes says so", async () => {
    const { server, belfry } = await connected();
    const room = belfry.channel("room:7");
    const errors: BelfryError[] = [];
    room.on("error", (error) => errors.push(error));
    await room.subscribe();
    server.socket.subscribed.delete("room:7");
    server.socket.send({ type: "unsubscribed", version: "1.0", data: { channels: ["room:7"], reason: "FORBIDDEN" } });
    expect(errors.map(({ code }) => code)).toEqual(["FORBIDDEN"]);
    await room.subscribe();
    expect(server.socket.subscribed).toContain("room:7");
  });

  it("is renewed before the application's permission ends", async () => {
    const { environment, server, belfry } = await connected();
    server.log("room:7");
    server.intercept = (frame, socket) => {
      if (frame.type !== "subscribe") return false;
      const until = server.timestamp(300_000);
      const channels = frame.data.channels.map(({ channel }) => ({ channel, until, ...server.log(channel).newest }));
      socket.send({
        type: "subscribed",
        version: "1.0",
        timestamp: server.timestamp(),
        data: { channels },
        ...(frame.id && { correlationId: frame.id }),
      });
      return true;
    };
    await belfry.channel("room:7").subscribe();
    await environment.advance(269_999);
    expect(server.socket.of("subscribe").length).toBe(1);
    await environment.advance(1);
    expect(server.socket.of("subscribe").length).toBe(2);
    expect(server.socket.of("subscribe")[1]?.data.channels[0]?.since).toMatchObject({ seq: 0 });
  });

  it("is asked for again if the answer is an error or does not come", async () => {
    const { environment, server, belfry } = await connected();
    server.intercept = (frame, socket) => {
      if (frame.type !== "subscribe") return false;
      const count = socket.of("subscribe").length;
      if (count === 1) server.refuse(frame, socket, "INTERNAL");
      return count <= 2;
    };
    const joined = belfry.channel("room:7").subscribe();
    await environment.advance(500 + 10_000 + 1_000);
    await joined;
    expect(server.socket.of("subscribe").length).toBe(3);
  });
});

describe("for await", () => {
  it("yields messages in order, and ends when the channel is closed", async () => {
    const { server, belfry } = await connected();
    server.log("room:7");
    const room = belfry.channel("room:7");
    const texts: string[] = [];
    const loop = (async () => {
      for await (const message of room) texts.push(...textsOf([message]));
    })();
    await settle();
    for (const text of ["a", "b"]) server.publish("room:7", text);
    await settle();
    server.publish("room:7", "c");
    room.close();
    await loop;
    expect(texts).toEqual(["a", "b", "c"]);
  });

  it("can be left", async () => {
    const { server, belfry } = await connected();
    server.log("room:7");
    const loop = (async () => {
      for await (const message of belfry.channel("room:7")) return message.id;
      return undefined;
    })();
    await settle();
    server.publish("room:7", "a");
    await expect(loop).resolves.toBe("a");
  });

  it("fails if the subscription is refused", async () => {
    const { server, belfry } = await connected();
    server.forbidden.add("room:7");
    await expect(belfry.channel("room:7")[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "FORBIDDEN" });
  });

  it("fails if it is too slow, after what it has not read", async () => {
    const { server, belfry } = await connected();
    server.log("room:7");
    const messages = belfry.channel("room:7")[Symbol.asyncIterator]();
    await settle();
    for (let index = 0; index < 1_100; index += 1) server.publish("room:7", String(index));
    for (let index = 0; index < 1_000; index += 1) expect((await messages.next()).value?.id).toBe(String(index));
    await expect(messages.next()).rejects.toMatchObject({ code: "SLOW_CONSUMER" });
    await expect(messages.next()).resolves.toMatchObject({ done: true });
  });

  it("can be left while it waits, and before it has begun", async () => {
    const { server, belfry } = await connected();
    server.log("room:7");
    const room = belfry.channel("room:7");
    const messages = room[Symbol.asyncIterator]();
    await settle();
    const next = messages.next();
    await expect(messages.return?.()).resolves.toMatchObject({ done: true });
    await expect(next).resolves.toMatchObject({ done: true });
    const unused = room[Symbol.asyncIterator]();
    server.publish("room:7", "a");
    await expect(unused.return?.()).resolves.toMatchObject({ done: true });
    await expect(unused.next()).resolves.toMatchObject({ done: true });
    room.release();
    expect(belfry.channel("room:7")).not.toBe(room);
  });

  it("ends when the client is closed", async () => {
    const { belfry } = await connected();
    const messages = belfry.channel("room:7")[Symbol.asyncIterator]();
    const next = messages.next();
    belfry.close();
    await expect(next).resolves.toMatchObject({ done: true });
  });
});

describe("notifications", () => {
  const notification = (kind: string, id: string, more = {}) => ({
    type: "notification" as const,
    version: "1.0",
    id,
    data: { kind, file: "x.png" },
    ...more,
  });

  it("reach listeners of their kind, each once", async () => {
    const { server, belfry } = await connected();
    const files: string[] = [];
    const all: Message[] = [];
    belfry.on("upload.completed", ({ data }) => files.push(data.file));
    belfry.on("notification", (message) => all.push(message));
    server.post(notification("upload.completed", "1"));
    server.post(notification("upload.completed", "1"));
    server.post(notification("other", "2"));
    expect(files).toEqual(["x.png"]);
    expect(all.map(({ kind }) => kind)).toEqual(["upload.completed", "other"]);
  });

  it("arrive once although two connections receive them", async () => {
    const { server, belfry } = await connected();
    const ids: unknown[] = [];
    belfry.on("notification", ({ id }) => ids.push(id));
    server.intercept = (frame) => frame.type === "publish";
    void belfry.channel("room:7").publish("chat.line");
    server.socket.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(600_000) } });
    await settle();
    expect(server.open.length).toBe(2);
    server.post(notification("other", "1"));
    server.post(notification("other", "1", { channel: "@all" }));
    expect(ids).toEqual(["1", "1"]);
  });

  it("with a position are ordered and recovered like those of a channel", async () => {
    const { environment, server, belfry } = await connected({}, (server) => {
      server.log("@me");
    });
    const texts: string[] = [];
    belfry.on("notification", (message) => texts.push(...textsOf([message])));
    belfry.channel("@me").on("message", (message) => texts.push(...textsOf([message])));
    const at = (seq: number, text: string) =>
      notification("n", text, { channel: "@me", position: { epoch: "e1", seq }, data: { kind: "n", text } });
    server.log("@me").messages.push(at(1, "a"), at(2, "b"));
    server.post(at(2, "b"));
    expect(texts).toEqual([]);
    await environment.advance(2_000);
    expect(texts).toEqual(["a", "a", "b", "b"]);
  });

  describe("in a channel that a rule subscribes to", () => {
    const at = (seq: number, text: string) =>
      notification("n", text, { channel: "tenant:acme", position: { epoch: "e1", seq }, data: { kind: "n", text } });

    async function automatic(options = {}) {
      const setup = setUp({}, (server) => {
        server.autoSubscribed = ["tenant:acme"];
        server.log("tenant:acme").messages.push(at(1, "before"));
        Object.assign(server, options);
      });
      const texts: string[] = [];
      const lost: unknown[] = [];
      setup.belfry.on("notification", (message) => texts.push(...textsOf([message])));
      setup.belfry.on("lost", (one) => lost.push(one));
      await settle();
      const post = (seq: number, text: string) => {
        setup.server.log("tenant:acme").messages.push(at(seq, text));
        setup.server.post(at(seq, text));
      };
      return { ...setup, texts, lost, post };
    }

    it("are ordered, and reach listeners of the client once, also when the page opens the channel", async () => {
      const { environment, server, belfry, texts, post } = await automatic();
      post(2, "a");
      server.log("tenant:acme").messages.push(at(3, "b"));
      post(4, "c");
      expect(texts).toEqual(["a"]);
      await environment.advance(2_000);
      expect(texts).toEqual(["a", "b", "c"]);
      const own: Message[] = [];
      belfry.channel("tenant:acme").on("message", (message) => own.push(message));
      await settle();
      expect(server.socket.of("subscribe")).toEqual([]);
      post(5, "d");
      expect(texts).toEqual(["a", "b", "c", "d"]);
      expect(textsOf(own)).toEqual(["d"]);
      belfry.channel("tenant:acme").close();
      await settle();
      post(6, "e");
      expect(texts).toEqual(["a", "b", "c", "d", "e"]);
      expect(textsOf(own)).toEqual(["d"]);
    });

    it("are recovered", async () => {
      const { environment, server, texts, lost, post } = await automatic();
      server.socket.end(1006);
      server.log("tenant:acme").messages.push(at(2, "a"));
      await environment.advance(2_000);
      expect(server.socket.of("hello")[0]?.data?.subscribe?.channels).toContainEqual({
        channel: "tenant:acme",
        since: { epoch: "e1", seq: 1 },
      });
      post(3, "b");
      expect(texts).toEqual(["a", "b"]);
      server.socket.end(1006);
      server.log("tenant:acme").restart("e2");
      server.log("tenant:acme").append("c");
      await environment.advance(4_000);
      expect(lost).toContainEqual(expect.objectContaining({ channel: "tenant:acme", reason: "epoch" }));
    });

    it("come once if they arrive before the answer to hello", async () => {
      const intercept = (frame: { type: string }, socket: { send(frame: object): void }) => {
        if (frame.type === "hello") for (const seq of [2, 1]) socket.send(at(seq, String(seq)));
        return false;
      };
      const { texts, post } = await automatic({ intercept });
      expect(texts).toEqual(["1", "2"]);
      post(2, "2");
      post(3, "3");
      expect(texts).toEqual(["1", "2", "3"]);
    });

    it("end when no rule subscribes any more, unless the page uses the channel", async () => {
      const { environment, server, belfry, texts, post } = await automatic({
        autoSubscribed: ["tenant:acme", "tenant:b"],
      });
      const own: Message[] = [];
      belfry.channel("tenant:acme").on("message", (message) => own.push(message));
      server.autoSubscribed = [];
      server.socket.end(1006);
      await environment.advance(2_000);
      expect([...server.socket.subscribed].filter((name) => !name.startsWith("@"))).toEqual(["tenant:acme"]);
      post(2, "a");
      expect(texts).toEqual([]);
      expect(textsOf(own)).toEqual(["a"]);
      belfry.channel("tenant:acme").close();
      await settle();
      expect(server.socket.of("unsubscribe").flatMap(({ data }) => data.channels)).toEqual(["tenant:b", "tenant:acme"]);
    });
  });

  it("never come from clients", async () => {
    const { server, belfry } = await connected();
    const messages: Message[] = [];
    belfry.on("notification", (message) => messages.push(message));
    belfry.on("upload.completed", (message) => messages.push(message));
    const data = { kind: "upload.completed", data: { file: "evil" } };
    server.post({ type: "message", version: "1.0", id: "1", data, from: { userId: "mallory" } });
    expect(messages).toEqual([]);
  });
});

describe("another user", () => {
  it("is not told that the first one's messages are lost", async () => {
    const { server, belfry } = await connected({}, (server) => {
      server.log("@me").append("a");
    });
    const lost: Lost[] = [];
    belfry.channel("@me").on("lost", (one) => lost.push(one));
    const data = { code: "SIGNED_OUT" as const, message: "m", timestamp: server.timestamp() };
    server.socket.send({ type: "error", version: "1.0", data });
    server.socket.end(1000);
    server.userId = "bob";
    server.log("@me").restart("e2");
    server.log("@me").append("b");
    belfry.connect();
    await settle();
    expect(belfry.status).toMatchObject({ state: "connected", userId: "bob" });
    expect(lost).toEqual([]);
    expect(belfry.channel("@me").position).toEqual({ epoch: "e2", seq: 1 });
  });

  const data = { kind: "other" };
  const notification = { type: "notification" as const, version: "1.0", id: "1", channel: "@me", data };

  /** Cuts the connection of alice. The next one is bob's. */
  async function switched(prepare: (server: FakeServer) => void = () => {}) {
    const setup = await connected({}, prepare);
    const { server, environment } = setup;
    return {
      ...setup,
      async next() {
        server.userId = "bob";
        server.socket.end(1006);
        await environment.advance(2_000);
      },
    };
  }

  it("gets the notifications that come before `welcome`, when the status has said whose they are", async () => {
    const { server, belfry, next } = await switched((server) => {
      server.log("@me").append("for alice");
    });
    const seen: unknown[] = [];
    belfry.on("status", (status) => status.state === "connected" && seen.push(status.userId));
    belfry.on("notification", ({ id }) => seen.push(id));
    server.log("@me").restart("e2");
    server.log("@me").append("before");
    server.intercept = (frame, socket) => {
      if (frame.type !== "hello") return false;
      socket.send({ ...notification, id: "none" });
      for (const id of ["first", "second"]) {
        const { position } = server.log("@me").append(id);
        if (position) socket.send({ ...notification, id, position });
      }
      return false;
    };
    await next();
    expect(seen).toEqual(["bob", "none", "first", "second"]);
  });

  it("gets nothing that comes on the first one's connection", async () => {
    const { server, belfry } = await connected();
    const seen: unknown[] = [];
    belfry.on("notification", ({ id }) => seen.push([belfry.status.state === "connected" && belfry.status.userId, id]));
    const [first] = server.sockets;
    server.intercept = (frame) => {
      if (frame.type === "hello") first?.send({ ...notification, id: "early" });
      // A request without an answer keeps a connection that was replaced open.
      return frame.type === "publish";
    };
    const published = belfry
      .channel("room:7")
      .publish("chat.line")
      .catch(({ code }) => code);
    server.userId = "bob";
    first?.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(600_000) } });
    await expect(published).resolves.toBe("CLOSED");
    expect(belfry.status).toMatchObject({ userId: "bob" });
    first?.send({ ...notification, id: "late" });
    expect(seen).toEqual([["alice", "early"]]);
    expect(server.open.length).toBe(1);
  });

  it("may be sent the ids that the first one was sent", async () => {
    const { server, belfry, next } = await switched();
    const seen: unknown[] = [];
    belfry.on("notification", ({ id }) => seen.push(id));
    server.post(notification);
    await next();
    server.post(notification);
    expect(seen).toEqual(["1", "1"]);
  });

  it("begins every channel anew, whatever the first one has read", async () => {
    const { server, belfry, next } = await switched((server) => {
      for (const text of ["a", "b", "c"]) server.log("room:7").append(text);
      server.acked.set("room:7", { epoch: "e1", seq: 2 });
    });
    const texts: string[] = [];
    const lost: Lost[] = [];
    const room = belfry.channel("room:7", { since: "acked" });
    room.on("message", (message) => texts.push(...textsOf([message])));
    room.on("lost", (one) => lost.push(one));
    await room.subscribe();
    server.acked.set("room:7", { epoch: "e1", seq: 1 });
    await next();
    expect(texts).toEqual(["c", "b", "c"]);
    expect(lost).toEqual([]);
  });

  it("sends nothing that the first one has left behind", async () => {
    const { environment, server, belfry, next } = await switched((server) => {
      server.log("room:7").append("a");
    });
    const room = belfry.channel("room:7");
    room.on("message", () => {});
    await room.subscribe();
    server.intercept = (frame, socket) => {
      const fails = frame.type === "ack" || frame.type === "publish";
      if (fails) server.refuse(frame, socket, "INTERNAL");
      return fails;
    };
    room.ack();
    const published = room.publish("chat.line", { text: "from alice" }).catch(({ code }) => code);
    await settle();
    server.userId = "bob";
    server.intercept = () => false;
    await next();
    await environment.advance(60_000);
    await expect(published).resolves.toBe("CLOSED");
    expect(server.socket.of("publish")).toEqual([]);
    expect(server.socket.of("ack")).toEqual([]);
  });
});

describe("the status of a channel", () => {
  it("says what the server has answered, and each change once", async () => {
    const { environment, server, belfry } = await connected();
    const room = belfry.channel("room:7");
    const states: unknown[] = [];
    room.on("status", ({ state, error }) => states.push(error?.code ?? state));
    expect(room.status).toEqual({ state: "subscribing" });
    await room.subscribe();
    belfry.channel("room:7", { locks: true });
    await settle();
    expect(server.socket.of("subscribe").length).toBe(2);
    expect(room.status).toEqual({ state: "subscribed" });
    server.socket.send({ type: "unsubscribed", version: "1.0", data: { channels: ["room:7"], reason: "FORBIDDEN" } });
    expect(room.status).toMatchObject({ state: "refused", error: { code: "FORBIDDEN" } });
    server.socket.end(1006);
    server.accepts = false;
    await environment.advance(60_000);
    server.accepts = true;
    await environment.advance(60_000);
    expect(states).toEqual(["subscribed", "subscribing", "FORBIDDEN", "subscribing", "subscribed"]);
  });

  it("does not change if something else is refused", async () => {
    const { server, belfry } = await connected({}, (server) => {
      server.log("room:7").append("a");
    });
    const room = belfry.channel("room:7");
    const errors: BelfryError[] = [];
    room.on("error", (error) => errors.push(error));
    await room.subscribe();
    server.intercept = (frame, socket) => {
      if (frame.type === "ack") server.refuse(frame, socket, "FORBIDDEN");
      return frame.type === "ack";
    };
    room.ack();
    await settle();
    expect(errors.map(({ code }) => code)).toEqual(["FORBIDDEN"]);
    expect(room.status).toEqual({ state: "subscribed" });
  });
});

describe("a channel that a part of the application releases", () => {
  it("stays open while another part uses it", async () => {
    const { server, belfry } = await connected({ presence, locks });
    const room = belfry.channel("room:7");
    const uses: Array<() => Promise<() => unknown>> = [
      async () => room.on("message", () => {}),
      async () => room.on("chat.line", () => {}),
      async () => {
        const loop = room[Symbol.asyncIterator]();
        return () => loop.return?.();
      },
      async () => {
        const lock = await room.lock("price");
        return () => lock.release();
      },
      async () => {
        belfry.channel("room:7", { presence: { name: "Alice" } });
        return () => belfry.channel("room:7", { presence: undefined });
      },
    ];
    await room.subscribe();
    for (const use of uses) {
      const end = await use();
      room.release();
      expect(belfry.channel("room:7")).toBe(room);
      await end();
    }
    room.release();
    expect(belfry.channel("room:7")).not.toBe(room);
    await settle();
    expect(server.socket.subscribed).not.toContain("room:7");
  });
});
