import { afterAll, describe, expect, it } from "vitest";
import { closeClients, RealClient, Transcript } from "../support/real.js";
import { Stack } from "../support/stack.js";

afterAll(closeClients);

describe.concurrent("a handover", () => {
  it("leaves no moment without a connection and no message behind", async () => {
    const stack = await Stack.start("--max-duration", "10s");
    const client = await RealClient.connect(stack, "mover", { speed: 1 });
    const publisher = await RealClient.connect(stack, "publisher", { speed: 1 });
    const transcript = await Transcript.of(client.belfry.channel("room:handover"));
    const connections = new Set<string>();
    const texts: string[] = [];
    let fewest = Number.POSITIVE_INFINITY;
    const watch = setInterval(() => {
      fewest = Math.min(fewest, client.network.open);
    }, 5);
    for (let text = 0; connections.size < 2; text += 1) {
      connections.add(client.connectionId);
      texts.push(String(text));
      await publisher.belfry.channel("room:handover").publish("chat.line", { text });
    }
    await transcript.until(({ messages }) => messages.length === texts.length);
    clearInterval(watch);
    expect(fewest).toBe(1);
    expect(transcript.texts).toEqual(texts);
    expect(transcript.lost).toEqual([]);
    expect(new Set(client.states)).toEqual(new Set(["connected"]));
    await stack.stop();
  });

  it("that the server asks for is done at once, under load and several times", async () => {
    const stack = await Stack.start("--parameter", "MaxConnectionsPerUser=1");
    const client = await RealClient.connect(stack, "mover");
    const publisher = await RealClient.connect(stack, "publisher");
    const transcript = await Transcript.of(client.belfry.channel("room:handover"));
    const own = client.belfry.channel("room:own");
    const texts: string[] = [];
    const published: Array<Promise<unknown>> = [];
    const notified: string[] = [];
    for (let turn = 0; turn < 4; turn += 1) {
      const moved = client.untilReconnected();
      const data = { deadline: new Date(Date.now() + 600_000).toISOString() };
      await stack.postTo(client.connectionId, JSON.stringify({ type: "reconnect", version: "1.0", data }));
      for (let count = 0; count < 10; count += 1) {
        texts.push(`${turn}.${count}`);
        published.push(own.publish("chat.line", { text: texts.at(-1) }));
        await publisher.belfry.channel("room:handover").publish("chat.line", { text: texts.at(-1) });
      }
      notified.push(`n${turn}`);
      await stack.notify("mover", { kind: "turn", turn }, `n${turn}`);
      await moved;
    }
    await transcript.until(({ messages }) => messages.length === texts.length);
    await Promise.all(published);
    expect(transcript.texts).toEqual(texts);
    expect(transcript.lost).toEqual([]);
    expect(client.notifications.map(({ id }) => id)).toEqual(notified);
    expect(client.states).toEqual(Array(5).fill("connected"));
    expect(client.network.count).toBe(5);
    await stack.stop();
  });
});
