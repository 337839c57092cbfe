import { describe, expect, it } from "vitest";
import type { BelfryError, Lost } from "../../src/index.js";
import { connected, textsOf } from "../support/client.js";
import { settle } from "../support/clock.js";
import type { FakeServer } from "../support/server.js";

const ROOM = "room:7";

function acks(server: FakeServer): number[] {
  return server.sockets.flatMap((socket) => socket.of("ack").map(({ data }) => data.seq));
}

async function reading() {
  const setup = await connected();
  setup.server.log(ROOM);
  const room = setup.belfry.channel(ROOM);
  await room.subscribe();
  return { ...setup, room };
}

describe("ack", () => {
  it("says how far the user has read: by default, up to the last message", async () => {
    const { server, room } = await reading();
    room.ack();
    await settle();
    expect(acks(server)).toEqual([]);
    server.publish(ROOM, "a");
    room.ack();
    await settle();
    expect(server.socket.of("ack")).toMatchObject([{ data: { channel: ROOM, epoch: "e1", seq: 1 } }]);
  });

  it("sends one frame a second for everything, and never goes back", async () => {
    const { environment, server, room } = await reading();
    for (let seq = 1; seq <= 10; seq += 1) room.ack({ epoch: "e1", seq });
    await settle();
    expect(acks(server)).toEqual([1]);
    room.ack({ epoch: "e1", seq: 5 });
    await environment.advance(999);
    expect(acks(server)).toEqual([1]);
    await environment.advance(1);
    expect(acks(server)).toEqual([1, 10]);
    room.ack({ epoch: "e1", seq: 10 });
    await environment.advance(10_000);
    expect(acks(server)).toEqual([1, 10]);
    expect(environment.pendingTimers).toBeGreaterThan(0);
  });

  it("counts anew in another history", async () => {
    const { environment, server, room } = await reading();
    room.ack({ epoch: "e1", seq: 10 });
    room.ack({ epoch: "e2", seq: 1 });
    await environment.advance(1_000);
    expect(acks(server)).toEqual([10, 1]);
  });

  it("is sent again after a failure, and after a reconnect", async () => {
    const { environment, server, room } = await reading();
    let failures = 2;
    server.intercept = (frame, socket) => {
      if (frame.type !== "ack" || failures === 0) return false;
      failures -= 1;
      if (failures === 1) server.refuse(frame, socket, "INTERNAL");
      else socket.end(1006);
      return true;
    };
    room.ack({ epoch: "e1", seq: 3 });
    await environment.advance(5_000);
    expect(acks(server)).toEqual([3, 3, 3]);
  });

  it("that is refused is an error of the channel, and not repeated", async () => {
    const { environment, server, room } = await reading();
    const errors: BelfryError[] = [];
    room.on("error", (error) => errors.push(error));
    server.intercept = (frame, socket) => {
      if (frame.type === "ack") server.refuse(frame, socket, "INVALID_MESSAGE");
      return frame.type === "ack";
    };
    room.ack({ epoch: "e1", seq: 3 });
    await environment.advance(5_000);
    expect(errors).toMatchObject([{ code: "INVALID_MESSAGE" }]);
    expect(acks(server)).toEqual([3]);
  });

  it("leaves no timer behind", async () => {
    const { environment, server, belfry, room } = await reading();
    server.accepts = false;
    server.socket.end(1006);
    room.ack({ epoch: "e1", seq: 3 });
    await environment.advance(5_000);
    belfry.close();
    await settle();
    expect(environment.pendingTimers).toBe(0);
  });
});

describe("a subscription since what was acknowledged", () => {
  async function subscribed(acked: number | undefined, prepare: (server: FakeServer) => void = () => {}) {
    const setup = await connected({}, (server) => {
      for (const text of ["a", "b", "c", "d"]) server.log(ROOM).append(text);
      if (acked !== undefined) server.acked.set(ROOM, { epoch: "e1", seq: acked });
      prepare(server);
    });
    const room = setup.belfry.channel(ROOM, { since: "acked" });
    const texts: string[] = [];
    const lost: Lost[] = [];
    room.on("message", (message) => texts.push(...textsOf([message])));
    room.on("lost", (one) => lost.push(one));
    await room.subscribe();
    return { ...setup, room, texts, lost };
  }

  it("delivers what the user has not read, and then what is published", async () => {
    const { server, room, texts, lost } = await subscribed(2);
    expect(server.socket.of("subscribe").at(-1)?.data.channels).toEqual([{ channel: ROOM, since: "acked" }]);
    server.publish(ROOM, "e");
    expect(texts).toEqual(["c", "d", "e"]);
    expect(room.position).toEqual({ epoch: "e1", seq: 5 });
    expect(lost).toEqual([]);
  });

  it("delivers nothing if everything is read", async () => {
    const { texts, lost, room } = await subscribed(4);
    expect([texts, lost]).toEqual([[], []]);
    expect(room.position).toEqual({ epoch: "e1", seq: 4 });
  });

  it("continues page by page", async () => {
    const { texts } = await subscribed(0, (server) => {
      server.pageSize = 1;
    });
    await settle();
    expect(texts).toEqual(["a", "b", "c", "d"]);
  });

  it("goes on from the last message after a reconnect, whatever was acknowledged", async () => {
    const { environment, server, texts } = await subscribed(2);
    server.socket.end(1006);
    server.log(ROOM).append("e");
    await environment.advance(1_000);
    expect(server.socket.of("hello")[0]?.data?.subscribe?.channels).toContainEqual({
      channel: ROOM,
      since: { epoch: "e1", seq: 4 },
    });
    expect(texts).toEqual(["c", "d", "e"]);
  });

  it.each([
    ["nothing was acknowledged", undefined, "notAcked", () => {}],
    ["too much is unread", 0, "tooFar", (server: FakeServer) => (server.maxMissed = 2)],
    ["the history no longer has it", 0, "expired", (server: FakeServer) => (server.log(ROOM).expired = 1)],
  ])("says so if %s", async (_, acked, reason, prepare) => {
    const { server, texts, lost } = await subscribed(acked, prepare);
    server.publish(ROOM, "e");
    expect(lost).toEqual([{ reason, from: undefined, to: { epoch: "e1", seq: 4 } }]);
    expect(texts).toEqual(["e"]);
  });
});
