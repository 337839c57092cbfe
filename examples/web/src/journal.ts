import { useSyncExternalStore } from "react";

/** A line of the log that the page shows. */
export interface Entry {
  readonly id: number;
  readonly at: Date;
  readonly text: string;
  readonly tone: Tone;
}

export type Tone = "good" | "bad" | "plain";

const KEPT = 60;

/** What has happened to the connection, newest first. */
class Journal {
  #entries: readonly Entry[] = [];
  #count = 0;
  readonly #listeners = new Set<() => void>();

  readonly entries = (): readonly Entry[] => this.#entries;

  add(text: string, tone: Tone = "plain"): void {
    this.#count += 1;
    this.#entries = [{ id: this.#count, at: new Date(), text, tone }, ...this.#entries].slice(0, KEPT);
    for (const listener of this.#listeners) listener();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}

export const journal = new Journal();

export function useJournal(): readonly Entry[] {
  return useSyncExternalStore(journal.subscribe, journal.entries);
}
