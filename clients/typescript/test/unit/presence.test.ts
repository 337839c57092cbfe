import { describe, expect, it } from "vitest";
import type { ServerFrames } from "../../src/generated/frames.js";
import type { Presence, PresentUser } from "../../src/index.js";
import { presence } from "../../src/presence.js";
import { PresenceList } from "../../src/presence-list.js";
import { connected } from "../support/client.js";
import { settle } from "../support/clock.js";
import { Random } from "../support/random.js";

const alice = { userId: "alice", info: { name: "Alice" } };
const bob = { userId: "bob", info: { name: "Bob" } };

function sorted(presence: Presence): PresentUser[] {
  return [...presence.members].sort((a, b) => a.userId.localeCompare(b.userId));
}

async function present() {
  const setup = await connected({ presence }, (server) => server.others.set("room:7", [{ ...bob, connections: 1 }]));
  const room = setup.belfry.channel("room:7", { presence: alice.info });
  await room.subscribe();
  return { ...setup, room };
}

describe("presence", () => {
  it("is asked for by an option, which subscribes, and lists who is there", async () => {
    const { server, belfry } = await connected({ presence });
    server.others.set("room:7", [{ ...bob, connections: 1 }]);
    const room = belfry.channel("room:7", { presence: alice.info });
    const counts: number[] = [];
    room.presence.on("change", ({ count }) => counts.push(count));
    await settle();
    expect(server.socket.of("subscribe")).toMatchObject([
      { data: { channels: [{ channel: "room:7", presence: { name: "Alice" } }] } },
    ]);
    expect(sorted(room.presence)).toEqual([alice, bob]);
    expect(counts).toEqual([2]);
  });

  it("follows those who come, change and leave", async () => {
    const { server, room } = await present();
    const tell = (change: "joined" | "left" | "updated", userId: string, info?: object) =>
      server.tell(change, {
        channel: "room:7",
        userId,
        count: 2,
        at: server.timestamp(),
        ...(info && { info: { ...info } }),
      });
    tell("joined", "carol", { name: "Carol" });
    tell("updated", "bob", { name: "Robert" });
    expect(sorted(room.presence).map(({ info }) => info["name"])).toEqual(["Alice", "Robert", "Carol"]);
    expect(room.presence.count).toBe(3);
    tell("left", "bob");
    expect(sorted(room.presence).map(({ userId }) => userId)).toEqual(["alice", "carol"]);
  });

  it("survives a reconnect: the new connection is present, too, and its list holds", async () => {
    const { environment, server, room } = await present();
    server.socket.end(1006);
    expect(sorted(room.presence)).toEqual([alice, bob]);
    server.others.set("room:7", [{ userId: "dave", info: {}, connections: 1 }]);
    await environment.advance(20_000);
    expect(server.socket.of("hello")[0]?.data?.subscribe?.channels).toContainEqual({
      channel: "room:7",
      presence: { name: "Alice" },
    });
    expect(sorted(room.presence).map(({ userId }) => userId)).toEqual(["alice", "dave"]);
  });

  it("forgets at a reconnect who was there a moment ago and has left meanwhile", async () => {
    const { environment, server, room } = await present();
    server.tell("joined", { channel: "room:7", userId: "eve", info: {}, count: 3, at: server.timestamp() });
    server.socket.end(1006);
    await environment.advance(1_000);
    expect(sorted(room.presence)).toEqual([alice, bob]);
  });

  it("counts in a large channel, and lists who is there when it is no longer large", async () => {
    const { server, room } = await present();
    const eve = { userId: "eve", info: {}, connections: 1 };
    server.announced = 2;
    server.others.set("room:7", [{ ...bob, connections: 1 }, eve]);
    server.tell("updated", { channel: "room:7", count: 3, at: server.timestamp() });
    await settle();
    expect(room.presence).toMatchObject({ count: 3, hasMore: true, members: [alice, bob] });
    server.tell("updated", { channel: "room:7", count: 250, at: server.timestamp() });
    await settle();
    expect(room.presence).toMatchObject({ count: 250, hasMore: true });
    expect(server.socket.of("presence").length).toBe(1);
    server.others.set("room:7", [eve]);
    server.tell("updated", { channel: "room:7", count: 2, at: server.timestamp() });
    await settle();
    expect(sorted(room.presence).map(({ userId }) => userId)).toEqual(["alice", "eve"]);
    expect(room.presence).toMatchObject({ count: 2, hasMore: false });
  });

  it("drops a count that is older than another, or than a list", async () => {
    const { server, room } = await present();
    const eve = { userId: "eve", info: {}, connections: 1 };
    server.announced = 2;
    server.others.set("room:7", [{ ...bob, connections: 1 }, eve]);
    const count = (count: number, inMs: number) =>
      server.tell("updated", { channel: "room:7", count, at: server.timestamp(inMs) });
    count(250, 60_000);
    await settle();
    count(260, 60_000);
    count(240, 0);
    expect(room.presence).toMatchObject({ count: 260, hasMore: true });
    const small = await present();
    small.server.tell("updated", { channel: "room:7", count: 250, at: small.server.timestamp(-60_000) });
    expect(small.room.presence).toMatchObject({ count: 2, hasMore: false });
    expect(small.server.socket.of("presence")).toEqual([]);
  });

  it("lists a channel that is no longer large when it hears of a single user", async () => {
    const { server, room } = await present();
    server.announced = 1;
    server.tell("updated", { channel: "room:7", count: 2, at: server.timestamp() });
    await settle();
    server.announced = 100;
    server.tell("updated", { channel: "room:7", ...bob, count: 2, at: server.timestamp(20_000) });
    await settle();
    expect(sorted(room.presence)).toEqual([alice, bob]);
    expect(room.presence.hasMore).toBe(false);
  });

  it("tells other info with another subscribe, and the same info with none", async () => {
    const { server, belfry } = await present();
    expect(belfry.channel("room:7", { presence: { name: "Alice" } })).toBe(belfry.channel("room:7"));
    await settle();
    expect(server.socket.of("subscribe").length).toBe(1);
    belfry.channel("room:7", { presence: { name: "Alice", isTyping: true } });
    await settle();
    expect(server.socket.of("subscribe").at(-1)?.data.channels).toMatchObject([
      { channel: "room:7", presence: { name: "Alice", isTyping: true } },
    ]);
    belfry.channel("room:7", { presence: undefined });
    await settle();
    expect(server.socket.of("subscribe").at(-1)?.data.channels).toEqual([{ channel: "room:7" }]);
    expect(belfry.channel("room:7").presence).toMatchObject({ members: [], count: 0 });
  });

  it("is no part of sync", async () => {
    const { environment, server } = await present();
    await environment.wake();
    expect(server.socket.of("sync").at(-1)?.data.channels).toContainEqual({ channel: "room:7" });
  });

  it("ends with the subscription", async () => {
    const { server, room } = await present();
    server.socket.send({ type: "unsubscribed", version: "1.0", data: { channels: ["room:7"], reason: "FORBIDDEN" } });
    expect(room.presence).toMatchObject({ members: [], count: 0 });
  });

  it("hears of changes before the answer to hello", async () => {
    const { environment, server, room } = await present();
    server.intercept = (frame, socket) => {
      if (frame.type !== "hello") return false;
      const at = server.timestamp();
      server.tell("joined", { channel: "room:7", userId: "eve", info: {}, count: 3, at });
      server.answer(frame, socket);
      return true;
    };
    server.socket.end(1006);
    await environment.advance(20_000);
    expect(sorted(room.presence).map(({ userId }) => userId)).toEqual(["alice", "bob", "eve"]);
  });
});

