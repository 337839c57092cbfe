import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { LockChanged } from "../../src/index.js";
import { type Lock, locks } from "../../src/locks.js";
import { closeClients, RealClient } from "../support/real.js";
import { Stack } from "../support/stack.js";

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start("--schedule-every", "1s");
});
afterEach(closeClients);
afterAll(() => stack.stop());

async function join(name: string, user: string) {
  const client = await RealClient.connect(stack, user, { speed: 1, locks });
  const room = client.belfry.channel(name, { locks: true });
  const changes: LockChanged[] = [];
  const waiters: Array<() => void> = [];
  room.on("lock.changed", (change) => {
    changes.push(change);
    for (const waiter of waiters.splice(0)) waiter();
  });
  await room.subscribe();
  const until = async (isTrue: () => boolean) => {
    while (!isTrue()) await new Promise<void>((resolve) => waiters.push(resolve));
  };
  return { client, room, changes, until };
}

function event(lock: Lock, name: "lost" | "regained"): Promise<unknown> {
  return new Promise((resolve) => lock.on(name, resolve));
}

describe("a lock", () => {
  it("keeps others out until it is released, and they see it", async () => {
    const [alice, bob] = [await join("room:lock", "alice"), await join("room:lock", "bob")];
    const lock = await alice.room.lock("price");
    await expect(bob.room.lock("price")).rejects.toMatchObject({ code: "LOCKED", holder: { userId: "alice" } });
    await bob.until(() => bob.room.locks.length === 1);
    const carol = await join("room:lock", "carol");
    expect(carol.room.locks).toMatchObject([{ name: "price", holder: { userId: "alice" }, fencing: lock.fencing }]);
    await lock.release();
    const next = await bob.room.lock("price");
    expect(next.fencing).toBeGreaterThan(lock.fencing);
    await bob.until(() => bob.room.locks.length === 0);
    await carol.until(() => carol.room.locks[0]?.holder.userId === "bob");
  });

  it("lasts longer than its seconds", async () => {
    const [alice, bob] = [await join("room:renewed", "alice"), await join("room:renewed", "bob")];
    const lock = await alice.room.lock("price", { seconds: 10 });
    const untils = () => new Set(bob.changes.map(({ until }) => until)).size;
    // The third renewal comes after more than its seconds.
    await bob.until(() => untils() >= 4);
    expect(lock.isHeld).toBe(true);
    await expect(bob.room.lock("price")).rejects.toMatchObject({ code: "LOCKED" });
  });

  it("is taken again after a cut", async () => {
    const alice = await join("room:cut", "alice");
    const lock = await alice.room.lock("price");
    const before = lock.fencing;
    const reconnected = alice.client.untilReconnected();
    alice.client.network.cut();
    await reconnected;
    expect(await alice.room.lock("price")).toBe(lock);
    expect(lock.isHeld).toBe(true);
    // It stays if the server has not noticed the cut before the new connection.
    expect(lock.fencing).toBeGreaterThanOrEqual(before);
    const bob = await join("room:cut", "bob");
    await expect(bob.room.lock("price")).rejects.toMatchObject({ code: "LOCKED" });
  });

  it("is lost if somebody else has taken it during a cut", async () => {
    const [alice, bob] = [await join("room:taken", "alice"), await join("room:taken", "bob")];
    const lock = await alice.room.lock("price", { seconds: 300 });
    const lost = event(lock, "lost");
    alice.client.network.block(true);
    alice.client.network.cut();
    await alice.client.until("reconnecting");
    for (;;) {
      const taken = await bob.room.lock("price").catch(() => undefined);
      if (taken) break;
    }
    alice.client.network.block(false);
    await expect(lost).resolves.toMatchObject({ code: "LOCKED", holder: { userId: "bob" } });
  });

  it("moves along to a connection that replaces another", async () => {
    const alice = await join("room:handover", "alice");
    const bob = await join("room:handover", "bob");
    const lock = await alice.room.lock("price", { seconds: 60 });
    const before = lock.fencing;
    const old = alice.client.connectionId;
    const connected = alice.client.untilReconnected();
    const deadline = new Date(Date.now() + 60_000).toISOString();
    await stack.postTo(
      alice.client.connectionId,
      JSON.stringify({ type: "reconnect", version: "1.0", data: { deadline } }),
    );
    await connected;
    expect(alice.client.connectionId).not.toBe(old);
    // The old connection ends, and sweeps come.
    for (let attempt = 0; attempt < 20; attempt += 1) {
      await expect(bob.room.lock("price")).rejects.toMatchObject({ code: "LOCKED", holder: { userId: "alice" } });
    }
    expect(lock).toMatchObject({ fencing: before, isHeld: true });
    await lock.release();
    expect((await bob.room.lock("price")).fencing).toBeGreaterThan(before);
  });

  it("is refused where the rules do not allow it", async () => {
    const client = await RealClient.connect(stack, "alice", { locks });
    await expect(client.belfry.channel("plain:1").lock("price")).rejects.toMatchObject({ code: "FORBIDDEN" });
  });
});
