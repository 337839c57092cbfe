import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { closeClients, RealClient, Transcript } from "../support/real.js";
import { Stack } from "../support/stack.js";

// These tests wait for tokens and connections to end, so they run at the same time.
let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start("--schedule-every", "1s");
});
afterAll(async () => {
  closeClients();
  await stack.stop();
});

describe.concurrent("a rate limit", () => {
  it("slows publishing down, and loses nothing", async ({ onTestFinished }) => {
    const slow = await Stack.start("--parameter", "MessagesPerMinute=60", "--verbose");
    onTestFinished(() => slow.stop());
    const client = await RealClient.connect(slow, "eager", { speed: 1 });
    const names = ["room:rate:1", "room:rate:2", "room:rate:3", "room:rate:4"];
    const texts = ["a", "b", "c"];
    const transcripts = await Promise.all(names.map((name) => Transcript.of(client.belfry.channel(name))));
    const published = names.flatMap((name) =>
      texts.map((text) => client.belfry.channel(name).publish("chat.line", { text }, { echo: true })),
    );
    await Promise.all(published);
    for (const transcript of transcripts) {
      await transcript.until(({ messages }) => messages.length === texts.length);
      expect(transcript.texts).toEqual(texts);
    }
    expect(client.states).toEqual(["connected"]);
    // Without its own pace, the client would be refused ten times. A busy machine may delay frames into a burst.
    expect(slow.count('"RATE_LIMITED"')).toBeLessThan(4);
    expect(slow.count("frame.served")).toBeGreaterThan(published.length);
  });
});

describe.concurrent("a token", () => {
  it("is replaced before it expires, without a new connection", async () => {
    let count = 0;
    let reached = () => {};
    const often = new Promise<void>((resolve) => (reached = resolve));
    const client = await RealClient.connect(stack, "refreshed", {
      speed: 1,
      token: () => {
        count += 1;
        // Every ten seconds: when the third is there, the first one has expired.
        if (count === 3) reached();
        return stack.token("refreshed", { ttl: 20 });
      },
    });
    const { connectionId } = client;
    const room = client.belfry.channel("room:refresh");
    await room.subscribe();
    await often;
    await expect(room.publish("chat.line")).resolves.toMatchObject({ position: { seq: 1 } });
    expect(client.connectionId).toBe(connectionId);
    expect(client.reasons.slice(0, 3)).toEqual(["connect", "expiring", "expiring"]);
  });

  it("that expires because no other could be had ends the connection; a new one opens the next", async () => {
    let isAvailable = true;
    const client = await RealClient.connect(stack, "expired", {
      speed: 1,
      token: async () => {
        if (!isAvailable) throw new Error("the session cannot be refreshed");
        return stack.token("expired", { ttl: 3 });
      },
    });
    isAvailable = false;
    const status = await client.until("offline");
    expect(status).toMatchObject({ error: { code: "TOKEN_UNAVAILABLE", cause: { message: /cannot be refreshed/ } } });
    isAvailable = true;
    await client.until("connected");
    expect(client.reasons).toContain("refused");
  });

  it("that is refused is asked for again", async () => {
    const client = await RealClient.connect(stack, "refused", {
      token: ({ reason }) => stack.token("refused", { ttl: reason === "refused" ? 60 : -60 }),
    });
    expect(client.reasons).toEqual(["connect", "connect", "refused"]);
  });

  it("of a user who is signed out ends it all, until the user signs in", async () => {
    const client = await RealClient.connect(stack, "leaver");
    await stack.invoke("Operator", { action: "signOut", userId: "leaver" });
    const status = await client.until("closed");
    expect(status).toMatchObject({ error: { code: "SIGNED_OUT", advice: "signIn" } });
    // Tokens of the five seconds after a sign-out are void as well, so the first attempts fail.
    client.belfry.connect();
    await client.until("connected");
  });
});

describe.concurrent("a handover", () => {
  it("happens before the connection's two hours are over", async () => {
    const client = await RealClient.connect(stack, "early");
    const moved = client.untilReconnected();
    client.environment.skip((ms) => ms > 100 * 60_000 && ms < 120 * 60_000);
    await moved;
    expect(client.states).toEqual(["connected", "connected"]);
  });

  it("that the server asks for is done at once, under load and several times", async ({ onTestFinished }) => {
    const stack = await Stack.start("--parameter", "MaxConnectionsPerUser=1");
    onTestFinished(() => stack.stop());
    const client = await RealClient.connect(stack, "mover");
    const publisher = await RealClient.connect(stack, "publisher");
    const transcript = await Transcript.of(client.belfry.channel("room:handover"));
    const own = client.belfry.channel("room:own");
    let fewest = Number.POSITIVE_INFINITY;
    const watch = setInterval(() => {
      fewest = Math.min(fewest, client.network.open);
    }, 5);
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
    clearInterval(watch);
    expect(fewest, "there is always a connection").toBe(1);
    expect(transcript.texts).toEqual(texts);
    expect(transcript.lost).toEqual([]);
    expect(client.notifications.map(({ id }) => id)).toEqual(notified);
    expect(client.states).toEqual(Array(5).fill("connected"));
    expect(client.network.count).toBe(5);
  });
});
