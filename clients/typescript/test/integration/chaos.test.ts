import { afterAll, beforeAll, expect, it, onTestFailed } from "vitest";
import type { Position } from "../../src/index.js";
import { Ledger } from "../support/chaos/ledger.js";
import { Participant, type World } from "../support/chaos/participant.js";
import { type Event, type Publication, plan } from "../support/chaos/plan.js";
import { Reader } from "../support/chaos/reader.js";
import { checkWitness, logOf } from "../support/chaos/verdict.js";
import type { Witness } from "../support/chaos/witness.js";
import { Random } from "../support/random.js";
import { closeClients } from "../support/real.js";
import { Stack } from "../support/stack.js";

// `CHAOS_MINUTES=30 npm run test:integration -- chaos` takes longer, and more clients. `CHAOS_SEED`, with the same minutes, repeats a run.
const MINUTES = Number(process.env["CHAOS_MINUTES"] ?? 2);
const SEED = Number(process.env["CHAOS_SEED"] ?? Math.floor(Math.random() * 1_000_000));
/** A step stands for three seconds. */
const STEPS = MINUTES * 20;
const CLIENTS = MINUTES < 10 ? 8 : 20;
/** The last one has a brief history. */
const CHANNELS = ["room:chaos:1", "room:chaos:2", "brief:chaos"];
const BRIEF = CHANNELS.at(-1) as string;
/** How often a server repeats a broadcast. */
const ATTEMPTS = 200;
/** How many messages of the brief history are left when others expire. */
const LEFT = 3;

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start("--schedule-every", "1s", "--max-duration", "1m");
});
afterAll(async () => {
  closeClients();
  await stack.stop();
});

/** Publishes as a server does: again, until the message is in the history. */
async function announce({ ledger }: World, channel: string, messageId: string): Promise<void> {
  ledger.sent(messageId, channel);
  const message = { type: "notification", data: { kind: "chaos.announcement" } };
  const request = { target: { type: "channel", channel }, message, messageId };
  let report: { position?: Position } = {};
  for (let attempt = 0; attempt < ATTEMPTS && !report.position; attempt += 1) {
    report = (await stack.invoke("Broadcaster", request)) as typeof report;
  }
  expect(report, "the last answer of the broadcaster").toHaveProperty("position");
  ledger.acknowledged(messageId, report.position);
}

/** Removes all but the newest messages from the brief history. */
async function expire({ ledger }: World): Promise<void> {
  const positions = ledger.acknowledgedIn(BRIEF).map(([, position]) => position);
  const newest = positions.reduce((one, other) => (one.seq > other.seq ? one : other), { epoch: "", seq: 0 });
  if (newest.seq <= LEFT) return;
  const last = { ...newest, seq: newest.seq - LEFT };
  ledger.expired(BRIEF, last.seq);
  await stack.expire(BRIEF, last);
}

/** Compares what each client was told with the log. Those who stay have all of it. Returns the losses in each channel. */
async function judge({ ledger }: World, everybody: Participant[], staying: Participant[]) {
  const reader = await Reader.connect(stack);
  const losses: Record<string, number> = {};
  for (const [index, name] of CHANNELS.entries()) {
    const kept = await reader.read(name);
    const witnessOf = (client: Participant) => client.witnesses[index] as Witness;
    const log = logOf(name, kept, ledger, everybody.map(witnessOf));
    if (name !== BRIEF) expect(kept.ids.size, `${name}: everything is in the history`).toBe(kept.newest.seq);
    const results = everybody.map((client) => checkWitness(client.user, witnessOf(client), log, ledger));
    for (const client of staying) {
      const { seq } = results[everybody.indexOf(client)] ?? {};
      expect(seq, `${client.user} in ${name} has everything`).toBe(kept.newest.seq);
    }
    losses[name] = results.reduce((sum, result) => sum + result.losses, 0);
  }
  reader.close();
  return losses;
}

it("every client sees the log, whatever fails", { timeout: 240_000 + STEPS * 2_000 }, async () => {
  process.stdout.write(`CHAOS_MINUTES=${MINUTES} CHAOS_SEED=${SEED}\n`);
  const world: World = { stack, ledger: new Ledger(), random: new Random(SEED) };
  const steps = plan(world.random, { steps: STEPS, clients: CLIENTS, channels: CHANNELS.length });
  const users = Array.from({ length: CLIENTS }, (_, index) => `user-${index}`);
  const clients = await Promise.all(users.map((user) => Participant.join(world, user, CHANNELS)));
  const everybody = [...clients];
  onTestFailed(() => {
    for (const { user, client, witnesses } of clients) {
      const seqs = witnesses.map(({ name }) => client.belfry.channel(name).position?.seq);
      process.stdout.write(`${user}: ${JSON.stringify(client.belfry.status)}, at ${seqs}\n`);
    }
  });
  await Promise.all(clients.map((client) => client.settled()));

  const ends: Array<() => Promise<void>> = [];
  const endings = new Map<number, Array<() => Promise<void>>>();
  const announced: Array<Promise<void>> = [];
  const happen = async (event: Event, index: number) => {
    if (event.type === "expire") {
      await expire(world);
    } else if (event.type === "fault") {
      const end = await stack.fault(event.spec);
      ends.push(end);
      const then = index + event.steps;
      endings.set(then, [...(endings.get(then) ?? []), end]);
    } else if (event.what === "reload") {
      await clients[event.client]?.leave();
      const user = users[event.client] as string;
      const next = await Participant.join(world, user, CHANNELS);
      clients[event.client] = next;
      everybody.push(next);
    } else {
      await clients[event.client]?.suffer(event.what);
    }
  };
  const publish = ({ client, channel, id }: Publication) => {
    const name = CHANNELS[channel] as string;
    if (client === undefined) {
      announced.push(announce(world, name, id));
      announced.at(-1)?.catch(() => {});
    } else clients[client]?.publish(name, id);
  };
  for (const [index, { events, publications, pauseMs }] of steps.entries()) {
    for (const end of endings.get(index) ?? []) await end();
    for (const event of events) await happen(event, index);
    for (const publication of publications) publish(publication);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  for (const end of ends) await end();
  for (const client of clients) for (const what of ["tokens", "back", "age"] as const) await client.suffer(what);

  await Promise.all([...announced, ...clients.map((client) => client.settled())]);
  // One more message in each channel shows any gap that is left.
  for (const name of CHANNELS) await announce(world, name, `end:${name}`);
  // Minutes later, each client has found out whether its connection is alive and whether it has missed something.
  for (const client of clients) await client.suffer("age");
  await Promise.all(
    clients.flatMap(({ witnesses }) => witnesses.map((witness) => witness.until(`end:${witness.name}`))),
  );
  await Promise.all(clients.map(({ client }) => client.until("connected")));

  const losses = await judge(world, everybody, clients);
  for (const client of clients) await client.leave();
  const connections = everybody.reduce((sum, { client }) => sum + client.network.count, 0);
  process.stdout.write(`${connections} connections, losses: ${JSON.stringify(losses)}\n`);
  expect(connections, "the network was bad").toBeGreaterThan(CLIENTS);
});
