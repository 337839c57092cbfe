import type { Environment } from "./environment.js";
import { type BelfryError, errorOf } from "./errors.js";
import type { ChannelSince, KeptFrame, Position, SubscribedTo } from "./generated/frames.js";
import type { Lost, Page } from "./recovery/ordering.js";
import { Recovery } from "./recovery/recovery.js";

export interface SubscriptionEvents {
  delivered(frame: KeptFrame): void;
  lost(lost: Lost): void;
  /** The server refuses the subscription, or has ended it. */
  refused(error: BelfryError): void;
}

interface Waiter {
  resolve(): void;
  reject(error: BelfryError): void;
}

/** A subscription that the application wants, independent of any connection. */
export class Subscription {
  readonly name: string;
  readonly recovery: Recovery;
  /** Why the server refused it. It is not asked again on this connection. */
  refusal: BelfryError | undefined;
  readonly #events: SubscriptionEvents;
  readonly #waiters: Waiter[] = [];
  #isSubscribed = false;

  constructor(
    name: string,
    environment: Environment,
    history: (channel: string, after: Position) => Promise<Page>,
    events: SubscriptionEvents,
  ) {
    this.name = name;
    this.#events = events;
    this.recovery = new Recovery(environment, {
      deliver: (frame) => events.delivered(frame),
      lost: (lost) => events.lost(lost),
      history: (after) => history(name, after),
      refused: (error) => this.refuse(error),
    });
  }

  /** The channel's entry in a `subscribe` or `sync` frame. */
  get wanted(): ChannelSince {
    const { position } = this.recovery;
    return position ? { channel: this.name, since: position } : { channel: this.name };
  }

  /** Resolves when the server has subscribed the connection. Rejects if it refuses. */
  whenSubscribed(): Promise<void> {
    if (this.#isSubscribed) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  answered(entry: SubscribedTo): void {
    if ("error" in entry) {
      this.refuse(errorOf(entry.error));
      return;
    }
    this.#isSubscribed = true;
    this.refusal = undefined;
    this.recovery.subscribed(entry);
    for (const { resolve } of this.#waiters.splice(0)) resolve();
  }

  interrupt(): void {
    this.#isSubscribed = false;
    this.recovery.interrupt();
  }

  refuse(error: BelfryError): void {
    this.interrupt();
    this.refusal = error;
    for (const { reject } of this.#waiters.splice(0)) reject(error);
    this.#events.refused(error);
  }

  /** The application no longer wants it. */
  end(error: BelfryError): void {
    this.interrupt();
    for (const { reject } of this.#waiters.splice(0)) reject(error);
  }
}