describe("every order of a list and of changes", () => {
  type Frame = ServerFrames["presence.joined" | "presence.left" | "presence.updated"];
  const seeds = Number(process.env["SEEDS"] ?? 200);
  it(`gives the last state of each user (${seeds} seeds)`, () => {
    for (let seed = 1; seed <= seeds; seed += 1) {
      const random = new Random(seed);
      const state = new Map<string, string>();
      const frames: Frame[] = [];
      const at = (ms: number) => new Date(Date.UTC(2031, 0, 1) + ms).toISOString();
      const length = 1 + random.below(12);
      // The list is read somewhere in between.
      const readAt = random.below(length + 1);
      let members: Array<{ userId: string; connections: number; info: object }> = [];
      for (let index = 0; index <= length; index += 1) {
        if (index === readAt) {
          members = [...state].map(([userId, name]) => ({ userId, connections: 1, info: { name } }));
        }
        if (index === length) break;
        const userId = ["a", "b", "c"][random.below(3)] as string;
        const type = state.has(userId) ? (random.chance(0.5) ? "left" : "updated") : "joined";
        const name = String(index);
        if (type === "left") state.delete(userId);
        else state.set(userId, name);
        const data = {
          channel: "room:7",
          userId,
          count: state.size,
          at: at(index * 100),
          ...(type !== "left" && { info: { name } }),
        };
        frames.push({ type: `presence.${type}`, version: "1.0", data } as Frame);
      }
      const list = new PresenceList(() => Promise.reject(new Error("not asked for")));
      const deliveries: Array<Frame | undefined> = [...frames, undefined, ...frames.filter(() => random.chance(0.3))];
      while (deliveries.length > 0) {
        const frame = random.take(deliveries);
        if (frame) list.told(frame);
        else list.listed({ members: members as never, count: members.length }, at(readAt * 100));
      }
      const result = sorted(list).map(({ userId, info }) => [userId, info["name"]]);
      expect(result, `seed ${seed}`).toEqual([...state].sort(([a], [b]) => a.localeCompare(b)));
      expect(list.count).toBe(state.size);
    }
  });
});
