import { describe, expect, it } from "vitest";
import { readEvents } from "../../src/event-stream.js";
import { http } from "../../src/http.js";
import { connected, setUp } from "../support/client.js";
import { settle } from "../support/clock.js";

/** To the client, a token is any text. */
const token = () => "opaque";

/**
 * A reader whose channels have two messages, of which the user has acknowledged the first. It sends no event, and answers
 * polls at once.
 */
function fakeReader() {
  const requests: string[] = [];
  const reader = {
    requests,
    works: true,
    status: 200,
    code: "INTERNAL",
    userId: "alice",
    lifetimeMs: 3_600_000,
    allows: true,
  };
  const fake: typeof fetch = async (address, options) => {
    const url = new URL(String(address));
    requests.push(`${options?.method ?? "GET"} ${url.pathname}`);
    if (!reader.works) throw new TypeError("no network");
    if (reader.status !== 200) {
      const data = { code: reader.code, message: "refused" };
      return new Response(JSON.stringify({ type: "error", data }), { status: reader.status });
    }
    if (url.pathname === "/events") {
      const start = (stream: ReadableStreamDefaultController) =>
        options?.signal?.addEventListener("abort", () => stream.error(new Error("aborted")));
      return new Response(new ReadableStream({ start }));
    }
    if (options?.method === "POST") return Response.json({ ...JSON.parse(String(options.body)), messageId: "m" });
    const session = {
      userId: reader.userId,
      tokenExpiresAt: new Date(Date.now() + reader.lifetimeMs).toISOString(),
    };
    const channels = url.searchParams.getAll("channel");
    if (channels.length > 0 && !reader.allows) {
      const data = { code: "FORBIDDEN", message: "not allowed" };
      return new Response(JSON.stringify({ type: "error", data }), { status: 403 });
    }
    const parts = url.searchParams.get("cursor")?.split(",") ?? [];
    const cursors = parts.map((part) => (part === "acked" ? "e1.1" : part));
    // Nothing is published, so a poll that waits gets no answer in this test.
    const waits = Number(url.searchParams.get("wait")) > 0;
    if (waits && cursors.every((cursor) => cursor === "e1.2")) {
      return new Promise((_, reject) => options?.signal?.addEventListener("abort", () => reject(new Error("aborted"))));
    }
    const messages = channels.flatMap((channel, index) => {
      const read = cursors[index] === "-" ? 2 : Number(cursors[index]?.split(".")[1]);
      return [1, 2]
        .filter((seq) => seq > read)
        .map((seq) => ({
          type: "message",
          version: "1.0",
          channel,
          position: { epoch: "e1", seq },
          from: { userId: "bob" },
          data: { kind: "chat.line", data: { text: String(seq) } },
        }));
    });
    const states = channels.map((channel, index) => ({
      channel,
      epoch: "e1",
      seq: 2,
      ...(cursors[index] !== "-" && { recovered: true }),
    }));
    return Response.json({ messages, cursor: channels.map(() => "e1.2").join(","), channels: states, ...session });
  };
  return { reader, options: { token, fallback: http({ reader: "https://reader.example.com/", fetch: fake }) } };
}

async function blocked(change: (reader: ReturnType<typeof fakeReader>["reader"]) => void = () => {}) {
  const { reader, options } = fakeReader();
  change(reader);
  const setup = setUp(options, (server) => {
    server.accepts = false;
  });
  for (let attempt = 0; attempt < 3; attempt += 1) {
    await settle();
    setup.server.socket.end(1006);
    await setup.environment.advance(2_000);
  }
  for (let turn = 0; turn < 20; turn += 1) await settle();
  return { ...setup, reader };
}

