import type { BelfryError } from "./errors.js";
import type { ChannelState, HeldLock, Timestamp } from "./generated/frames.js";
import { ChannelLock } from "./lock.js";
import { LockList } from "./lock-list.js";
import type { ChannelLocks, Lock, LockOptions, LocksHost, LocksPart } from "./lock-part.js";

export type { Lock, LockEvents, LockOptions } from "./lock-part.js";

class Locks implements ChannelLocks {
  readonly #host: LocksHost;
  readonly #own = new Map<string, ChannelLock>();
  readonly #others: LockList;

  constructor(host: LocksHost) {
    this.#host = host;
    this.#others = new LockList(host.environment, host.changed);
  }

  get held(): readonly HeldLock[] {
    return this.#others.held;
  }

  get isUsed(): boolean {
    return [...this.#own.values()].some(({ isOver }) => !isOver);
  }

  async lock(name: string, { seconds = 30 }: LockOptions): Promise<Lock> {
    for (let before = this.#own.get(name); before; before = this.#own.get(name)) {
      if (!before.isOver) return before.acquired();
      await before.release();
    }
    const lock = new ChannelLock(this.#host, name, seconds, () => this.#own.delete(name));
    this.#own.set(name, lock);
    return lock.acquired();
  }

  subscribed({ channel, locks }: ChannelState, timestamp: Timestamp | undefined, keepsLocks: boolean): void {
    if (locks) {
      const held = locks.held.filter(({ name }) => !this.#own.has(name));
      this.#others.listed(channel, { ...locks, held }, timestamp);
    }
    if (keepsLocks) return;
    for (const lock of this.#own.values()) if (lock.isHeld) lock.renew();
  }

  told({ data, timestamp }: Parameters<ChannelLocks["told"]>[0]): void {
    // A connection that was replaced hears of its successor's.
    if (this.#own.get(data.name)?.fencing === data.fencing) return;
    this.#others.told(data, timestamp);
  }

  ended(error?: BelfryError): void {
    this.#others.clear();
    for (const lock of [...this.#own.values()]) {
      if (error) lock.lose(error);
      else void lock.release();
    }
  }
}

/**
 * Locks in channels, for the option `locks` of a client:
 *
 * ```ts
 * import { locks } from "@belfry/client/locks";
 *
 * const belfry = new Belfry({ url, token, locks });
 * const lock = await belfry.channel("room:7").lock("title");
 * ```
 */
export const locks: LocksPart = (host) => new Locks(host);
