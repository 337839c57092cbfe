// Clients of @belfry/client that publish at a steady rate while somebody changes the stack, and
// newcomers that connect meanwhile.
import { Belfry } from "../../../clients/typescript/dist/index.js";
import { Ledger } from "./ledger.mjs";
import { Newcomer } from "./newcomer.mjs";
import { serve, sleep, until } from "./program.mjs";
import { Tally } from "./tally.mjs";
import { Witness } from "./witness.mjs";

const PUBLISH_EVERY_MS = 1_000;
/** Longer than any outage here. */
const PUBLISH_TIMEOUT_MS = 10 * 60_000;

const ledger = new Ledger();
const tally = new Tally();
const clients = [];
let channel;
let newcomer;
let timers = [];
let nextId = 1;

class Client {
  /** The ids of the messages that are not acknowledged yet. */
  pending = new Set();

  constructor(url, user, token) {
    this.belfry = new Belfry({
      url,
      token: () => token,
      WebSocket: tally.socket(),
      publishTimeoutMs: PUBLISH_TIMEOUT_MS,
    });
    this.channel = this.belfry.channel(channel);
    this.witness = new Witness(this.channel, channel, user, ledger);
  }

  async open() {
    await this.channel.subscribe();
    this.witness.begun();
  }

  async publish(id = `line-${nextId++}`) {
    this.pending.add(id);
    ledger.published();
    const began = performance.now();
    try {
      const { position } = await this.channel.publish("chaos.line", {}, { messageId: id, echo: true });
      ledger.acknowledged(id, channel, position);
      tally.published(performance.now() - began);
    } catch (error) {
      ledger.refused(error);
    }
    this.pending.delete(id);
  }
}

/** What is wrong with the log, or with what a client was told of it. */
function wrong() {
  const { acknowledgedMessages, told, refused } = ledger.verdict();
  const ids = told[0]?.ids ?? {};
  const lost = acknowledgedMessages.filter(({ id, epoch, seq }) => ids[`${epoch}#${seq}`] !== id);
  const doubled = Object.values(ids).filter((id, index, all) => all.indexOf(id) !== index);
  return [
    ...clients.flatMap(({ witness }) => witness.wrong),
    ...clients.flatMap(({ witness }) => witness.losses.map((loss) => `${witness.who}: ${JSON.stringify(loss)}`)),
    ...lost.map(({ id }) => `nobody was told of ${id}`),
    ...doubled.map((id) => `${id} is in the log twice`),
    ...Object.keys(refused).map((code) => `a message was refused: ${code}`),
  ];
}

const commands = {
  /** Connects a client for each token but the last, and waits until each is subscribed. */
  async open({ url, tokens, ...one }) {
    channel = one.channel;
    newcomer = new Newcomer(url, tokens.pop());
    for (const [index, token] of tokens.entries()) clients.push(new Client(url, `client ${index}`, token));
    await Promise.all(clients.map((client) => client.open()));
    return {};
  },

  /** Publishes and connects from now on. */
  async begin() {
    tally.begin();
    newcomer.begin();
    timers = clients.map((client) => setInterval(() => client.publish(), PUBLISH_EVERY_MS));
    return {};
  },

  /** What has been noticed so far. */
  async noticed() {
    return { ...tally.noticed, newcomers: newcomer.outcomes };
  },

  /** Stops that, waits until every client has every message, and says what was noticed. */
  async settle({ announced, seconds }) {
    for (const timer of timers) clearInterval(timer);
    const newcomers = await newcomer.end();
    for (const { id, position } of announced) ledger.acknowledged(id, channel, position);
    const isAcknowledged = await until(() => clients.every(({ pending }) => pending.size === 0), seconds * 1_000);
    const noticed = { ...tally.noticed };
    // Reveals a lost last message.
    const mark = `mark-${nextId++}`;
    await Promise.race([clients[0].publish(mark), sleep(seconds * 1_000)]);
    await until(() => clients.every(({ witness }) => witness.last === mark), seconds * 1_000);
    const behind = clients.filter(({ witness }) => witness.last !== mark).map(({ witness }) => witness.who);
    return { ...noticed, newcomers, isAcknowledged, behind, wrong: wrong() };
  },

  async close() {
    for (const { belfry } of clients) belfry.close();
    return {};
  },
};

await serve(commands);
