import { backoff } from "./backoff.js";
import { Emitter } from "./emitter.js";
import { BelfryError } from "./errors.js";
import type { Locked } from "./generated/frames.js";
import type { Lock, LockEvents, LocksHost } from "./lock-part.js";

/** A lock that this client holds, or asks for. */
export class ChannelLock implements Lock {
  readonly name: string;
  readonly #host: LocksHost;
  readonly #seconds: number;
  readonly #events = new Emitter();
  readonly #gone: () => void;
  /** The requests go one after another: the server handles frames concurrently. */
  #turn: Promise<unknown>;
  #released: Promise<void> | undefined;
  #fencing = 0;
  /** As the server wrote it. */
  #until: string | undefined;
  #failures = 0;
  #renewal: unknown;
  #expiry: unknown;

  /** Asks for the lock. `gone` is called when it is over and the server knows. */
  constructor(host: LocksHost, name: string, seconds: number, gone: () => void) {
    this.#host = host;
    this.name = name;
    this.#seconds = seconds;
    this.#gone = gone;
    this.#turn = this.#acquire();
  }

  get fencing(): number {
    return this.#fencing;
  }

  get isHeld(): boolean {
    return this.#fencing > 0 && !this.#released;
  }

  on<E extends keyof LockEvents>(event: E, listener: (value: LockEvents[E]) => void): () => void {
    return this.#events.on(event, listener);
  }

  /** Resolves when the client holds the lock. Rejects if it does not get it. */
  async acquired(): Promise<this> {
    await this.#turn;
    return this;
  }

  /** Asks again: a lock belongs to a connection, and its time is short. */
  renew(): void {
    this.#turn = this.#turn.then(async () => {
      if (this.#released) return;
      try {
        await this.#ask();
      } catch (error) {
        this.#failed(error as BelfryError);
      }
    });
  }

  /** The server, or the time, has ended it. */
  lose(error: BelfryError): void {
    if (this.#released) return;
    const wasHeld = this.isHeld;
    void this.release();
    if (wasHeld) this.#events.emit("lost", error);
  }

  release(): Promise<void> {
    this.#released ??= this.#unlock();
    return this.#released;
  }

  /** Gets out of the way of a new lock. */
  get isOver(): boolean {
    return this.#released !== undefined;
  }

  async #acquire(): Promise<void> {
    for (;;) {
      try {
        await this.#ask();
        return;
      } catch (error) {
        if ((error as BelfryError).code === "DISCONNECTED" && !this.#released) continue;
        void this.release();
        throw error;
      }
    }
  }

  async #ask(): Promise<void> {
    const { channel, environment, subscribe, request } = this.#host;
    await subscribe();
    if (this.#released) throw new BelfryError("CLOSED", "the lock was released");
    // The clocks may differ, so the time counts from before the frame is sent.
    const asked = environment.now();
    const { data } = await request("lock", { channel, name: this.name, seconds: this.#seconds });
    if (!this.#released) this.#locked(data, asked);
  }

  #locked({ fencing, until }: Locked, asked: number): void {
    const { environment } = this.#host;
    const before = this.#fencing;
    this.#fencing = fencing;
    this.#until = until;
    this.#failures = 0;
    this.#clearTimers();
    const left = asked + this.#seconds * 1_000 - environment.now();
    this.#renewal = environment.setTimeout(() => this.renew(), left - this.#seconds * 500);
    this.#expiry = environment.setTimeout(
      () => this.lose(new BelfryError("TIMEOUT", "the lock was not renewed in time")),
      left,
    );
    if (before > 0 && before !== fencing) this.#events.emit("regained", fencing);
  }

  #failed(error: BelfryError): void {
    if (this.#released) return;
    // After a reconnect, the client's last connection may still hold the lock, until the server has noticed its end.
    const isOwn = error.code === "LOCKED" && error.until === this.#until;
    if (!isOwn && (error.code === "LOCKED" || error.advice === "giveUp")) {
      this.lose(error);
      return;
    }
    this.#failures += 1;
    const { environment } = this.#host;
    environment.clearTimeout(this.#renewal);
    this.#renewal = environment.setTimeout(() => this.renew(), backoff(this.#failures, environment));
  }

  async #unlock(): Promise<void> {
    this.#clearTimers();
    // Whatever fails, the lock ends with its connection or its seconds.
    await this.#turn.catch(() => {});
    const { channel, request } = this.#host;
    if (this.#fencing > 0) await request("unlock", { channel, name: this.name }).catch(() => {});
    this.#gone();
  }

  #clearTimers(): void {
    this.#host.environment.clearTimeout(this.#renewal);
    this.#host.environment.clearTimeout(this.#expiry);
  }
}
