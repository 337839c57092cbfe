// Many clients of @belfry/client in one process. Ends by itself after its input has ended,
// unless a client has left something behind.
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Ledger } from "./ledger.mjs";
import { Member } from "./member.mjs";
import { serve, sleep, until } from "./program.mjs";
import { Server } from "./server.mjs";

/** Concurrent handshakes at the beginning. */
const AT_A_TIME = 64;

const ledger = new Ledger();
/** The clients, by number. */
const members = [];
/** Those that others have replaced. */
const left = [];
let server;
/** How often everything was settled. */
let settlements = 0;

const delay = monitorEventLoopDelay();
delay.enable();

const everybody = () => [...members, ...left];

/** What the program counts. */
function progress() {
  const sum = (count) => everybody().reduce((total, member) => total + count(member), 0);
  const wrong = everybody().flatMap((member) => member.wrong);
  const longest = Math.round(delay.max / 1e6);
  delay.reset();
  return {
    connected: members.filter((member) => member.isConnected).length,
    connections: sum((member) => member.connections),
    interruptions: sum((member) => member.interruptions),
    delivered: sum((member) => member.delivered),
    losses: sum((member) => member.losses),
    ...ledger.counts(),
    wrong: wrong.slice(0, 5),
    longestDelayMs: longest,
  };
}

const commands = {
  /** Connects clients, spread over a time, and waits until each is subscribed. */
  async open({ stack, members: wanted, overMs }) {
    server = new Server(stack, ledger);
    const begun = performance.now();
    // A client connects at once.
    const waiting = [...wanted.entries()].reverse();
    const opening = async () => {
      while (waiting.length > 0) {
        const [number, one] = waiting.pop();
        await sleep(begun + (overMs * number) / wanted.length - performance.now());
        members[number] = new Member(server, ledger, one);
        await members[number].open();
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, opening));
    return progress();
  },

  /** Begins what each act says, and waits for none. */
  async act({ acts }) {
    for (const { what, ...one } of acts) {
      if (what === "announce") server.announce(one);
      else if (what === "reload") {
        const old = members[one.member];
        old.close();
        left.push(old);
        members[one.member] = new Member(server, ledger, old.wanted);
        members[one.member].open();
      } else members[one.member][what](one);
    }
    return progress();
  },

  /** Waits until every promise is settled and every client has one more message of each log. */
  async settle({ seconds }) {
    const ms = seconds * 1_000;
    for (const member of members) member.mend();
    const settled = () => everybody().every((member) => member.pending.size === 0) && server.pending.size === 0;
    const isSettled = await until(settled, ms);
    const unsettled = [...everybody(), server].flatMap(({ pending }) => [...pending]);
    await until(() => members.every((member) => member.isConnected), ms);
    settlements += 1;
    // An id that is remembered would be published once only.
    const mark = `end-${settlements}`;
    const marks = new Map();
    for (const { log } of members.flatMap((member) => member.witnesses)) marks.set(log, `${mark}:${log}`);
    for (const [log, id] of marks) server.announce({ log, id });
    await until(() => server.pending.size === 0, ms);
    const behind = () =>
      members.flatMap((member) => member.witnesses.filter(({ log, last }) => last !== marks.get(log)));
    await until(() => behind().length === 0, ms);
    return {
      unsettled: isSettled ? [] : unsettled.slice(0, 10),
      behind: behind().map(({ who, log, position }) => ({ who, log, position })),
      ...progress(),
    };
  },

  /** Everything that was published and that clients were told. */
  async verdict() {
    return {
      ...ledger.verdict(),
      members: members.map((member) => member.verdict(false)),
      left: left.map((member) => member.verdict(true)),
      wrong: everybody().flatMap((member) => member.wrong),
    };
  },

  /** Closes every client. Says which promises it has neither kept nor broken. */
  async close() {
    for (const member of members) member.close();
    await until(() => everybody().every((member) => member.isLetGo), 60_000);
    const held = everybody().filter((member) => !member.isLetGo);
    return { held: held.map(({ user }) => user) };
  },
};

await serve(commands);
// Whoever gave the commands may have been killed before its last one.
for (const member of members) member.close();
delay.disable();
