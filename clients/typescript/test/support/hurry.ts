import { defaultEnvironment, type Environment } from "../../src/environment.js";

interface Timer {
  readonly ms: number;
  readonly run: () => void;
  real: unknown;
}

/** How much faster than real waits are: all of them, and the clock, too; or each as its milliseconds say. */
export type Speed = number | ((ms: number) => number);

/** How long the client waits for others: a busy machine needs all of it. */
export const PATIENCE_MS = [10_000, 30_000, 35_000];

const hurried = (ms: number) => (PATIENCE_MS.includes(ms) ? 1 : 4);

/**
 * An environment in which the client's own waits take a quarter of their time, unless it waits for others, and whose
 * wake-ups a test can cause.
 */
export class HurriedEnvironment implements Environment {
  readonly WebSocket = undefined;
  /** Whether the device says that it has a network. */
  online = true;
  readonly #real: Environment = defaultEnvironment();
  readonly #timers = new Set<Timer>();
  readonly #wakes = new Set<() => void>();
  readonly #speed: Speed;
  readonly #random: () => number;

  constructor(speed: Speed = hurried, random: () => number = Math.random) {
    this.#speed = speed;
    this.#random = random;
  }

  get pendingTimers(): number {
    return this.#timers.size;
  }

  get pendingWakes(): number {
    return this.#wakes.size;
  }

  now(): number {
    return this.#real.now() * (typeof this.#speed === "number" ? this.#speed : 1);
  }

  setTimeout(callback: () => void, ms: number): unknown {
    const timer: Timer = { ms, run: () => this.#timers.delete(timer) && callback(), real: undefined };
    const speed = typeof this.#speed === "number" ? this.#speed : this.#speed(ms);
    timer.real = this.#real.setTimeout(timer.run, ms / speed);
    this.#timers.add(timer);
    return timer;
  }

  clearTimeout(timer: unknown): void {
    if (this.#timers.delete(timer as Timer)) this.#real.clearTimeout((timer as Timer).real);
  }

  random(): number {
    return this.#random();
  }

  randomId(): string {
    return this.#real.randomId();
  }

  isOnline(): boolean {
    return this.online;
  }

  onWake(callback: () => void): () => void {
    this.#wakes.add(callback);
    return () => this.#wakes.delete(callback);
  }

  /** Lets the timers for these waits run at once. */
  skip(waits: (ms: number) => boolean): void {
    for (const timer of [...this.#timers]) {
      if (!waits(timer.ms)) continue;
      this.#real.clearTimeout(timer.real);
      timer.run();
    }
  }

  /** The page becomes visible, or the network is back. */
  wake(): void {
    for (const wake of [...this.#wakes]) wake();
  }
}
