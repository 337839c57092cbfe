import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Presence, presence } from "../../src/presence.js";
import { closeClients, RealClient } from "../support/real.js";
import { Stack } from "../support/stack.js";

let stack: Stack;
beforeAll(async () => {
  const limits = ["--parameter", "PresenceGraceSeconds=20", "--parameter", "PresenceAnnounced=3"];
  stack = await Stack.start("--schedule-every", "1s", ...limits);
});
afterEach(closeClients);
afterAll(() => stack.stop());

function until(presence: Presence, isTrue: (presence: Presence) => boolean): Promise<void> {
  return new Promise((resolve) => {
    if (isTrue(presence)) return resolve();
    const stop = presence.on("change", () => {
      if (!isTrue(presence)) return;
      stop();
      resolve();
    });
  });
}

function usersOf({ members }: Presence): string[] {
  return members.map(({ userId }) => userId).sort();
}

async function join(name: string, user: string) {
  const client = await RealClient.connect(stack, user, { speed: 1, presence });
  const room = client.belfry.channel(name, { presence: { name: user } });
  await room.subscribe();
  return { client, room, presence: room.presence };
}

describe("presence", () => {
  it("shows who comes, who changes and who leaves", async () => {
    const alice = await join("room:who", "alice");
    expect(usersOf(alice.presence)).toEqual(["alice"]);
    const bob = await join("room:who", "bob");
    expect(usersOf(bob.presence)).toEqual(["alice", "bob"]);
    await until(alice.presence, ({ count }) => count === 2);
    bob.client.belfry.channel("room:who", { presence: { name: "Robert" } });
    await until(alice.presence, ({ members }) => members.some(({ info }) => info["name"] === "Robert"));
    bob.room.close();
    await until(alice.presence, ({ count }) => count === 1);
    expect(usersOf(alice.presence)).toEqual(["alice"]);
  });

  it("does not flicker when a client is cut off, and both know who is there afterwards", async () => {
    const alice = await join("room:cut", "alice");
    const bob = await join("room:cut", "bob");
    await until(alice.presence, ({ count }) => count === 2);
    const counts: number[] = [];
    alice.presence.on("change", ({ count }) => counts.push(count));
    bob.client.network.cut();
    await bob.client.untilReconnected();
    const carol = await join("room:cut", "carol");
    await Promise.all([alice, bob, carol].map(({ presence }) => until(presence, ({ count }) => count === 3)));
    expect(counts).toEqual([3]);
  });

  it("finds out after a cut who left meanwhile", async () => {
    const alice = await join("room:away", "alice");
    const bob = await join("room:away", "bob");
    const carol = await join("room:away", "carol");
    await until(alice.presence, ({ count }) => count === 3);
    alice.client.network.block(true);
    alice.client.network.cut();
    await alice.client.until("reconnecting");
    carol.room.close();
    await until(bob.presence, ({ members }) => !members.some(({ userId }) => userId === "carol"));
    alice.client.network.block(false);
    await until(alice.presence, ({ count }) => count === 2);
    expect(usersOf(alice.presence)).toEqual(["alice", "bob"]);
  });

  it("counts those who are too many to list, and lists them when they are fewer", async () => {
    const present = [];
    for (const user of ["alice", "bob", "carol", "dave", "eve"]) present.push(await join("room:many", user));
    const [dave, eve] = present.slice(3);
    if (!dave || !eve) throw new Error("nobody is there");
    expect(eve.presence.hasMore).toBe(true);
    expect(eve.presence.members.length).toBe(3);
    await stack.countUsers("room:many");
    await Promise.all(present.map(({ presence }) => until(presence, ({ count }) => count === 5)));
    for (const { room } of present.slice(0, 3)) room.close();
    for (const { presence } of [dave, eve]) {
      await until(presence, ({ count, hasMore }) => !hasMore && count === 2);
      expect(usersOf(presence)).toEqual(["dave", "eve"]);
    }
  });
});
