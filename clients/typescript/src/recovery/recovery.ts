import { backoff } from "../backoff.js";
import type { Environment } from "../environment.js";
import type { BelfryError } from "../errors.js";
import type { KeptFrame, Position } from "../generated/frames.js";
import { type Lost, Ordering, type Page } from "./ordering.js";

/** How long a message waits for a missing one before the client asks the server for it. */
const HOLD_BACK_MS = 2_000;

export interface RecoveryEvents {
  deliver(frame: KeptFrame): void;
  lost(lost: Lost): void;
  /** Asks the server for the messages after a position. */
  history(after: Position): Promise<Page>;
  /** The server refuses to answer. */
  refused(error: BelfryError): void;
}

/** Fills the gaps of one channel: knows when to ask the history, and how far the client has got. */
export class Recovery {
  readonly #environment: Environment;
  readonly #events: RecoveryEvents;
  readonly #ordering: Ordering;
  #timer: unknown;
  /** An answer is on its way that may fill the gap. At first, the one to `subscribe`. */
  #isAsking = true;
  #failures = 0;
  /** The position that the newest `subscribe` named. */
  asked: Position | undefined;
  /** There was a time without a subscription since the last answer. */
  #isInterrupted = false;

  constructor(environment: Environment, events: RecoveryEvents) {
    this.#environment = environment;
    this.#events = events;
    this.#ordering = new Ordering(events.deliver, events.lost);
  }

  get position(): Position | undefined {
    return this.#ordering.position;
  }

  /** A message was posted to the client. */
  receive(frame: KeptFrame): void {
    this.#ordering.receive(frame);
    this.#watch();
  }

  /** The server has answered a `subscribe`, or a `hello` that asked for the channel. */
  subscribed(page: Page): void {
    if (page.epoch === undefined && this.#isInterrupted && this.#ordering.isJoined) {
      this.#events.lost({ reason: "noHistory", from: this.#ordering.position, to: undefined });
    }
    this.#isInterrupted = false;
    this.#answered(page, this.asked);
  }

  /** The subscription has ended, or the connection with it. The next `subscribe` will ask for what was missed. */
  interrupt(): void {
    this.#isAsking = true;
    this.#isInterrupted = true;
    this.#stopTimer();
  }

  /** Forgets the position: the next subscription begins anew. */
  reset(): void {
    this.interrupt();
    this.#ordering.reset();
  }

  /** The server has answered a request that named a position. */
  #answered(page: Page, asked: Position | undefined): void {
    this.#isAsking = false;
    this.#stopTimer();
    const before = this.position;
    // Messages have come since, so what the history does not have may be among them.
    const isStale = page.recovered === false && before && before !== asked;
    const isBehind = isStale || this.#ordering.answer(page);
    if (isBehind && (isStale || page.recovered === undefined || before !== this.position)) void this.ask();
    else this.#watch(isBehind);
  }

  /** Asks the history in a while, if a gap does not fill by itself. */
  #watch(isBehind = false): void {
    if (!this.#ordering.hasGap && !isBehind) {
      this.#stopTimer();
    } else if (!this.#isAsking && this.#timer === undefined) {
      const wait = this.#failures > 0 ? backoff(this.#failures, this.#environment) : HOLD_BACK_MS;
      this.#timer = this.#environment.setTimeout(() => void this.ask(), wait);
    }
  }

  /** Asks the server for what comes after the client's position. */
  async ask(): Promise<void> {
    this.#stopTimer();
    const { position } = this;
    if (this.#isAsking || !position) return;
    this.#isAsking = true;
    let page: Page;
    try {
      page = await this.#events.history(position);
    } catch (error) {
      this.#failed(error as BelfryError);
      return;
    }
    this.#failures = 0;
    this.#answered(page, position);
  }

  #failed(error: BelfryError): void {
    // When a connection ends, its subscriptions are interrupted.
    if (error.code === "DISCONNECTED" || !this.#isAsking || this.#isInterrupted) return;
    this.#isAsking = false;
    if (error.advice === "giveUp") {
      this.#events.refused(error);
      return;
    }
    this.#failures += 1;
    this.#watch(true);
  }

  #stopTimer(): void {
    this.#environment.clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
