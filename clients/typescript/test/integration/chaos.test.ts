import { afterAll, beforeAll, expect, it } from "vitest";
import type { Position } from "../../src/generated/frames.js";
import { Random } from "../support/random.js";
import { closeClients, RealClient, Transcript } from "../support/real.js";
import { Stack } from "../support/stack.js";

/** `CHAOS=300 CLIENTS=20 npx vitest run test/integration/chaos.test.ts` makes it longer. */
const STEPS = Number(process.env["CHAOS"] ?? 25);
const CLIENTS = Number(process.env["CLIENTS"] ?? 5);
const CHANNELS = ["room:chaos:1", "room:chaos:2", "room:chaos:3"];

const FAULTS = [
  { fault: "function-kill", function: "Default", share: 0.1 },
  { fault: "function-lose-answer", function: "Default", share: 0.1 },
  { fault: "function-kill", function: "Connect", share: 0.3 },
  { fault: "post-410", share: 0.1 },
  { fault: "post-429", share: 0.2 },
  { fault: "post-500", share: 0.2 },
  { fault: "dynamodb-throttle", share: 0.05 },
  { fault: "dynamodb-conflict", share: 0.05 },
];

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start("--schedule-every", "1s");
});
afterAll(async () => {
  closeClients();
  await stack.stop();
});

/** Fails unless messages come once and in order, and each hole is reported. */
function check({ messages, lost }: Transcript): void {
  const holes = [...lost];
  let at = messages[0]?.position as Position;
  for (const { position } of messages.slice(1)) {
    if (position?.epoch !== at.epoch || position.seq !== at.seq + 1) {
      const hole = holes.shift();
      expect(hole, `a hole after ${JSON.stringify(at)}`).toMatchObject({ from: at });
      expect(position).toEqual({ epoch: hole?.to?.epoch, seq: (hole?.to?.seq ?? 0) + 1 });
    }
    at = position as Position;
  }
  expect(holes, "losses where nothing is missing").toEqual([]);
}

it("every client sees the log, whatever fails", { timeout: 120_000 + STEPS * 2_000 }, async () => {
  const random = new Random(Number(process.env["SEED"] ?? 1));
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, (_, index) =>
      RealClient.connect(stack, `user-${index}`, {
        speed: 2,
        token: () => stack.token(`user-${index}`, { ttl: 15 }),
      }),
    ),
  );
  const transcripts = await Promise.all(
    clients.map(({ belfry }) => Promise.all(CHANNELS.map((name) => Transcript.of(belfry.channel(name))))),
  );
  const published: Array<Promise<unknown>> = [];
  const sent = new Map<string, string[]>(CHANNELS.map((name) => [name, []]));
  let end = async () => {};
  for (let step = 0; step < STEPS; step += 1) {
    const client = clients[random.below(CLIENTS)] as RealClient;
    const what = random.next();
    if (what < 0.15) client.network.cut();
    else if (what < 0.2) client.network.freeze();
    else if (what < 0.25) client.environment.wake();
    else if (what < 0.3) client.network.block(random.chance(0.5));
    else if (what < 0.4) {
      await end();
      end = random.chance(0.7) ? await stack.fault(FAULTS[random.below(FAULTS.length)] as object) : async () => {};
    }
    for (let count = random.below(5); count > 0; count -= 1) {
      const name = CHANNELS[random.below(CHANNELS.length)] as string;
      const author = clients[random.below(CLIENTS)] as RealClient;
      const text = `${step}.${count}`;
      sent.get(name)?.push(text);
      published.push(author.belfry.channel(name).publish("chat.line", { text }, { echo: true }));
    }
    await new Promise((resolve) => setTimeout(resolve, random.below(300)));
  }
  await end();
  for (const { network, environment } of clients) {
    network.block(false);
    environment.wake();
  }
  await Promise.all(published);
  // One more message in each channel shows any gap that is left.
  for (const name of CHANNELS) {
    sent.get(name)?.push("end");
    await clients[0]?.belfry.channel(name).publish("chat.line", { text: "end" }, { echo: true });
  }
  for (const own of transcripts) {
    for (const [index, transcript] of own.entries()) {
      await transcript.until(({ texts }) => texts.at(-1) === "end");
      check(transcript);
      if (transcript.lost.length > 0) continue;
      expect([...transcript.texts].sort()).toEqual([...(sent.get(CHANNELS[index] as string) ?? [])].sort());
    }
  }
  const connections = clients.reduce((sum, { network }) => sum + network.count, 0);
  expect(connections, "the network was bad").toBeGreaterThan(CLIENTS);
  const reference = transcripts[0]?.map(({ texts }) => texts);
  for (const own of transcripts) {
    if (own.every(({ lost }) => lost.length === 0)) expect(own.map(({ texts }) => texts)).toEqual(reference);
  }
});
