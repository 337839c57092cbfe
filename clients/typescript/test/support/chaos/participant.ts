import { expect } from "vitest";
import type { BelfryError } from "../../../src/index.js";
import { settle } from "../clock.js";
import { PATIENCE_MS } from "../hurry.js";
import type { Random } from "../random.js";
import { RealClient } from "../real.js";
import type { Stack } from "../stack.js";
import type { Ledger } from "./ledger.js";
import type { Mishap } from "./plan.js";
import { Sockets } from "./sockets.js";
import { Witness } from "./witness.js";

/** So long that no run reaches it: each message is published, or its client is closed. */
const PUBLISH_TIMEOUT_MS = 24 * 60 * 60_000;
/** The shortest wait that is skipped now and then, and not shortened. */
const LONG_WAIT_MS = 60_000;

const speed = (ms: number) => (ms >= LONG_WAIT_MS || PATIENCE_MS.includes(ms) ? 1 : 5);

/** A client that suffers, with everything that it has asked for and was told. */
export class Participant {
  readonly user: string;
  readonly client: RealClient;
  readonly witnesses: Witness[];
  readonly #stack: Stack;
  readonly #ledger: Ledger;
  readonly #sockets: Sockets;
  readonly #tokens: Tokens;
  readonly #promises: Array<Promise<unknown>> = [];

  private constructor(
    world: World,
    user: string,
    client: RealClient,
    channels: string[],
    sockets: Sockets,
    tokens: Tokens,
  ) {
    this.user = user;
    this.client = client;
    this.#stack = world.stack;
    this.#ledger = world.ledger;
    this.#sockets = sockets;
    this.#tokens = tokens;
    this.witnesses = channels.map((name) => new Witness(client.belfry.channel(name), world.ledger));
    for (const witness of this.witnesses) this.#keep(witness.subscribe());
  }

  /** A client that connects, and subscribes to these channels. */
  static async join(world: World, user: string, channels: string[]): Promise<Participant> {
    const sockets = new Sockets();
    const tokens = new Tokens(world.stack, user, world.random.chance(0.3) ? 20 : 300);
    const client = await RealClient.connect(world.stack, user, {
      isPatient: false,
      speed,
      publishTimeoutMs: PUBLISH_TIMEOUT_MS,
      random: () => world.random.next(),
      WebSocket: sockets.WebSocket,
      token: () => tokens.get(),
    });
    return new Participant(world, user, client, channels, sockets, tokens);
  }

  publish(channel: string, id: string): void {
    this.#ledger.sent(id, channel);
    const room = this.client.belfry.channel(channel);
    const published = room.publish("chaos.line", undefined, { messageId: id, echo: true });
    this.#keep(published.then(({ position }) => this.#ledger.acknowledged(id, position)));
  }

  async suffer(what: Exclude<Mishap, "reload">): Promise<void> {
    const { network, environment, belfry } = this.client;
    const connectionId = belfry.status.state === "connected" ? belfry.status.connectionId : undefined;
    switch (what) {
      case "cut":
        network.cut();
        break;
      case "freeze":
        network.freeze();
        break;
      case "wake":
        environment.wake();
        break;
      case "block":
        network.block(true);
        network.cut();
        break;
      case "away":
        network.block(true);
        network.cut();
        environment.online = false;
        environment.wake();
        break;
      case "back":
        network.block(false);
        if (environment.online) break;
        environment.online = true;
        environment.wake();
        break;
      case "age":
        environment.skip((ms) => ms >= LONG_WAIT_MS && ms < PUBLISH_TIMEOUT_MS);
        break;
      case "handOver": {
        const data = { deadline: new Date(Date.now() + 600_000).toISOString() };
        const frame = JSON.stringify({ type: "reconnect", version: "1.0", data });
        if (connectionId) await this.#stack.postTo(connectionId, frame);
        break;
      }
      case "disconnect":
        if (connectionId) await this.#stack.disconnect(connectionId);
        break;
      case "ack":
        for (const { name } of this.witnesses) belfry.channel(name).ack();
        break;
      case "noToken":
      case "staleToken":
        this.#tokens.fails = what;
        break;
      case "tokens":
        this.#tokens.fails = undefined;
    }
  }

  /** Resolves when every promise has settled. Rejects if one was rejected. */
  async settled(): Promise<void> {
    await Promise.all(this.#promises);
  }

  /** Closes the client, and fails unless it lets everything go at once. */
  async leave(): Promise<void> {
    const { belfry, environment, network } = this.client;
    belfry.close();
    const pending = new Set([...this.#promises, ...this.witnesses.map(({ looped }) => looped)]);
    for (const promise of pending) {
      const settled = () => pending.delete(promise);
      promise.then(settled, (error: BelfryError) => error.code === "CLOSED" && settled());
    }
    await settle();
    expect(pending.size, `${this.user}: promises that a closed client neither keeps nor rejects with CLOSED`).toBe(0);
    expect(this.#sockets.held, `${this.user}: sockets that a closed client holds`).toBe(0);
    expect(environment.pendingWakes, `${this.user}: listeners of a closed client`).toBe(0);
    await this.#tokens.idle();
    expect(environment.pendingTimers, `${this.user}: timers of a closed client`).toBe(0);
    for (const { ids, looped } of this.witnesses) expect(await looped).toEqual(ids);
    network.close();
  }

  #keep(promise: Promise<unknown>): void {
    this.#promises.push(promise);
    // `settled` reports a rejection. If the run has failed before, nobody asks.
    promise.catch(() => {});
  }
}

/** Where the participants live. */
export interface World {
  stack: Stack;
  ledger: Ledger;
  random: Random;
}

/** Where a client gets its tokens. */
class Tokens {
  fails: "noToken" | "staleToken" | undefined;
  readonly #stack: Stack;
  readonly #user: string;
  readonly #seconds: number;
  readonly #pending = new Set<Promise<string>>();

  constructor(stack: Stack, user: string, seconds: number) {
    this.#stack = stack;
    this.#user = user;
    this.#seconds = seconds;
  }

  async get(): Promise<string> {
    if (this.fails === "noToken") throw new Error("nobody is signed in");
    const token = this.#stack.token(this.#user, { ttl: this.fails ? -60 : this.#seconds });
    this.#pending.add(token);
    try {
      return await token;
    } finally {
      this.#pending.delete(token);
    }
  }

  /** Resolves when no request for a token is under way. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#pending);
    await settle();
  }
}
