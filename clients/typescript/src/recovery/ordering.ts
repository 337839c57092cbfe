import type { History, KeptFrame, NotRecovered, Position } from "../generated/frames.js";

/** Messages that are gone. Fetch the state again. */
export interface Lost {
  /**
   * `noHistory`: the channel keeps none, so nobody knows whether there were messages. `notAcked`: with `since`, if the
   * user has acknowledged nothing, or too long ago.
   */
  readonly reason: NotRecovered | "noHistory" | "notAcked";
  /** The last message that was delivered before. */
  readonly from: Position | undefined;
  /** Messages after this position will be delivered. */
  readonly to: Position | undefined;
}

/** An answer to `subscribe` or `history`. Without `epoch`, the channel has no history. */
export type Page = Partial<Pick<History, "epoch" | "seq" | "recovered" | "reason" | "messages">>;

/** The most messages that wait for a missing one. The history has the others. */
const MAX_HELD = 500;

/**
 * Brings live and replayed messages of one channel into the order of their numbers, each once.
 * Reports the messages that it cannot deliver as lost.
 */
export class Ordering {
  readonly #deliver: (frame: KeptFrame) => void;
  readonly #lost: (lost: Lost) => void;
  readonly #held = new Map<string, KeptFrame>();
  #position: Position | undefined;
  #isJoined = false;

  constructor(deliver: (frame: KeptFrame) => void, lost: (lost: Lost) => void) {
    this.#deliver = deliver;
    this.#lost = lost;
  }

  /** The position of the last message that was delivered or reported as lost. */
  get position(): Position | undefined {
    return this.#position;
  }

  /** Whether a message waits for another one that is missing. */
  get hasGap(): boolean {
    return this.#held.size > 0;
  }

  /** Whether the server has said where the subscription begins. */
  get isJoined(): boolean {
    return this.#isJoined;
  }

  /** Takes a message that was posted to the client. */
  receive(frame: KeptFrame): void {
    const { position } = frame;
    if (!position) {
      this.#deliver(frame);
      return;
    }
    if (this.#isJoined && !this.#position) {
      // The channel has got a history since the client subscribed.
      this.#advance(frame, position);
      return;
    }
    this.#take(frame, position);
    this.#drain();
  }

  /**
   * Takes an answer of the server. Returns whether the history has more.
   */
  answer(page: Page): boolean {
    const { epoch, seq = 0 } = page;
    this.#isJoined = true;
    if (epoch === undefined) {
      this.#position = undefined;
      this.#held.clear();
      return false;
    }
    const newest = { epoch, seq };
    // The server began with the position that the user has acknowledged.
    const first = page.recovered ? page.messages?.[0]?.position : undefined;
    if (first) this.#position ??= { epoch, seq: first.seq - 1 };
    const from = this.#position;
    if (!from) {
      // What has come before the answer was posted to this subscription.
      const before = [...this.#held.values()].map(({ position }) =>
        position?.epoch === epoch ? position.seq - 1 : seq,
      );
      this.#position = { epoch, seq: Math.min(seq, ...before) };
    } else if (page.recovered === false && !isAtLeast(from, newest)) {
      this.#position = newest;
      this.#lost({ reason: page.reason ?? "expired", from, to: newest });
    } else {
      for (const frame of page.messages ?? []) {
        if (!frame.position) continue;
        this.#take(frame, frame.position);
        this.#drain();
      }
    }
    for (const [name, { position }] of this.#held) {
      if (!position) continue;
      // Stragglers of an epoch that is neither the client's nor the server's will never be next. An empty history has none.
      const isKnown = position.epoch === epoch || position.epoch === this.#position?.epoch;
      const isStraggler = !isKnown && (seq > 0 || position.epoch === from?.epoch);
      if (isStraggler || isAtLeast(this.#position, position)) this.#held.delete(name);
    }
    this.#drain();
    return !isAtLeast(this.#position, newest);
  }

  /** Forgets everything: the next subscription begins anew. */
  reset(): void {
    this.#position = undefined;
    this.#isJoined = false;
    this.#held.clear();
  }

  #take(frame: KeptFrame, position: Position): void {
    if (isAtLeast(this.#position, position)) return;
    if (this.#held.size < MAX_HELD || isNext(this.#position, position)) this.#held.set(key(position), frame);
  }

  #drain(): void {
    for (let frame = this.#next(); frame?.position; frame = this.#next()) {
      this.#held.delete(key(frame.position));
      this.#advance(frame, frame.position);
    }
  }

  #next(): KeptFrame | undefined {
    return [...this.#held.values()].find((frame) => isNext(this.#position, frame.position));
  }

  #advance(frame: KeptFrame, position: Position): void {
    this.#position = position;
    this.#deliver(frame);
  }
}

function key({ epoch, seq }: Position): string {
  return `${seq} ${epoch}`;
}

/** An empty history has no epoch yet. The server makes one up for each answer, and its first message brings another. */
function isNext(position: Position | undefined, other: Position | undefined): boolean {
  if (!position || !other || other.seq !== position.seq + 1) return false;
  return position.seq === 0 || other.epoch === position.epoch;
}

function isAtLeast(position: Position | undefined, other: Position): boolean {
  if (!position) return false;
  return position.epoch === other.epoch ? position.seq >= other.seq : position.seq === 0 && other.seq === 0;
}
