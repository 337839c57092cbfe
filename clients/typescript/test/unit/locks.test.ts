import { describe, expect, it } from "vitest";
import type { BelfryError, LockChanged } from "../../src/index.js";
import { locks } from "../../src/locks.js";
import { connected } from "../support/client.js";
import { settle } from "../support/clock.js";
import type { FakeServer } from "../support/server.js";

const ROOM = "room:7";

async function open() {
  const setup = await connected({ locks });
  const room = setup.belfry.channel(ROOM);
  return { ...setup, room };
}

async function holding(seconds = 30) {
  const setup = await open();
  const lock = await setup.room.lock("price", { seconds });
  const lost: BelfryError[] = [];
  const regained: number[] = [];
  lock.on("lost", (error) => lost.push(error));
  lock.on("regained", (fencing) => regained.push(fencing));
  return { ...setup, lock, lost, regained };
}

function lockFrames({ sockets }: FakeServer): unknown[] {
  return sockets.flatMap((socket) => socket.of("lock").map(({ data }) => data));
}

describe("a lock", () => {
  it("is taken after subscribing, and has a fencing number", async () => {
    const { server, lock } = await holding();
    expect(server.socket.of("subscribe")).toMatchObject([{ data: { channels: [{ channel: ROOM }] } }]);
    expect(lockFrames(server)).toEqual([{ channel: ROOM, name: "price", seconds: 30 }]);
    expect(lock).toMatchObject({ name: "price", fencing: 101, isHeld: true });
  });

  it("renews itself at half its time, for ever", async () => {
    const { environment, server, lock, lost } = await holding(10);
    await environment.advance(4_999);
    expect(lockFrames(server).length).toBe(1);
    await environment.advance(1);
    expect(lockFrames(server).length).toBe(2);
    await environment.advance(100_000);
    expect(lockFrames(server).length).toBe(22);
    expect(lock).toMatchObject({ fencing: 101, isHeld: true });
    expect(lost).toEqual([]);
  });

  it("that another connection holds is refused with the holder and the time", async () => {
    const { server, room } = await open();
    const { until } = server.hold(ROOM, "price", "bob", 30);
    await expect(room.lock("price")).rejects.toMatchObject({ code: "LOCKED", holder: { userId: "bob" }, until });
    server.locks.clear();
    await expect(room.lock("price")).resolves.toMatchObject({ isHeld: true });
  });

  it("is released, and can be taken again at once", async () => {
    const { environment, server, room, lock, lost } = await holding();
    const released = lock.release();
    const again = room.lock("price");
    await released;
    expect(lock.isHeld).toBe(false);
    expect(await again).toMatchObject({ fencing: 102, isHeld: true });
    expect(server.socket.received.map(({ type }) => type).filter((type) => /lock/.test(type))).toEqual([
      "lock",
      "unlock",
      "lock",
    ]);
    await environment.advance(14_999);
    expect(lockFrames(server).length).toBe(2);
    expect(lost).toEqual([]);
  });

  it("is the same one when it is asked for twice", async () => {
    const { server, room } = await open();
    const [first, second] = await Promise.all([room.lock("price"), room.lock("price")]);
    expect(first).toBe(second);
    expect(lockFrames(server).length).toBe(1);
  });

  it("is released before a renewal is answered", async () => {
    const { environment, server, lock } = await holding();
    let answer = () => {};
    server.intercept = (frame, socket) => {
      if (frame.type !== "lock") return false;
      answer = () => server.answer(frame, socket);
      return true;
    };
    await environment.advance(15_000);
    const released = lock.release();
    await settle();
    expect(server.socket.of("unlock")).toEqual([]);
    answer();
    await released;
    expect(server.locks.size).toBe(0);
  });

  it("is taken again after a reconnect, and says that its number has changed", async () => {
    const { environment, server, lock, lost, regained } = await holding();
    server.socket.end(1006);
    await environment.advance(1_000);
    expect(lock).toMatchObject({ fencing: 102, isHeld: true });
    expect(regained).toEqual([102]);
    expect(lost).toEqual([]);
  });

  it("is lost if somebody else has it after a reconnect", async () => {
    const { environment, server, lock, lost } = await holding();
    server.socket.end(1006);
    server.hold(ROOM, "price", "bob", 60);
    await environment.advance(1_000);
    expect(lost).toMatchObject([{ code: "LOCKED", holder: { userId: "bob" } }]);
    expect(lock.isHeld).toBe(false);
  });

  it("waits until the server has noticed the end of the last connection", async () => {
    const { environment, server, lock, lost } = await holding();
    server.noticesEnds = false;
    server.socket.end(1006);
    await environment.advance(5_000);
    expect(lock.isHeld).toBe(true);
    server.noticesEnds = true;
    await environment.advance(8_000);
    expect(lock).toMatchObject({ fencing: 102, isHeld: true });
    expect(lost).toEqual([]);
  });

  it("moves to the connection that replaces another", async () => {
    const { environment, server, lock, lost, regained } = await holding();
    server.socket.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(60_000) } });
    await environment.advance(5_000);
    expect(server.open.length).toBe(1);
    expect(server.locks.get(`${ROOM} price`)?.socket).toBe(server.socket);
    expect(lockFrames(server).length).toBe(1);
    expect(lock).toMatchObject({ fencing: 101, isHeld: true });
    await environment.advance(10_000);
    expect(lockFrames(server).length).toBe(2);
    expect(lock).toMatchObject({ fencing: 101, isHeld: true });
    expect([lost, regained]).toEqual([[], []]);
  });

  it("is asked for again if the server has not handed it on", async () => {
    const { environment, server, lock, lost } = await holding();
    server.handsLocksOn = false;
    server.socket.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(60_000) } });
    await environment.advance(5_000);
    expect(lockFrames(server).length).toBeGreaterThan(1);
    expect(lock).toMatchObject({ fencing: 102, isHeld: true });
    expect(lost).toEqual([]);
  });

  it("is lost when its time ends without a connection", async () => {
    const { environment, server, lock, lost } = await holding();
    server.accepts = false;
    server.socket.end(1006);
    await environment.advance(29_999);
    expect(lost).toEqual([]);
    await environment.advance(1);
    expect(lost).toMatchObject([{ code: "TIMEOUT" }]);
    expect(lock.isHeld).toBe(false);
  });

  it("survives a renewal that fails for a while", async () => {
    const { environment, server, lost } = await holding();
    let failures = 3;
    server.intercept = (frame, socket) => {
      if (frame.type !== "lock" || failures === 0) return false;
      failures -= 1;
      server.refuse(frame, socket, "INTERNAL");
      return true;
    };
    await environment.advance(60_000);
    expect(failures).toBe(0);
    expect(lost).toEqual([]);
  });

  it.each(["FORBIDDEN", "TOO_MANY_LOCKS"])("is lost if a renewal is refused with %s", async (code) => {
    const { environment, server, lost } = await holding();
    server.intercept = (frame, socket) => {
      if (frame.type === "lock") server.refuse(frame, socket, code);
      return frame.type === "lock";
    };
    await environment.advance(15_000);
    expect(lost).toMatchObject([{ code }]);
  });

  it("is lost when the server ends the subscription", async () => {
    const { server, lost } = await holding();
    server.socket.send({ type: "unsubscribed", version: "1.0", data: { channels: [ROOM], reason: "FORBIDDEN" } });
    expect(lost).toMatchObject([{ code: "FORBIDDEN" }]);
  });

  it("ends silently with its channel, and leaves no timer behind", async () => {
    const { environment, belfry, server, room, lost } = await holding();
    room.close();
    await settle();
    expect(server.locks.size).toBe(0);
    belfry.close();
    await settle();
    expect(lost).toEqual([]);
    expect(environment.pendingTimers).toBe(0);
  });

  it("is lost when the user is signed out, and leaves no timer behind", async () => {
    const { environment, server, lost } = await holding();
    const data = { code: "SIGNED_OUT" as const, message: "signed out", timestamp: server.timestamp() };
    server.socket.send({ type: "error", version: "1.0", data });
    server.socket.end(1000);
    await settle();
    expect(lost).toMatchObject([{ code: "SIGNED_OUT" }]);
    expect(environment.pendingTimers).toBe(0);
  });

  it("that is asked for without a connection is settled when the client is closed", async () => {
    const { belfry, server, room } = await open();
    server.accepts = false;
    server.socket.end(1006);
    const asked = room.lock("price");
    await settle();
    belfry.close();
    await expect(asked).rejects.toMatchObject({ code: "CLOSED" });
  });

  it("needs its part of the client", async () => {
    const { belfry } = await connected();
    await expect(belfry.channel(ROOM).lock("price")).rejects.toThrow(/@belfry\/client\/locks/);
  });
});

