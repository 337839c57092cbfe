import { backoff } from "./backoff.js";
import { type Connection, disconnected, type Replies, remaining } from "./connection.js";
import type { Environment } from "./environment.js";
import { BelfryError } from "./errors.js";
import { bytesOf } from "./frame.js";
import type { ClientFrames, HelloData, KeptFrame, Position, ServerFrames, SubscribedTo } from "./generated/frames.js";
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
    subscription.refusal = undefined;
    this.#wanted.set(name, subscription);
    if (isChanged) this.#asked.delete(name);
    void this.#reconcile();
  }

  /** Takes over a subscription that the connection has from the start, unless the client has asked for it itself. */
  adopt(subscription: Subscription, position: Position | undefined): void {
    const { name } = subscription;
    if (this.#wanted.has(name)) return;
    this.#wanted.set(name, subscription);
    this.#asked.set(name, subscription);
    subscription.answered({ channel: name, ...position });
  }

  remove(subscription: Subscription, error: BelfryError): void {
    const { name, refusal } = subscription;
    if (this.#wanted.get(name) === subscription) {
      this.#wanted.delete(name);
      // Also if it was about to be asked for again: the connection may have it.
      if (!refusal) this.#asked.set(name, subscription);
    }
    subscription.end(error);
    void this.#reconcile();
  }

  /** Sends a request on the present connection. */
  async request<T extends keyof Replies>(type: T, data: ClientFrames[T]["data"]): Promise<ServerFrames[Replies[T]]> {
    if (!this.#connection) throw disconnected();
    return this.#connection.request(type, data);
  }

  /** The data of `hello` for a new connection. */
  hello(): HelloData {
    for (const subscription of this.#wanted.values()) subscription.refusal = undefined;
    this.#greeted = this.#batch([...this.#wanted.values()]);
    return this.#greeted.length > 0 ? { subscribe: { channels: this.#greeted.map((one) => one.ask()) } } : {};
  }

  /** A connection was welcomed. It replaces any other. */
  ready(connection: Connection, frame: ServerFrames["welcome"]): void {
    this.#connection = connection;
    this.#keepsLocks = !!frame.data.keepsLocks;
    this.#maxBytes = frame.data.limits.maxMessageBytes;
    const answers = frame.data.subscribed?.channels ?? [];
    this.#endRenewals();
    const greeted = answers.length > 0 ? this.#greeted : [];
    this.#asked = new Map(greeted.map((subscription) => [subscription.name, subscription]));
    for (const subscription of this.#wanted.values()) {
      if (this.#asked.get(subscription.name) !== subscription) subscription.interrupt();
    }
    this.#answered(greeted, answers, frame);
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

  /** Takes a message. Returns whether its channel is one of these. */
  receive(frame: KeptFrame): boolean {
    const subscription = frame.channel === undefined ? undefined : this.#wanted.get(frame.channel);
    subscription?.recovery.receive(frame);
    return subscription !== undefined;
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
        if (missed) subscription.recovery.missed();
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
    const fresh = [...this.#wanted.values()].filter(({ name, refusal }) => !refusal && !this.#asked.has(name));
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
    if (!wasUnsubscribe) for (const { name } of batch) this.#asked.delete(name);
    if (error.advice === "giveUp") {
      for (const subscription of batch) {
        if (wasUnsubscribe) this.#asked.delete(subscription.name);
        else subscription.refuse(error);
      }
      return true;
    }
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
      if (subscription.refusal) this.#asked.delete(subscription.name);
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
    const fits = ({ wanted }: Subscription, index: number) => {
      bytes += bytesOf(JSON.stringify(wanted)) + 1;
      return index === 0 || bytes <= this.#maxBytes;
    };
    const candidates = subscriptions.slice(0, MAX_CHANNELS);
    const end = candidates.findIndex((subscription, index) => !fits(subscription, index));
    return end < 0 ? candidates : candidates.slice(0, end);
  }
}
