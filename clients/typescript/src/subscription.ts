import type { Environment } from "./environment.js";
import { type BelfryError, errorOf } from "./errors.js";
import type {
  ChannelSince,
  ChannelState,
  ChannelWanted,
  KeptFrame,
  Position,
  PresenceInfo,
  SubscribedTo,
  Timestamp,
} from "./generated/frames.js";
import type { Lost, Page } from "./recovery/ordering.js";
import { Recovery } from "./recovery/recovery.js";

/** What a subscription asks for besides the messages. */
export interface ChannelOptions {
  /** Makes the user present in the channel, and tells the others this. `undefined` ends that. */
  presence?: PresenceInfo | undefined;
  /** `acked` begins after what the user has acknowledged, on any device, and not with the next message. */
  since?: "acked" | undefined;
  /** `true` lists the locks that are held. Needs the client's option `locks`. */
  locks?: boolean | undefined;
}

/** Whether the server delivers a channel's messages. */
export interface ChannelStatus {
  /** `subscribing` until the server has answered. After `refused`, the client asks again with the next connection. */
  readonly state: "subscribing" | "subscribed" | "refused";
  /** Why the server refuses, or has ended the subscription. */
  readonly error?: BelfryError;
}

export interface SubscriptionEvents {
  /** Is told again if the connection has ended in between. */
  status(status: ChannelStatus, isNew: boolean): void;
  /** The server has subscribed the connection, which may hold the locks of the one that it has replaced. */
  subscribed(state: ChannelState, timestamp: Timestamp | undefined, keepsLocks: boolean): void;
  delivered(frame: KeptFrame): void;
  lost(lost: Lost): void;
}

const SUBSCRIBING: ChannelStatus = { state: "subscribing" };
const SUBSCRIBED: ChannelStatus = { state: "subscribed" };

interface Waiter {
  resolve(): void;
  reject(error: BelfryError): void;
}

/** A subscription that the application wants, independent of any connection. */
export class Subscription {
  readonly name: string;
  readonly recovery: Recovery;
  /** One that is refused is not asked for again on this connection. */
  status: ChannelStatus = SUBSCRIBING;
  readonly #events: SubscriptionEvents;
  readonly #waiters: Waiter[] = [];
  /** As text: the application may change its object. */
  #options = "{}";

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

  /** Changes options. Returns whether that makes a difference. */
  configure(options: ChannelOptions): boolean {
    const before = this.#options;
    this.#options = JSON.stringify({ ...JSON.parse(before), ...options });
    return this.#options !== before;
  }

  /** The channel's entry in a `sync` frame. */
  get known(): ChannelSince {
    const { position } = this.recovery;
    return { channel: this.name, ...(position && { since: position }) };
  }

  /** The channel's entry in a `subscribe` frame. */
  get wanted(): ChannelWanted {
    return { ...JSON.parse(this.#options), ...this.known };
  }

  /** The same, to be sent now. */
  ask(): ChannelWanted {
    this.recovery.asked = this.recovery.position;
    return this.wanted;
  }

  /** Resolves when the server has subscribed the connection. Rejects if it refuses. */
  whenSubscribed(): Promise<void> {
    if (this.status === SUBSCRIBED) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  answered(entry: SubscribedTo, timestamp: Timestamp | undefined, keepsLocks: boolean): void {
    if ("error" in entry) {
      this.refuse(errorOf(entry.error));
      return;
    }
    this.#become(SUBSCRIBED);
    this.#events.subscribed(entry, timestamp, keepsLocks);
    const { epoch, seq = 0, recovered, reason = "notAcked" } = entry;
    if (this.wanted.since === "acked" && epoch && !recovered) {
      this.#events.lost({ reason, from: undefined, to: { epoch, seq } });
    }
    this.recovery.subscribed(entry);
    this.#settle();
  }

  interrupt(): void {
    this.recovery.interrupt();
    this.#become(SUBSCRIBING);
  }

  refuse(error: BelfryError): void {
    this.end(error);
    this.#become({ state: "refused", error });
  }

  /** The application no longer wants it, or does not get it. */
  end(error: BelfryError): void {
    this.interrupt();
    this.#settle(error);
  }

  #become(status: ChannelStatus): void {
    const isNew = status !== this.status;
    this.status = status;
    this.#events.status(status, isNew);
  }

  #settle(error?: BelfryError): void {
    for (const { resolve, reject } of this.#waiters.splice(0)) error ? reject(error) : resolve();
  }
}
