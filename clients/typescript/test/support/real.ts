import WebSocket from "ws";
import type { Channel } from "../../src/index.js";
import { Belfry, type BelfryOptions, type Lost, type Message, type Status, type TokenReason } from "../../src/index.js";
import { HurriedEnvironment, type Speed } from "./hurry.js";
import { Network } from "./network.js";
import type { Stack } from "./stack.js";

/** A client of a real stack, behind a network of its own. */
export class RealClient {
  readonly belfry: Belfry;
  readonly network: Network;
  readonly environment: HurriedEnvironment;
  readonly statuses: Status[] = [];
  readonly reasons: TokenReason[] = [];
  readonly notifications: Message[] = [];

  private constructor(stack: Stack, user: string, network: Network, options: RealOptions) {
    this.network = network;
    this.environment = new HurriedEnvironment(options.speed, options.random);
    const token: BelfryOptions["token"] = async ({ reason }) => {
      this.reasons.push(reason);
      return options.token ? options.token({ reason }) : stack.token(user);
    };
    this.belfry = new Belfry({
      url: network.url(stack.websocket),
      WebSocket: WebSocket as never,
      environment: this.environment,
      // A machine that is busy with other tests may take long.
      publishTimeoutMs: 600_000,
      ...options,
      token,
    });
    this.belfry.on("status", (status) => this.statuses.push(status));
    this.belfry.on("notification", (message) => this.notifications.push(message));
  }

  static async connect(stack: Stack, user: string, options: RealOptions = {}): Promise<RealClient> {
    const client = new RealClient(stack, user, await Network.to(stack.websocket), options);
    clients.push(client);
    if (options.isPatient !== false) await client.until("connected");
    return client;
  }

  get states(): string[] {
    return this.statuses.map(({ state }) => state);
  }

  get connectionId(): string {
    const { status } = this.belfry;
    if (status.state !== "connected") throw new Error(`the client is ${status.state}`);
    return status.connectionId;
  }

  /** Waits for a state. */
  async until(state: Status["state"]): Promise<Status> {
    if (this.belfry.status.state === state) return this.belfry.status;
    return new Promise((resolve) => {
      const stop = this.belfry.on("status", (status) => {
        if (status.state !== state) return;
        stop();
        resolve(status);
      });
    });
  }

  /** Waits for the next report. */
  async nextStatus(): Promise<Status> {
    return new Promise((resolve) => {
      const stop = this.belfry.on("status", (status) => {
        stop();
        resolve(status);
      });
    });
  }

  /** Waits for the next connection. */
  async untilReconnected(): Promise<void> {
    return new Promise((resolve) => {
      const stop = this.belfry.on("status", ({ state }) => {
        if (state !== "connected") return;
        stop();
        resolve();
      });
    });
  }
}

export interface RealOptions extends Partial<BelfryOptions> {
  /** How much faster than real the client's waits are. */
  speed?: Speed;
  /** The client's source of chance. */
  random?: () => number;
  /** `false`: do not wait until it is connected. */
  isPatient?: boolean;
}

const clients: RealClient[] = [];

/** Closes every client. */
export function closeClients(): void {
  for (const { belfry, network } of clients.splice(0)) {
    belfry.close();
    network.close();
  }
}

/** Waits until somebody has read up to a number. */
export async function untilRead(stack: Stack, channel: string, seq: number, userId: string): Promise<void> {
  for (;;) {
    const receipts = (await stack.invoke("Broadcaster", { action: "receipts", channel, seq })) as {
      users: Array<{ userId: string }>;
    };
    if (receipts.users.some((user) => user.userId === userId)) return;
  }
}

/** The messages that a channel has delivered. */
export class Transcript {
  readonly messages: Message[] = [];
  readonly lost: Lost[] = [];
  readonly #waiters: Array<() => boolean> = [];

  private constructor(channel: Channel) {
    channel.on("message", (message) => {
      this.messages.push(message);
      this.#check();
    });
    channel.on("lost", (lost) => {
      this.lost.push(lost);
      this.#check();
    });
  }

  static async of(channel: Channel): Promise<Transcript> {
    const transcript = new Transcript(channel);
    await channel.subscribe();
    return transcript;
  }

  get texts(): string[] {
    return this.messages.map(({ data }) => String((data as { text?: string })?.text));
  }

  /** Waits until something is true of what was delivered. */
  until(isTrue: (transcript: Transcript) => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.#waiters.push(() => {
        if (!isTrue(this)) return false;
        resolve();
        return true;
      });
      this.#check();
    });
  }

  #check(): void {
    for (const waiter of [...this.#waiters]) if (waiter()) this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
  }
}
