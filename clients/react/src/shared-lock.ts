import type { BelfryError, HeldLock, Lock, LockOptions } from "@belfry/client";
import { errorOf } from "./errors.js";
import type { SharedChannel } from "./shared-channel.js";
import { Store } from "./store.js";

/** Who has a lock. */
export interface LockState {
  /** `held` by this page, `taken` by somebody else, or `asking` the server for it. */
  readonly state: "free" | "asking" | "held" | "taken";
  /** Who else has it, if it is taken. */
  readonly holder?: HeldLock["holder"] | undefined;
  /** Until when, unless the holder renews it. */
  readonly until?: string | undefined;
  /** The holder's number. Send it along with what you write. */
  readonly fencing?: number | undefined;
  /** Why this page did not get the lock, or lost it. */
  readonly error?: BelfryError | undefined;
}

export const FREE: LockState = { state: "free" };

/** A lock that several components share. */
export class SharedLock {
  readonly state: Store<LockState> = new Store<LockState>(FREE);
  readonly #name: string;
  readonly #shared: SharedChannel;
  #lock: Lock | undefined;
  #asking: Promise<boolean> | undefined;
  /** `false`: release the lock as soon as it is there. */
  #isWanted = false;
  #error: BelfryError | undefined;

  constructor(name: string, shared: SharedChannel) {
    this.#name = name;
    this.#shared = shared;
    this.update();
  }

  /** Asks for the lock. Resolves with whether this page has it now. */
  async acquire(options: LockOptions): Promise<boolean> {
    this.#isWanted = true;
    if (this.#lock?.isHeld) return true;
    this.#asking ??= this.#ask(options);
    this.update();
    return this.#asking;
  }

  async release(): Promise<void> {
    this.#isWanted = false;
    const lock = this.#lock;
    this.#lock = undefined;
    this.update();
    await lock?.release();
  }

  /** Nobody wants it any more, or its channel is gone. */
  end(): void {
    this.#error = undefined;
    void this.release();
  }

  /** Something has changed. */
  update(): void {
    const next = this.#next();
    if (JSON.stringify(next) !== JSON.stringify(this.state.get())) this.state.set(next);
  }

  #next(): LockState {
    if (this.#lock?.isHeld) return { ...FREE, state: "held", fencing: this.#lock.fencing };
    if (this.#asking) return { ...FREE, state: "asking" };
    const taken = this.#shared.channel?.locks.find(({ name }) => name === this.#name);
    const { holder, until, fencing } = taken ?? FREE;
    return { state: taken ? "taken" : "free", holder, until, fencing, error: this.#error };
  }

  async #ask(options: LockOptions): Promise<boolean> {
    this.#error = undefined;
    try {
      const channel = await this.#shared.opened();
      // It may be wanted again while it is being released.
      while (this.#isWanted && !this.#lock) {
        const lock = await channel.lock(this.#name, options);
        if (this.#isWanted) this.#keep(lock);
        else await lock.release();
      }
    } catch (error) {
      if (this.#isWanted) this.#error = errorOf(error);
    } finally {
      this.#asking = undefined;
      this.update();
    }
    return this.#lock !== undefined;
  }

  #keep(lock: Lock): void {
    this.#lock = lock;
    lock.on("regained", () => this.update());
    lock.on("lost", (error) => {
      if (this.#lock !== lock) return;
      this.#lock = undefined;
      this.#error = error;
      this.update();
    });
  }
}
