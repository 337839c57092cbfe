// Many clients in one process, of Belfry or of Socket.IO. Takes commands as lines of
// JSON and answers each with one: first the clients to connect, then `cut`, `back`
// and `end`.
import { createInterface } from "node:readline";
import { BelfryClient } from "./belfry.mjs";
import { SocketIoClient } from "./socketio.mjs";

/** Clients come back at a random moment within this time. */
const BACK_WITHIN_MS = 1_000;

/** Concurrent handshakes at the beginning. */
const AT_A_TIME = 64;

/** When no message has arrived for so long, no more are expected. */
const QUIET_MS = 6_000;

/** A client that misses messages after this much silence asks the server. */
const SYNC_MS = 3_000;

const CHECK_MS = 50;
const GIVE_UP_MS = 120_000;

const members = [];
const counts = { recovered: 0, retries: 0, gaps: 0, dropped: 0, syncs: 0 };
let lastAt = 0;

/** A client, and how often it has seen each number. */
class Member {
  times = new Map();

  constructor(Client, ticket, channel) {
    const seen = (number) => {
      lastAt = performance.now();
      this.times.set(number, (this.times.get(number) ?? 0) + 1);
    };
    this.client = new Client(ticket, channel, seen, counts);
  }

  lacks(numbers) {
    return numbers.filter((number) => !this.times.has(number)).length;
  }

  doubled() {
    return [...this.times.values()].reduce((sum, times) => sum + times - 1, 0);
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const commands = {
  async connect({ protocol, tickets, channel }) {
    const Client = protocol === "belfry" ? BelfryClient : SocketIoClient;
    for (const ticket of tickets) members.push(new Member(Client, ticket, channel));
    const waiting = [...members];
    const worker = async () => {
      for (let next; (next = waiting.pop()); ) await next.client.join();
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, worker));
    return {};
  },

  async cut() {
    for (const { client } of members) client.cut();
    counts.recovered = 0;
    return {};
  },

  /** Comes back, and waits until everyone has seen these numbers. */
  async back({ numbers }) {
    const begun = performance.now();
    let joinedMs = 0;
    const joins = members.map(async ({ client }) => {
      await sleep(Math.random() * BACK_WITHIN_MS);
      await client.join();
      joinedMs = performance.now() - begun;
    });
    const joined = Promise.all(joins).then(() => true);
    let behind = members.map((member) => ({ member, numbers }));
    const times = [];
    while (behind.length > 0 && performance.now() - begun < GIVE_UP_MS) {
      await sleep(CHECK_MS);
      const now = performance.now() - begun;
      const still = behind.filter((one) => {
        one.numbers = one.numbers.filter((number) => !one.member.times.has(number));
        return one.numbers.length > 0;
      });
      for (let count = behind.length - still.length; count > 0; count -= 1) times.push(now);
      behind = still;
      // What is missing now never comes: nothing is under way.
      if ((await Promise.race([joined, false])) && performance.now() - lastAt > QUIET_MS) break;
    }
    // If nothing was missed, they are back once the server has answered.
    const answered = await Promise.race([joined, sleep(GIVE_UP_MS).then(() => false)]);
    const last = answered && behind.length === 0 ? Math.max(joinedMs, times.at(-1)) : null;
    const median = times[Math.floor(times.length / 2)] ?? null;
    return { joinedMs, medianMs: median, lastMs: last, behind: behind.length };
  },

  /** Waits for the last messages, and counts. */
  async end({ numbers }) {
    const begun = performance.now();
    let synced = false;
    lastAt = Math.max(lastAt, begun);
    while (performance.now() - begun < GIVE_UP_MS) {
      const behind = members.filter((member) => member.lacks(numbers) > 0);
      const quiet = performance.now() - lastAt;
      if (behind.length === 0 || quiet > QUIET_MS) break;
      if (!synced && quiet > SYNC_MS) {
        synced = true;
        counts.syncs = behind.length;
        for (const { client } of behind) client.sync();
      }
      await sleep(CHECK_MS);
    }
    const sum = (count) => members.reduce((total, member) => total + count(member), 0);
    return { lost: sum((one) => one.lacks(numbers)), doubled: sum((one) => one.doubled()), counts };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...parameters } = JSON.parse(line);
  console.log(JSON.stringify(await commands[command](parameters)));
}
process.exit(0);
