import { defaultEnvironment, type Environment } from "../../src/environment.js";

interface Timer {
  readonly ms: number;
  readonly run: () => void;
  real: unknown;
}

/** An environment in which the client's own waits take a quarter of their time, and whose wake-ups a test can cause. */
export class HurriedEnvironment implements Environment {
  readonly WebSocket = undefined;
  readonly #real: Environment = defaultEnvironment();
  readonly #timers = new Set<Timer>();
  readonly #wakes = new Set<() => void>();
  readonly #speed: number;

  constructor(speed = 4) {
    this.#speed = speed;
  }

  now(): number {
    return this.#real.now() * this.#speed;
  }

  setTimeout(callback: () => void, ms: number): unknown {
    const timer: Timer = { ms, run: () => this.#timers.delete(timer) && callback(), real: undefined };
    timer.real = this.#real.setTimeout(timer.run, ms / this.#speed);
    this.#timers.add(timer);
    return timer;
  }

  clearTimeout(timer: unknown): void {
    if (this.#timers.delete(timer as Timer)) this.#real.clearTimeout((timer as Timer).real);
  }

  random(): number {
    return this.#real.random();
  }

  randomId(): string {
    return this.#real.randomId();
  }

  isOnline(): boolean {
    return true;
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
