import { describe, expect, it } from "vitest";
import type { KeptFrame, Position } from "../../src/generated/frames.js";
import type { Lost, Message } from "../../src/index.js";
import { Ordering, type Page } from "../../src/recovery/ordering.js";
import { connected } from "../support/client.js";
import { settle } from "../support/clock.js";
import { Random } from "../support/random.js";
import { type FakeServer, Log } from "../support/server.js";

const SEEDS = Number(process.env["SEEDS"] ?? 400);

/** The epoch of an empty history means nothing. */
function comparable({ epoch, seq }: Position): Position {
  return { epoch: seq > 0 ? epoch : "", seq };
}

/** Fails unless a client saw the log, with each hole reported. */
function check(seen: Array<KeptFrame | Lost>, begin: Position, seed: number): Position {
  let at = begin;
  for (const one of seen) {
    if ("reason" in one) {
      expect(one.from, `seed ${seed}: a loss begins where the client was`).toEqual(at.seq > 0 ? at : expect.anything());
      at = one.to as Position;
    } else {
      const position = one.position as Position;
      const epoch = at.seq > 0 ? at.epoch : position.epoch;
      expect(position, `seed ${seed}: the next message`).toEqual({ epoch, seq: at.seq + 1 });
      at = position;
    }
  }
  return at;
}

describe("every interleaving of live messages and answers", () => {
  it("gives each message once and in order, or reports it as lost", () => {
    for (let seed = 0; seed < SEEDS; seed += 1) {
      const random = new Random(seed);
      const log = new Log("room:7");
      const most = 1 + random.below(20);
      for (let count = random.below(5); count > 0; count -= 1) log.append("before");
      const seen: Array<KeptFrame | Lost> = [];
      const ordering = new Ordering(
        (frame) => seen.push(frame),
        (lost) => seen.push(lost),
      );
      const begin = log.newest;
      ordering.answer(begin);
      /** Frames and answers on their way. Any may overtake any other. */
      const live: KeptFrame[] = [];
      const answers: Page[] = [];
      const ask = () => {
        if (ordering.position) answers.push(log.page(ordering.position, 1 + random.below(3), most));
      };
      for (let step = 0; step < 60; step += 1) {
        const what = random.next();
        if (what < 0.4) {
          const frame = log.append(String(step));
          // Lost on its way, posted once, or posted twice.
          for (let copies = random.below(3); copies > 0; copies -= 1) live.push(frame);
        } else if (what < 0.7) {
          const frame = random.take(live);
          if (frame) ordering.receive(frame);
        } else if (what < 0.8) {
          ask();
        } else if (what < 0.97) {
          const answer = random.take(answers);
          if (answer) ordering.answer(answer);
        } else if (what < 0.99) {
          log.expired = random.below(log.messages.length + 1);
        } else {
          log.restart(`e${step}`);
          if (random.chance(0.5)) log.append("restarted");
        }
      }
      for (const frame of live) ordering.receive(frame);
      for (const answer of answers) ordering.answer(answer);
      for (let isBehind = true; isBehind; ) {
        isBehind = ordering.answer(log.page(ordering.position as Position, 3, most));
      }
      expect(comparable(check(seen, begin, seed)), `seed ${seed}: the end`).toEqual(comparable(log.newest));
      expect(ordering.hasGap, `seed ${seed}: nothing waits`).toBe(false);
    }
  });
});

/** Makes the server lose frames, answer late or with errors, and end connections. */
function misbehave(server: FakeServer, random: Random): void {
  server.intercept = (frame, socket) => {
    const what = random.next();
    if (what < 0.06) {
      queueMicrotask(() => socket.end(random.chance(0.5) ? 1006 : 1001));
      return random.chance(0.5);
    }
    if (what < 0.1) return true;
    if (what < 0.14) {
      server.refuse(frame, socket, "INTERNAL");
      return true;
    }
    if (what < 0.17) {
      server.refuse(frame, socket, "RATE_LIMITED", { retryAfterMs: 1_500 });
      return true;
    }
    if (what < 0.2) {
      socket.sendText('{"message":"Internal server error","connectionId":"c","requestId":"r"}');
      return true;
    }
    if (what < 0.23) {
      socket.frozen = true;
      return true;
    }
    return false;
  };
}

describe("a client whose server misbehaves", () => {
  it("sees the log, or is told what it lost; publishes each message once; settles everything", async () => {
    for (let seed = 0; seed < SEEDS / 10; seed += 1) {
      const random = new Random(seed);
      const { environment, server, belfry } = await connected({ publishTimeoutMs: 3_600_000 }, (server) => {
        server.pageSize = 5;
        server.maxMissed = 30;
      });
      const channels = ["room:1", "room:2", "room:3"];
      const seen = new Map<string, Array<Message | Lost>>();
      for (const name of channels) {
        server.log(name);
        const list: Array<Message | Lost> = [];
        seen.set(name, list);
        const room = belfry.channel(name);
        room.on("message", (message) => list.push(message));
        room.on("lost", (lost) => list.push(lost));
        await room.subscribe();
      }
      misbehave(server, random);
      const published: Array<Promise<unknown>> = [];
      for (let step = 0; step < 120; step += 1) {
        const channel = channels[random.below(channels.length)] as string;
        const what = random.next();
        if (what < 0.35) {
          const frame = server.log(channel).append(`s${step}`);
          if (random.chance(0.8)) server.post(frame);
        } else if (what < 0.5) {
          published.push(belfry.channel(channel).publish("chat.line", { text: `c${step}` }, { echo: true }));
        } else if (what < 0.55) {
          server.socket.end(random.chance(0.5) ? 1006 : 1001);
        } else if (what < 0.6) {
          server.socket.send({ type: "reconnect", version: "1.0", data: { deadline: server.timestamp(600_000) } });
        } else if (what < 0.65) {
          await environment.wake();
        } else if (what < 0.66) {
          server.log(channel).expired = server.log(channel).messages.length;
        } else if (what < 0.68) {
          server.accepts = !server.accepts;
        } else {
          await environment.advance(random.below(4_000));
        }
      }
      server.intercept = () => false;
      server.accepts = true;
      for (const socket of server.sockets) socket.accept();
      // Long enough for every backoff, and for a sync after it.
      await environment.advance(15 * 60_000);
      await Promise.all(published);
      for (const name of channels) {
        const log = server.log(name);
        const end = check(seen.get(name) as never, { epoch: "e1", seq: 0 }, seed);
        expect(comparable(end), `seed ${seed}, ${name}: the end`).toEqual(comparable(log.newest));
        const ids = log.messages.map(({ id }) => id);
        expect(new Set(ids).size, `seed ${seed}: no message twice`).toBe(ids.length);
      }
      expect(belfry.status.state, `seed ${seed}`).toBe("connected");
      expect(server.open.length, `seed ${seed}: one connection`).toBe(1);
      belfry.close();
      await settle();
      expect(environment.pendingTimers, `seed ${seed}: timers`).toBe(0);
    }
  });
});
