import WebSocket from "ws";
import { Belfry } from "../../../clients/typescript/dist/index.js";
import { locks } from "../../../clients/typescript/dist/locks.js";
import { presence } from "../../../clients/typescript/dist/presence.js";
import { Witness } from "./witness.mjs";

/** So long that no run reaches it: each message is published, or its client is closed. */
const PUBLISH_TIMEOUT_MS = 24 * 60 * 60_000;

/** A client, with everything that it was told. */
export class Member {
  wanted;
  witnesses = [];
  /** What is under way. */
  pending = new Set();
  /** How often it had no connection any more. */
  interruptions = 0;
  /** The ids of its connections, and when each was opened. */
  #opened = [];
  #belfry;
  #sockets = new Set();
  #ledger;
  #locks = new Map();
  #refusesTokensUntil = 0;
  #isClosed = false;
  #wrong = [];

  constructor(server, ledger, wanted) {
    this.wanted = wanted;
    this.#ledger = ledger;
    const { user, tokenSeconds, own = true, pingAfterMs } = wanted;
    const sockets = this.#sockets;
    function TrackedSocket(url, protocols) {
      const socket = new WebSocket(url, protocols, { perMessageDeflate: false });
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
      return socket;
    }
    this.#belfry = new Belfry({
      url: server.websocket,
      WebSocket: TrackedSocket,
      presence,
      locks,
      publishTimeoutMs: PUBLISH_TIMEOUT_MS,
      ...(pingAfterMs && { pingAfterMs }),
      token: async () => {
        if (performance.now() < this.#refusesTokensUntil) throw new Error("nobody is signed in");
        return server.token(user, tokenSeconds);
      },
    });
    this.#belfry.on("status", ({ state, connectionId }) => {
      if (state !== "connected") {
        if (state !== "closed" && this.connections > 0) this.interruptions += 1;
        return;
      }
      this.#opened.push({ connectionId, at: Date.now() });
    });
    const names = wanted.channels.map(({ channel }) => [channel, channel]);
    if (own) names.push(["@me", `@me:${user}`], ["@all", "@all"]);
    for (const [name, log] of names) {
      const { isPresent } = wanted.channels.find(({ channel }) => channel === name) ?? {};
      const channel = this.#belfry.channel(name, isPresent ? { presence: {} } : {});
      this.witnesses.push(new Witness(channel, log, user, ledger));
    }
  }

  /** Resolves when the server has subscribed the client to everything. */
  async open() {
    await this.#keep(
      "subscribe",
      Promise.all(
        this.witnesses.map(async (witness) => {
          await witness.channel.subscribe();
          witness.begun();
        }),
      ),
    );
  }

  get user() {
    return this.wanted.user;
  }

  get connections() {
    return this.#opened.length;
  }

  get isConnected() {
    return this.#belfry.status.state === "connected";
  }

  get delivered() {
    return this.witnesses.reduce((sum, { delivered }) => sum + delivered, 0);
  }

  get losses() {
    return this.witnesses.reduce((sum, { losses }) => sum + losses.length, 0);
  }

  get wrong() {
    return [...this.#wrong, ...this.witnesses.flatMap(({ wrong }) => wrong)];
  }

  /** After `close`: nothing of the client is left. */
  get isLetGo() {
    return this.#sockets.size === 0 && this.pending.size === 0;
  }

  publish({ channel, id }) {
    this.#ledger.published();
    const published = this.#belfry
      .channel(channel)
      .publish("soak.line", { text: "x".repeat(64) }, { messageId: id, echo: true });
    this.#keep(
      `publish ${id}`,
      published.then(({ position }) => this.#ledger.acknowledged(id, channel, position)),
    );
  }

  /** Holds a lock for a while. */
  lock({ channel, name, holdMs }) {
    const key = `${channel} ${name}`;
    if (this.#locks.has(key)) return;
    this.#locks.set(key, undefined);
    const locking = async () => {
      try {
        const lock = await this.#belfry.channel(channel).lock(name, { seconds: 10 });
        const granted = (fencing) => this.#ledger.granted({ user: this.user, channel, name, fencing });
        let end = granted(lock.fencing);
        this.#locks.set(key, lock);
        lock.on("lost", () => end());
        lock.on("regained", (fencing) => {
          end();
          end = granted(fencing);
        });
        await new Promise((resolve) => setTimeout(resolve, holdMs));
        end();
        await lock.release();
      } finally {
        this.#locks.delete(key);
      }
    };
    this.#keep(`lock ${key}`, locking());
  }

  /** Its connections break. */
  cut() {
    for (const socket of this.#sockets) socket.terminate();
  }

  /** It gets no token for a while. */
  refuseTokens({ ms }) {
    this.#refusesTokensUntil = performance.now() + ms;
  }

  ack({ channel }) {
    this.#belfry.channel(channel).ack();
  }

  /** Nothing more goes wrong. */
  mend() {
    this.#refusesTokensUntil = 0;
  }

  close() {
    this.#isClosed = true;
    this.#belfry.close();
  }

  verdict(hasLeft) {
    const { user } = this;
    const present = {};
    for (const { channel, isPresent } of this.wanted.channels) {
      if (isPresent && !hasLeft)
        present[channel] = this.#belfry.channel(channel).presence.members.map((one) => one.userId);
    }
    const { connectionId } = this.#belfry.status;
    const logs = this.witnesses.map((witness) => witness.verdict());
    return { user, connectionId, opened: this.#opened, logs, present };
  }

  async #keep(what, promise) {
    this.pending.add(what);
    try {
      await promise;
    } catch (error) {
      // What was under way when the client was closed is rejected.
      if (!(this.#isClosed && error.code === "CLOSED")) this.#ledger.refused(error);
    } finally {
      this.pending.delete(what);
    }
  }
}
