import { backoff } from "./backoff.js";
import { type Connection, remaining } from "./connection.js";
import type { Environment } from "./environment.js";
import { BelfryError } from "./errors.js";
import { bytesOf } from "./frame.js";
import type { AutoSubscribed, HelloData, ServerFrames, SubscribedTo } from "./generated/frames.js";
import type { Subscription } from "./subscription.js";

/** The most channels in one frame. */
const MAX_CHANNELS = 50;
/** Room for the other fields of a frame. */
const ENVELOPE_BYTES = 200;
/** The server's default, until `welcome` says more. */
const DEFAULT_MAX_BYTES = 16_384;
const SYNC_MS = 5 * 60_000;
/** How long before its end a subscription is renewed: at most, and as a share. */
const RENEW_MS = 30_000;
const RENEW_SHARE = 0.1;

/** Brings the subscriptions of each connection in line with those that the application wants. */
export class Subscriptions {
  readonly #environment: Environment;
  readonly #wanted = new Map<string, Subscription>();
  /** The subscriptions that the present connection has, or has asked for. */
  #asked = new Map<string, Subscription>();
  /** The subscriptions that the newest `hello` asked for. */
  #greeted: Subscription[] = [];
  readonly #renewals = new Map<string, unknown>();
  #connection: Connection | undefined;
  /** The connection holds the locks of the one that it has replaced. */
  #keepsLocks = false;
  #isBusy = false;
  /** There may be something to do. */
  #isDirty = false;
  #failures = 0;
  #maxBytes = DEFAULT_MAX_BYTES;
  #syncTimer: unknown;
  #retryTimer: unknown;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  get(channel: string): Subscription | undefined {
    return this.#wanted.get(channel);
  }

  /** Subscribes. `isChanged`: even if the connection is subscribed already. */
  add(subscription: Subscription, isChanged = false): void {
    const { name } = subscription;
    if (subscription.status.error) subscription.interrupt();
    this.#wanted.set(name, subscription);
    if (isChanged) this.#asked.delete(name);
    void this.#reconcile();
  }

  remove(subscription: Subscription, error: BelfryError): void {
    const { name, status } = subscription;
    if (this.#wanted.get(name) === subscription) {
      this.#wanted.delete(name);
      // Also if it was about to be asked for again: the connection may have it.
      if (!status.error) this.#asked.set(name, subscription);
    }
    subscription.end(error);
    void this.#reconcile();
  }

  /** The data of `hello` for a new connection. */
  hello(): HelloData {
    this.#greeted = this.#batch([...this.#wanted.values()]);
    return { subscribe: { channels: this.#greeted.map((one) => one.ask()) } };
  }

  /** The next connection belongs to another user: every subscription begins anew, whatever `hello` has asked for. */
  switched(): void {
    this.#greeted = [];
    for (const { recovery } of this.#wanted.values()) recovery.reset();
  }

  /**
   * A connection was welcomed. It replaces any other. `adopted`: what it is subscribed to from the start. `receive` takes
   * what came before.
   */
  ready(
    connection: Connection,
    frame: ServerFrames["welcome"],
    adopted: Array<[Subscription, AutoSubscribed]>,
    receive: () => void,
  ): void {
    this.#connection = connection;
    this.#keepsLocks = !!frame.data.keepsLocks;
    this.#maxBytes = frame.data.limits.maxMessageBytes;
    this.#endRenewals();
    const answers: SubscribedTo[] = (frame.data.subscribed?.channels ?? []).slice(0, this.#greeted.length);
    const batch = this.#greeted.slice(0, answers.length);
    for (const [subscription, { channel, position }] of adopted) {
      // The client has asked for the others itself.
      if (this.#wanted.has(channel)) continue;
      this.#wanted.set(channel, subscription);
      batch.push(subscription);
      answers.push({ channel, ...position });
    }
    this.#asked = new Map(batch.map((subscription) => [subscription.name, subscription]));
    for (const subscription of this.#wanted.values()) {
      if (this.#asked.get(subscription.name) !== subscription) subscription.interrupt();
    }
    receive();
    this.#answered(batch, answers, frame);
    this.#scheduleSync();
    void this.#reconcile();
  }

  /** There is no connection any more. */
  lost(): void {
    this.#connection = undefined;
    this.#asked.clear();
    this.#environment.clearTimeout(this.#syncTimer);
    this.#environment.clearTimeout(this.#retryTimer);
    this.#endRenewals();
    for (const subscription of this.#wanted.values()) subscription.interrupt();
  }

  /** There will be no connection any more, unless the application asks for one. */
  stopped(error: BelfryError): void {
    this.lost();
    for (const subscription of this.#wanted.values()) subscription.end(error);
  }

  /** The server has ended subscriptions. */
  unsubscribed({ data }: ServerFrames["unsubscribed"]): void {
    for (const channel of data.channels) {
      this.#asked.delete(channel);
      const code = data.reason ?? "FORBIDDEN";
      this.#wanted.get(channel)?.refuse(new BelfryError(code, "the server ended the subscription"));
    }
  }

  /** Compares positions with the server's. Finds a lost last message, and whether the connection is alive. */
  sync(): void {
    const connection = this.#connection;
    if (!connection) return;
    this.#scheduleSync();
    let rest = [...this.#asked.values()];
    if (rest.length === 0) connection.request("ping").catch(() => {});
    while (rest.length > 0) {
      const batch = this.#batch(rest);
      rest = rest.slice(batch.length);
      connection.request("sync", { channels: batch.map(({ known }) => known) }).then(
        (frame) => this.#synced(connection, batch, frame),
        // The connection's end, or the next sync, will do.
        () => {},
      );
    }
  }

  #synced(connection: Connection, batch: Subscription[], { data }: ServerFrames["synced"]): void {
    if (connection !== this.#connection) return;
    for (const [index, { subscribed, missed }] of data.channels.entries()) {
      const subscription = batch[index];
      if (!subscription || this.#asked.get(subscription.name) !== subscription) continue;
      if (subscribed) {
        if (missed) void subscription.recovery.ask();
      } else {
        subscription.interrupt();
        this.#asked.delete(subscription.name);
        void this.#reconcile();
      }
    }
  }

  #scheduleSync(): void {
    this.#environment.clearTimeout(this.#syncTimer);
    this.#syncTimer = this.#environment.setTimeout(() => this.sync(), SYNC_MS);
  }

  /**
   * Subscribes and unsubscribes, one frame at a time: the server handles frames concurrently, so a `subscribe` could
   * overtake the `unsubscribe` before it.
   */
  async #reconcile(): Promise<void> {
    this.#isDirty = true;
    if (this.#isBusy) return;
    this.#isBusy = true;
    // Changes that the application makes in one go share a frame.
    await null;
    while (this.#connection && this.#isDirty) {
      this.#isDirty = false;
      if (await this.#step(this.#connection)) this.#isDirty = true;
    }
    this.#isBusy = false;
  }

  /** Sends one frame. Returns whether there may be more to do. */
  async #step(connection: Connection): Promise<boolean> {
    const gone = [...this.#asked].filter(([name, subscription]) => this.#wanted.get(name) !== subscription);
    const fresh = [...this.#wanted.values()].filter(({ name, status }) => !status.error && !this.#asked.has(name));
    const batch = this.#batch(gone.length > 0 ? gone.map(([, subscription]) => subscription) : fresh);
    if (batch.length === 0) return false;
    try {
      if (gone.length > 0) {
        await connection.request("unsubscribe", { channels: batch.map(({ name }) => name) });
        if (connection === this.#connection) for (const { name } of batch) this.#asked.delete(name);
      } else {
        for (const subscription of batch) this.#asked.set(subscription.name, subscription);
        const frame = await connection.request("subscribe", { channels: batch.map((one) => one.ask()) });
        if (connection === this.#connection) this.#answered(batch, frame.data.channels, frame);
      }
      this.#failures = 0;
      return true;
    } catch (error) {
      return connection !== this.#connection || this.#failed(batch, error as BelfryError, gone.length > 0);
    }
  }

  #failed(batch: Subscription[], error: BelfryError, wasUnsubscribe: boolean): boolean {
    if (error.code === "DISCONNECTED") return false;
    const isOver = error.advice === "giveUp";
    for (const subscription of batch) {
      if (isOver || !wasUnsubscribe) this.#asked.delete(subscription.name);
      if (isOver && !wasUnsubscribe) subscription.refuse(error);
    }
    if (isOver) return true;
    this.#failures += 1;
    const wait = backoff(this.#failures, this.#environment);
    this.#environment.clearTimeout(this.#retryTimer);
    this.#retryTimer = this.#environment.setTimeout(() => void this.#reconcile(), wait);
    return false;
  }

  /** The answers come in the order of the request. */
  #answered(batch: Subscription[], answers: SubscribedTo[], frame: ServerFrames["welcome" | "subscribed"]): void {
    for (const [index, subscription] of batch.entries()) {
      const answer = answers[index];
      if (!answer || this.#wanted.get(subscription.name) !== subscription) continue;
      subscription.answered(answer, frame.timestamp, this.#keepsLocks);
      if (subscription.status.error) this.#asked.delete(subscription.name);
      else if ("until" in answer && answer.until) this.#renew(subscription, remaining(frame, answer.until));
    }
  }

  /** Subscribes again before the application's permission ends. */
  #renew(subscription: Subscription, left: number): void {
    const { name } = subscription;
    this.#environment.clearTimeout(this.#renewals.get(name));
    const again = () => {
      this.#renewals.delete(name);
      if (this.#asked.get(name) !== subscription) return;
      this.#asked.delete(name);
      void this.#reconcile();
    };
    const wait = left - Math.min(RENEW_MS, left * RENEW_SHARE);
    this.#renewals.set(name, this.#environment.setTimeout(again, wait));
  }

  #endRenewals(): void {
    for (const timer of this.#renewals.values()) this.#environment.clearTimeout(timer);
    this.#renewals.clear();
  }

  /** The first of these that fit into one frame. */
  #batch(subscriptions: Subscription[]): Subscription[] {
    let bytes = ENVELOPE_BYTES;
    return subscriptions.slice(0, MAX_CHANNELS).filter(({ wanted }, index) => {
      bytes += bytesOf(JSON.stringify(wanted)) + 1;
      return index === 0 || bytes <= this.#maxBytes;
    });
  }
}
