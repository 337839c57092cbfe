import { describe, expect, it } from "vitest";
import { connected, setUp } from "../support/client.js";
import { settle } from "../support/clock.js";

describe("publish", () => {
  it("resolves with the position", async () => {
    const { server, belfry } = await connected();
    server.log("room:7");
    await expect(belfry.channel("room:7").publish("chat.line", { text: "hi" })).resolves.toEqual({
      channel: "room:7",
      messageId: "id-1",
      position: { epoch: "e1", seq: 1 },
    });
    expect(server.socket.of("publish")).toMatchObject([
      { data: { channel: "room:7", kind: "chat.line", data: { text: "hi" }, messageId: "id-1" } },
    ]);
  });

  it("waits for a connection, and keeps the order", async () => {
    const { server, belfry } = setUp({}, (server) => {
      server.accepts = false;
    });
    const log = server.log("room:7");
    const room = belfry.channel("room:7");
    const published = ["a", "b", "c"].map((text) => room.publish("chat.line", { text }));
    await settle();
    server.socket.accept();
    await expect(Promise.all(published)).resolves.toHaveLength(3);
    expect(log.messages.map(({ data }) => data.data)).toEqual([{ text: "a" }, { text: "b" }, { text: "c" }]);
  });

  it("does not publish twice if the answer is lost with the connection", async () => {
    const { environment, server, belfry } = await connected();
    const log = server.log("room:7");
    server.intercept = (frame, socket) => {
      if (frame.type !== "publish") return false;
      server.intercept = () => false;
      server.answer(frame, { ...socket, send: () => {} } as unknown as typeof socket);
      socket.end(1006);
      return true;
    };
    const published = belfry.channel("room:7").publish("chat.line", { text: "once" });
    await environment.advance(1_000);
    await expect(published).resolves.toMatchObject({ position: { seq: 1 } });
    expect(log.messages.length).toBe(1);
  });

  it("is repeated with the same id if no answer comes", async () => {
    const { environment, server, belfry } = await connected();
    server.intercept = (frame) => frame.type === "publish" && server.socket.of("publish").length === 1;
    const published = belfry.channel("room:7").publish("chat.line", { text: "hi" });
    await environment.advance(10_000 + 500);
    await expect(published).resolves.toMatchObject({ messageId: "id-1" });
    expect(server.socket.of("publish").map(({ data }) => data.messageId)).toEqual(["id-1", "id-1"]);
  });

  it.each(["INTERNAL", "CHANNEL_BUSY"])("is repeated after %s", async (code) => {
    const { environment, server, belfry } = await connected();
    server.intercept = (frame, socket) => {
      if (frame.type !== "publish" || socket.of("publish").length > 2) return false;
      server.refuse(frame, socket, code);
      return true;
    };
    const published = belfry.channel("room:7").publish("chat.line", { text: "hi" });
    await environment.advance(500 + 1_000);
    await expect(published).resolves.toMatchObject({ messageId: "id-1" });
    expect(server.socket.of("publish").length).toBe(3);
  });

  it("is repeated after API Gateway's own error", async () => {
    const { environment, server, belfry } = await connected();
    server.intercept = (frame, socket) => {
      if (frame.type !== "publish" || socket.of("publish").length > 1) return false;
      socket.sendText('{"message":"Internal server error","connectionId":"c1","requestId":"r"}');
      return true;
    };
    const published = belfry.channel("room:7").publish("chat.line", { text: "hi" });
    await environment.advance(500);
    await expect(published).resolves.toMatchObject({ messageId: "id-1" });
  });

  it("waits as long as the server says if it is over the rate limit", async () => {
    const { environment, server, belfry } = await connected();
    server.intercept = (frame, socket) => {
      if (frame.type !== "publish" || socket.of("publish").length > 1) return false;
      server.refuse(frame, socket, "RATE_LIMITED", { retryAfterMs: 3_000 });
      return true;
    };
    const published = belfry.channel("room:7").publish("chat.line", { text: "hi" });
    const other = belfry.channel("room:8").publish("chat.line", { text: "hi" });
    await environment.advance(2_999);
    expect(server.socket.of("publish").length).toBe(2);
    await environment.advance(1);
    await expect(Promise.all([published, other])).resolves.toHaveLength(2);
  });

  it("keeps to the server's rate limit by itself", async () => {
    const { environment, server, belfry } = await connected({}, (server) => {
      server.messagesPerMinute = 60;
    });
    const sent: number[] = [];
    server.intercept = (frame) => {
      if (frame.type === "publish") sent.push(environment.now());
      return false;
    };
    const room = belfry.channel("room:7");
    const published = Array.from({ length: 20 }, (_, index) => room.publish("chat.line", { text: String(index) }));
    await environment.advance(60_000);
    await Promise.all(published);
    // Six may come at once, and then one a second.
    for (const [index, at] of sent.entries()) expect(at).toBeGreaterThanOrEqual((index - 5) * 1_000);
    expect(sent.at(-1)).toBeLessThan(20_000);
  });

  it("rejects with the server's error if that is final", async () => {
    const { server, belfry } = await connected();
    server.intercept = (frame, socket) => {
      if (frame.type !== "publish") return false;
      server.refuse(frame, socket, "FORBIDDEN");
      return true;
    };
    await expect(belfry.channel("room:7").publish("chat.line")).rejects.toMatchObject({
      name: "BelfryError",
      code: "FORBIDDEN",
      advice: "giveUp",
    });
  });

  it("rejects a message that is too large, without sending it", async () => {
    const { server, belfry } = await connected({}, (server) => {
      server.maxMessageBytes = 1_000;
    });
    const text = "ü".repeat(500);
    await expect(belfry.channel("room:7").publish("chat.line", { text })).rejects.toMatchObject({
      code: "MESSAGE_TOO_LARGE",
    });
    expect(server.socket.of("publish")).toEqual([]);
  });

  it("rejects what JSON cannot hold", async () => {
    const { belfry } = await connected();
    await expect(belfry.channel("room:7").publish("chat.line", 1n)).rejects.toThrow(TypeError);
  });

  it("publishes the data as they were at the call", async () => {
    const { server, belfry } = setUp();
    const data = { text: "before" };
    const published = belfry.channel("room:7").publish("chat.line", data);
    data.text = "after";
    await published;
    expect(server.socket.of("publish")[0]?.data.data).toEqual({ text: "before" });
  });

  it("rejects when the queue is full", async () => {
    const { belfry } = setUp({ maxQueued: 2 }, (server) => {
      server.accepts = false;
    });
    const room = belfry.channel("room:7");
    const waiting = [room.publish("chat.line"), belfry.channel("room:8").publish("chat.line")];
    await expect(room.publish("chat.line")).rejects.toMatchObject({ code: "QUEUE_FULL" });
    belfry.close();
    for (const one of waiting) await expect(one).rejects.toMatchObject({ code: "CLOSED" });
  });

  it("rejects after publishTimeoutMs without a connection, and makes room", async () => {
    const { environment, belfry } = setUp({ maxQueued: 1, publishTimeoutMs: 5_000 }, (server) => {
      server.accepts = false;
    });
    const room = belfry.channel("room:7");
    const late = expect(room.publish("chat.line")).rejects.toMatchObject({ code: "TIMEOUT" });
    await environment.advance(5_000);
    await late;
    const next = expect(room.publish("chat.line")).rejects.toMatchObject({ code: "CLOSED" });
    belfry.close();
    await next;
  });

  it("rejects at once when the client is closed", async () => {
    const { belfry } = await connected();
    const room = belfry.channel("room:7");
    belfry.close();
    await expect(room.publish("chat.line")).rejects.toMatchObject({ code: "CLOSED" });
  });

  it("one channel does not wait for another", async () => {
    const { server, belfry } = await connected();
    server.intercept = (frame) => frame.type === "publish" && frame.data.channel === "room:7";
    const stuck = belfry.channel("room:7").publish("chat.line");
    await expect(belfry.channel("room:8").publish("chat.line")).resolves.toMatchObject({ channel: "room:8" });
    belfry.close();
    await expect(stuck).rejects.toMatchObject({ code: "CLOSED" });
  });
});
