import type { Message } from "@belfry/client";
import { useSyncExternalStore } from "react";
import { journal } from "./journal.ts";

const KEPT = 40;
/** Catching up is over when no missed message has come for this long. */
const SETTLED_MS = 600;

/** When messages arrive: how long the live ones took, and how many of those that were missed came later. */
class Arrivals {
  #latencies: readonly number[] = [];
  #liveSince = 0;
  #wasInterrupted = false;
  #late = 0;
  #last: number | undefined;
  #timer: number | undefined;
  readonly #listeners = new Set<() => void>();

  readonly latencies = (): readonly number[] => this.#latencies;

  /** The connection is lost: what comes next has waited for another one. */
  interrupted(): void {
    this.#wasInterrupted = true;
    this.#liveSince = Number.POSITIVE_INFINITY;
  }

  /** From now on, messages are live. */
  connected(): void {
    this.#liveSince = Date.now();
  }

  add({ timestamp, data }: Message): void {
    if (this.#wasInterrupted && timestamp !== undefined && Date.parse(timestamp) < this.#liveSince) {
      this.#missed();
      return;
    }
    // The demo's server and the page have the same clock.
    const { sentAt } = data as { sentAt?: number };
    if (sentAt === undefined || sentAt < this.#liveSince || sentAt === this.#last) return;
    // Messages of one batch count once.
    this.#last = sentAt;
    this.#latencies = [...this.#latencies, Math.max(0, Date.now() - sentAt)].slice(-KEPT);
    for (const listener of this.#listeners) listener();
  }

  #missed(): void {
    this.#late += 1;
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => {
      journal.add(`Caught up: ${this.#late} missed message${this.#late === 1 ? "" : "s"} came, in order`, "good");
      this.#late = 0;
    }, SETTLED_MS);
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}

export const arrivals = new Arrivals();

export function useLatencies(): readonly number[] {
  return useSyncExternalStore(arrivals.subscribe, arrivals.latencies);
}
