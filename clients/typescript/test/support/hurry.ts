import { defaultEnvironment, type Environment } from "../../src/environment.js";

/** An environment in which the client's own waits take a quarter of their time, and whose wake-ups a test can cause. */
export class HurriedEnvironment implements Environment {
  readonly WebSocket = undefined;
  readonly #real: Environment = defaultEnvironment();
  readonly #wakes = new Set<() => void>();
  readonly #speed: number;

  constructor(speed = 4) {
    this.#speed = speed;
  }

  now(): number {
    return this.#real.now() * this.#speed;
  }

  setTimeout(callback: () => void, ms: number): unknown {
    return this.#real.setTimeout(callback, ms / this.#speed);
  }

  clearTimeout(timer: unknown): void {
    this.#real.clearTimeout(timer);
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

  /** The page becomes visible, or the network is back. */
  wake(): void {
    for (const wake of [...this.#wakes]) wake();
  }
}