describe("the locks of others", () => {
  async function listening() {
    const setup = await connected({ locks }, (server) => server.hold(ROOM, "title", "bob", 30));
    const changes: LockChanged[] = [];
    const room = setup.belfry.channel(ROOM, { locks: true });
    room.on("lock.changed", (change) => changes.push(change));
    await room.subscribe();
    const tell = (data: Omit<LockChanged, "channel" | "name">) =>
      setup.server.socket.send({
        type: "lock.changed",
        version: "1.0",
        timestamp: setup.server.timestamp(),
        data: { channel: ROOM, name: "title", ...data },
      });
    const held = (seconds: number, fencing: number, userId = "bob") =>
      tell({ fencing, holder: { userId }, until: setup.server.timestamp(seconds * 1_000) });
    return { ...setup, room, changes, tell, held };
  }

  it("are listed on subscribing", async () => {
    const { server, room, changes } = await listening();
    expect(server.socket.of("subscribe").at(-1)?.data.channels).toEqual([{ channel: ROOM, locks: true }]);
    expect(room.locks).toMatchObject([{ name: "title", holder: { userId: "bob" }, fencing: 101 }]);
    expect(changes).toMatchObject([{ channel: ROOM, name: "title", holder: { userId: "bob" } }]);
  });

  it("are free when the server says so, and older frames change nothing", async () => {
    const { room, changes, tell, held } = await listening();
    tell({ fencing: 101 });
    expect(room.locks).toEqual([]);
    held(60, 101);
    held(60, 100);
    expect(room.locks).toEqual([]);
    held(60, 102, "carol");
    tell({ fencing: 101 });
    expect(room.locks).toMatchObject([{ name: "title", holder: { userId: "carol" }, fencing: 102 }]);
    expect(changes.map(({ holder }) => holder?.userId)).toEqual(["bob", undefined, "carol"]);
  });

  it("are free when their time ends, unless they are renewed, even late", async () => {
    const { environment, server, room, changes, held } = await listening();
    held(40, 101);
    await environment.advance(44_999);
    expect(room.locks.length).toBe(1);
    await environment.advance(1);
    expect(room.locks).toEqual([]);
    held(30, 101);
    expect(room.locks).toMatchObject([{ until: server.timestamp(30_000) }]);
    expect(changes.map(({ holder }) => holder?.userId)).toEqual(["bob", "bob", undefined, "bob"]);
  });

  it("that were released during a reconnect are free afterwards", async () => {
    const { environment, server, room, changes } = await listening();
    server.locks.clear();
    server.socket.end(1006);
    await environment.advance(1_000);
    expect(room.locks).toEqual([]);
    expect(changes.at(-1)).toEqual({ channel: ROOM, name: "title", fencing: 101 });
  });

  it("leave no timer behind", async () => {
    const { environment, belfry } = await listening();
    belfry.close();
    await settle();
    expect(environment.pendingTimers).toBe(0);
  });
});
