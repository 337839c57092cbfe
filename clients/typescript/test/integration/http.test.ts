import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type HttpOptions, http } from "../../src/http.js";
import { closeClients, RealClient, type RealOptions, Transcript, untilRead } from "../support/real.js";
import { Stack } from "../support/stack.js";

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start("--parameter", "ReaderConcurrency=20", "--parameter", "StreamSeconds=2");
});
afterEach(closeClients);
afterAll(() => stack.stop());

function fallback(options: Partial<HttpOptions> = {}): RealOptions {
  return { fallback: http({ reader: stack.reader, ...options }) };
}

/** A client that is connected over HTTP, and a publisher with a WebSocket. */
async function blocked(name: string, user: string, options: RealOptions = fallback()) {
  const publisher = (await RealClient.connect(stack, "bob")).belfry.channel(name);
  const client = await RealClient.connect(stack, user, { ...options, isPatient: false });
  client.network.block(true);
  client.network.cut();
  while (client.belfry.status.state !== "connected" || !client.connectionId.startsWith("http:")) {
    await client.nextStatus();
  }
  const room = client.belfry.channel(name);
  const transcript = await Transcript.of(room);
  return { client, room, transcript, publisher };
}

describe("where WebSockets are blocked", () => {
  it("messages come and go over HTTP, also when a stream ends", async () => {
    let streams = 0;
    let opened = () => {};
    const counting: typeof fetch = (address, options) => {
      if (String(address).includes("/events")) streams += 1;
      opened();
      return fetch(address, options);
    };
    const { room, transcript, publisher } = await blocked("room:http", "alice", fallback({ fetch: counting }));
    const before = streams;
    for (let index = 1; index <= 12; index += 1) {
      await publisher.publish("chat.line", { text: String(index) });
      await transcript.until(({ messages }) => messages.length === index);
      if (index !== 6) continue;
      while (streams < before + 2) await new Promise<void>((resolve) => (opened = resolve));
    }
    expect(transcript.lost).toEqual([]);
    const other = await Transcript.of(publisher);
    await expect(room.publish("chat.line", { text: "back" })).resolves.toMatchObject({ position: { seq: 13 } });
    await other.until(({ texts }) => texts.includes("back"));
  });

  it("nothing is lost on the way to HTTP and back", async () => {
    const client = await RealClient.connect(stack, "carol", fallback());
    const room = client.belfry.channel("room:way");
    const transcript = await Transcript.of(room);
    const publisher = (await RealClient.connect(stack, "bob")).belfry.channel("room:way");
    const texts: string[] = [];
    const publish = async (text: string) => {
      texts.push(text);
      await publisher.publish("chat.line", { text });
    };
    await publish("by WebSocket");
    client.network.block(true);
    client.network.cut();
    await client.until("reconnecting");
    await publish("by nothing");
    await client.until("connected");
    expect(client.connectionId).toMatch(/^http:/);
    await publish("by HTTP");
    await transcript.until(({ messages }) => messages.length === 3);
    client.network.block(false);
    const returned = client.untilReconnected();
    client.environment.skip((ms) => ms === 60_000);
    await returned;
    expect(client.connectionId).not.toMatch(/^http:/);
    await publish("by WebSocket again");
    await transcript.until(({ messages }) => messages.length === 4);
    expect(transcript.texts).toEqual(texts);
    expect(transcript.lost).toEqual([]);
  });

  it("long polling does if something holds streams back", async () => {
    const silent: typeof fetch = async (address, options) => {
      if (!String(address).includes("/events")) return fetch(address, options);
      const start = (stream: ReadableStreamDefaultController) =>
        options?.signal?.addEventListener("abort", () => stream.error(new Error("aborted")));
      return new Response(new ReadableStream({ start }));
    };
    const { transcript, publisher } = await blocked("room:poll", "dave", fallback({ fetch: silent }));
    for (const text of ["a", "b", "c"]) await publisher.publish("chat.line", { text });
    await transcript.until(({ messages }) => messages.length === 3);
    expect(transcript.texts).toEqual(["a", "b", "c"]);
  });

  it("a token is replaced before it expires", async () => {
    let asked = () => {};
    const token = () => {
      asked();
      return stack.token("eve", { ttl: 20 });
    };
    const { client, transcript, publisher } = await blocked("room:token", "eve", { ...fallback(), speed: 1, token });
    const { connectionId } = client;
    // Every ten seconds: when the third is there, the first one has expired.
    for (let count = 0; count < 3; count += 1) await new Promise<void>((resolve) => (asked = resolve));
    await publisher.publish("chat.line", { text: "a" });
    await transcript.until(({ messages }) => messages.length === 1);
    expect(client.connectionId).toBe(connectionId);
  });

  it("a channel begins at what the user has acknowledged", async () => {
    const phone = (await RealClient.connect(stack, "gina")).belfry.channel("room:acked");
    const onPhone = await Transcript.of(phone);
    const { client } = await blocked("room:other", "gina");
    for (const text of ["a", "b", "c"]) await phone.publish("chat.line", { text }, { echo: true });
    await onPhone.until(({ messages }) => messages.length === 3);
    phone.ack(onPhone.messages[0]?.position);
    await untilRead(stack, "room:acked", 1, "gina");
    const room = client.belfry.channel("room:acked", { since: "acked" });
    const transcript = await Transcript.of(room);
    await transcript.until(({ messages }) => messages.length === 2);
    expect(transcript.texts).toEqual(["b", "c"]);
    expect(transcript.lost).toEqual([]);
  });

  it("what needs a connection is refused", async () => {
    const { client } = await blocked("room:refused", "frank");
    await expect(client.belfry.call("quote.edit")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(client.belfry.channel("admin:1").subscribe()).rejects.toMatchObject({ code: "FORBIDDEN" });
  });
});
