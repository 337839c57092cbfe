import type { Environment } from "./environment.js";
import { between } from "./frame.js";
import type { HeldLock, HeldLocks, LockChanged, Timestamp } from "./generated/frames.js";

/** How long after its end a lock cannot be taken by another connection. */
const TAKEOVER_MS = 5_000;
/** How many locks are remembered after their release: a frame from before may arrive later. */
const REMEMBERED = 1_000;

interface Known {
  change: LockChanged;
  /** The lock was released, so that a frame with the same number is older. */
  isFinal: boolean;
  timer?: unknown;
}

/** Merges what the server tells of the locks of others, in whatever order it comes. */
export class LockList {
  readonly #environment: Environment;
  readonly #changed: (change: LockChanged) => void;
  readonly #known = new Map<string, Known>();

  constructor(environment: Environment, changed: (change: LockChanged) => void) {
    this.#environment = environment;
    this.#changed = changed;
  }

  get held(): HeldLock[] {
    return [...this.#known.values()].flatMap(({ change: { name, holder, until, fencing } }) =>
      holder && until ? [{ name, holder, until, fencing }] : [],
    );
  }

  told(change: LockChanged, timestamp: Timestamp | undefined): void {
    const known = this.#known.get(change.name);
    if (known && isOlder(change, known)) return;
    this.#set(change, !change.holder, timestamp);
  }

  /** The server has said which locks are held. */
  listed(channel: string, { held, more }: HeldLocks, timestamp: Timestamp | undefined): void {
    const names = new Set(held.map(({ name }) => name));
    for (const one of held) this.told({ channel, ...one }, timestamp);
    if (more) return;
    for (const { change } of [...this.#known.values()])
      if (change.holder && !names.has(change.name)) this.#free(change);
  }

  clear(): void {
    for (const { timer } of this.#known.values()) this.#environment.clearTimeout(timer);
    this.#known.clear();
  }

  /** Nobody has said that the lock was released, so a late frame may renew it. */
  #free({ channel, name, fencing }: LockChanged): void {
    this.#set({ channel, name, fencing }, false, undefined);
  }

  #set(change: LockChanged, isFinal: boolean, timestamp: Timestamp | undefined): void {
    const { name, until } = change;
    const before = this.#known.get(name);
    this.#environment.clearTimeout(before?.timer);
    const known: Known = { change, isFinal };
    if (until !== undefined) {
      const wait = between(timestamp, until) + TAKEOVER_MS;
      known.timer = this.#environment.setTimeout(() => this.#free(change), wait);
    }
    this.#known.delete(name);
    this.#known.set(name, known);
    for (const [other, { change }] of this.#known) {
      if (this.#known.size <= REMEMBERED) break;
      if (!change.holder) this.#known.delete(other);
    }
    if (change.holder || before?.change.holder || !before) this.#changed(change);
  }
}

function isOlder(change: LockChanged, known: Known): boolean {
  if (change.fencing !== known.change.fencing) return change.fencing < known.change.fencing;
  if (known.isFinal) return true;
  const { until } = known.change;
  return change.until !== undefined && until !== undefined && Date.parse(change.until) <= Date.parse(until);
}