describe("HTTP", () => {
  it("is tried after three handshakes in a row that failed, and not before", async () => {
    const { reader, options } = fakeReader();
    const { environment, server, belfry } = setUp(options, (server) => {
      server.accepts = false;
    });
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      await settle();
      expect(server.sockets.length).toBe(attempt);
      expect(reader.requests).toEqual([]);
      server.socket.end(1006);
      await environment.advance(2_000);
    }
    for (let turn = 0; turn < 20; turn += 1) await settle();
    expect(server.sockets.length).toBe(3);
    expect(belfry.status).toMatchObject({ state: "connected", userId: "alice" });
    expect(reader.requests).toContain("GET /messages");
  });

  it("keeps the channels that a rule subscribed to over a WebSocket", async () => {
    const { options } = fakeReader();
    const { environment, server, belfry } = await connected(options, (server) => {
      server.autoSubscribed = ["tenant:acme"];
      server.log("tenant:acme").append("a");
    });
    const team = belfry.channel("tenant:acme");
    expect(team.status).toEqual({ state: "subscribed" });
    server.accepts = false;
    server.socket.end(1006);
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await environment.advance(10_000);
      server.socket.end(1006);
    }
    await environment.advance(10_000);
    for (let turn = 0; turn < 20; turn += 1) await settle();
    expect(belfry.status).toMatchObject({ connectionId: expect.stringMatching(/^http:/) });
    expect(team.status).toEqual({ state: "subscribed" });
    expect(belfry.channel("tenant:acme")).toBe(team);
  });

  it("is not used while WebSockets work", async () => {
    const { reader, options } = fakeReader();
    const { environment, server } = await connected(options);
    for (let cut = 0; cut < 5; cut += 1) {
      server.socket.end(1006);
      await environment.advance(40_000);
    }
    expect(reader.requests).toEqual([]);
  });

  it("publishes with POST", async () => {
    const { belfry, reader } = await blocked();
    await expect(belfry.channel("room:7").publish("chat.line")).resolves.toMatchObject({ messageId: "m" });
    expect(reader.requests).toContain("POST /messages");
  });

  it("begins at what the user has acknowledged", async () => {
    const { belfry } = await blocked();
    const texts: unknown[] = [];
    const lost: unknown[] = [];
    const room = belfry.channel("room:7", { since: "acked" });
    room.on("lost", (value) => lost.push(value));
    room.on("message", ({ data }) => texts.push((data as { text: string }).text));
    await room.subscribe();
    expect(texts).toEqual(["2"]);
    expect(lost).toEqual([]);
  });

  it("asks whose token it has if every channel is refused", async () => {
    const { belfry } = await blocked((reader) => {
      reader.allows = false;
    });
    expect(belfry.status).toMatchObject({ state: "connected", userId: "alice" });
    await expect(belfry.channel("room:7").subscribe()).rejects.toMatchObject({ code: "FORBIDDEN" });
  });

  it("has the server check a new token, and connects anew if it belongs to another user", async () => {
    const { environment, belfry, reader } = await blocked((reader) => {
      reader.lifetimeMs = 12_000;
    });
    const idOf = () => (belfry.status.state === "connected" ? belfry.status.connectionId : undefined);
    const first = idOf();
    const { length } = reader.requests;
    reader.lifetimeMs = 24_000;
    await environment.advance(6_000);
    for (let turn = 0; turn < 20; turn += 1) await settle();
    expect(reader.requests.slice(length)).toEqual(["GET /messages", "GET /events"]);
    expect(idOf()).toBe(first);
    reader.userId = "bob";
    await environment.advance(12_000);
    for (let turn = 0; turn < 20; turn += 1) await settle();
    expect(idOf()).not.toBe(first);
    belfry.close();
  });

  it("gives way to a WebSocket that works again, which names no connection over HTTP", async () => {
    const { environment, server, belfry } = await blocked();
    const { length } = server.sockets;
    await environment.advance(60_000);
    expect(server.sockets.length).toBe(length + 1);
    expect(server.socket.url).toBe("wss://api.example.com/dev");
    server.accepts = true;
    server.socket.accept();
    for (let turn = 0; turn < 20; turn += 1) await settle();
    expect(server.socket.url).toBe("wss://api.example.com/dev");
    expect(belfry.status).toMatchObject({ state: "connected", connectionId: server.socket.connectionId });
    expect(server.open.length).toBe(1);
  });

  it("asks for a new token when it is refused", async () => {
    const { reader, options } = fakeReader();
    const reasons: string[] = [];
    const asked = ({ reason }: { reason: string }) => {
      reasons.push(reason);
      return token();
    };
    reader.status = 401;
    reader.code = "UNAUTHORIZED";
    const { environment, server, belfry } = setUp({ ...options, token: asked }, (server) => {
      server.accepts = false;
    });
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await settle();
      server.socket.end(1006);
      await environment.advance(2_000);
    }
    for (let turn = 0; turn < 20; turn += 1) await settle();
    expect(belfry.status).toMatchObject({ state: "connecting", error: { code: "UNAUTHORIZED" } });
    const { length } = reasons;
    await environment.advance(4_000);
    expect(reasons.slice(length)).toEqual(["refused"]);
    belfry.close();
  });

  it("that fails, too, leaves the choice to the next attempt", async () => {
    const { environment, server, reader, belfry } = await blocked();
    reader.works = false;
    server.accepts = true;
    await environment.wake();
    await environment.advance(30_000);
    expect(belfry.status).toMatchObject({ state: "connected", connectionId: server.socket.connectionId });
  });

  it("that is refused, too, leaves the choice to the next attempt", async () => {
    const { reader, options } = fakeReader();
    reader.status = 429;
    const { environment, server, belfry } = setUp(options, (server) => {
      server.accepts = false;
    });
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await settle();
      server.socket.end(1006);
      await environment.advance(2_000);
    }
    for (let turn = 0; turn < 20; turn += 1) await settle();
    expect(reader.requests).toEqual(["GET /messages"]);
    server.accepts = true;
    await environment.advance(20_000);
    expect(belfry.status).toMatchObject({ state: "connected", connectionId: server.socket.connectionId });
  });

  it("leaves no timer behind", async () => {
    const { environment, belfry } = await blocked();
    belfry.close();
    for (let turn = 0; turn < 20; turn += 1) await settle();
    expect(environment.pendingTimers).toBe(0);
  });

  it("polls if no event of a stream comes in time", async () => {
    const { environment, reader, belfry } = await blocked();
    const before = reader.requests.length;
    await environment.advance(9_000);
    expect(reader.requests.slice(before)).toEqual([]);
    await environment.advance(2_000);
    expect(reader.requests.slice(before)).toEqual(["GET /messages"]);
    belfry.close();
  });
});

describe("a stream of events", () => {
  it.each([1, 2, 3, 7, 1_000])("is read from pieces of %i bytes", async (size) => {
    const text =
      'retry: 1000\n\nevent: message\nid: e1.1\ndata: {"text":"é"}\n\n: still here\n\nid: e1.2\ndata: 2\n\nid: e1.3';
    const bytes = new TextEncoder().encode(text);
    const body = new ReadableStream<Uint8Array>({
      start(stream) {
        for (let at = 0; at < bytes.length; at += size) stream.enqueue(bytes.slice(at, at + size));
        stream.close();
      },
    });
    let pieces = 0;
    const events = [];
    for await (const event of readEvents(body, () => (pieces += 1))) events.push(event);
    expect(events).toEqual([
      { id: "e1.1", data: '{"text":"é"}' },
      { id: "e1.2", data: "2" },
    ]);
    expect(pieces).toBe(Math.ceil(bytes.length / size));
  });
});
