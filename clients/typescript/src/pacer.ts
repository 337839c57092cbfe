import type { Environment } from "./environment.js";

/**
 * Sends frames no faster than the server accepts them: the same token bucket as the server's, so that a burst waits
 * here and is not refused there.
 */
export class Pacer {
  readonly #environment: Environment;
  readonly #waiting: Array<() => void> = [];
  #intervalMs = 0;
  #burst = 1;
  /** When the bucket will be full again. */
  #fullAt = 0;
  #pausedUntil = 0;
  #timer: unknown;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** Sets the rate limit. Before that, nothing waits. */
  limit(messagesPerMinute: number): void {
    this.#intervalMs = 60_000 / Math.max(messagesPerMinute, 1);
    // One less than the server's: its clock and the network's delays differ.
    this.#burst = Math.max(Math.floor(messagesPerMinute / 10), 5) - 1;
  }

  /** Sends when it is this frame's turn. */
  schedule(send: () => void): void {
    this.#waiting.push(send);
    this.#run();
  }

  /** Counts a frame that cannot wait. */
  count(): void {
    this.#fullAt = Math.max(this.#fullAt, this.#environment.now()) + this.#intervalMs;
  }

  /** The server has refused a frame: sends nothing for so long. */
  pause(ms: number): void {
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#environment.now() + ms);
  }

  stop(): void {
    this.#waiting.length = 0;
    this.#environment.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #run(): void {
    if (this.#timer !== undefined) return;
    while (this.#waiting.length > 0) {
      const latest = this.#fullAt - (this.#burst - 1) * this.#intervalMs;
      const wait = Math.max(latest, this.#pausedUntil) - this.#environment.now();
      if (wait > 0) {
        this.#timer = this.#environment.setTimeout(() => {
          this.#timer = undefined;
          this.#run();
        }, wait);
        return;
      }
      this.count();
      this.#waiting.shift()?.();
    }
  }
}
