import { describe, expect, it } from "vitest";
import type { KeptFrame, ServerFrame } from "../../src/generated/frames.js";
import { connected, textsOf } from "../support/client.js";
import { settle } from "../support/clock.js";
import type { FakeServer } from "../support/server.js";

function batch(server: FakeServer, ...messages: KeptFrame[]): void {
  server.socket.send({ type: "batch", version: "1.0", timestamp: server.timestamp(), data: { messages } });
}

describe("a batch", () => {
  it("is accepted by every connection from its first frame on", async () => {
    const { environment, server } = await connected();
    server.socket.end(1006);
    await environment.advance(1_000);
    expect(server.sockets.map((socket) => socket.received[0])).toMatchObject([
      { type: "hello", data: { accepts: ["batch"] } },
      { type: "hello", data: { accepts: ["batch"] } },
    ]);
  });

  it("delivers each of its messages in order", async () => {
    const { server, belfry } = await connected();
    const log = server.log("room:7");
    const room = belfry.channel("room:7");
    const texts: string[] = [];
    room.on("message", (message) => texts.push(...textsOf([message])));
    await room.subscribe();
    batch(server, log.append("a"), log.append("b"), log.append("c"));
    expect(texts).toEqual(["a", "b", "c"]);
    expect(room.position).toMatchObject({ seq: 3 });
  });

  it("that overtakes another message waits for it, and delivers none twice", async () => {
    const { server, belfry } = await connected();
    const log = server.log("room:7");
    const room = belfry.channel("room:7");
    const texts: string[] = [];
    room.on("message", (message) => texts.push(...textsOf([message])));
    await room.subscribe();
    const [a, b, c] = [log.append("a"), log.append("b"), log.append("c")];
    batch(server, b, c);
    expect(texts).toEqual([]);
    batch(server, a, b);
    expect(texts).toEqual(["a", "b", "c"]);
  });

  it("of notifications without positions gives each once", async () => {
    const { server, belfry } = await connected();
    const ids: unknown[] = [];
    belfry.on("notification", ({ id }) => ids.push(id));
    const frame = (id: string): KeptFrame => ({ type: "notification", version: "1.0", id, data: { kind: "x" } });
    batch(server, frame("m.1"), frame("m.2"));
    batch(server, frame("m.1"), frame("m.2"), frame("m.3"));
    expect(ids).toEqual(["m.1", "m.2", "m.3"]);
  });

  it.each([{}, { messages: null }, { messages: 7 }, { messages: [null, 7, {}, { type: "message" }, { data: {} }] }])(
    "with the data %j delivers nothing and disturbs nothing",
    async (data) => {
      const { server, belfry } = await connected();
      const messages: unknown[] = [];
      belfry.on("notification", (message) => messages.push(message));
      server.socket.sendText(JSON.stringify({ type: "batch", version: "1.0", data }));
      await settle();
      expect(messages).toEqual([]);
      expect(belfry.status.state).toBe("connected");
    },
  );

  it("carries messages only", async () => {
    const { server } = await connected();
    const frames: ServerFrame[] = [{ type: "reconnect", version: "1.0", data: { deadline: server.timestamp() } }];
    server.socket.sendText(JSON.stringify({ type: "batch", version: "1.0", data: { messages: frames } }));
    await settle();
    expect(server.sockets.length).toBe(1);
  });
});
