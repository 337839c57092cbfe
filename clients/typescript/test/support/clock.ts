import type { Environment, WebSocketConstructor } from "../../src/environment.js";

interface Timer {
  readonly at: number;
  readonly callback: () => void;
}

/** An environment whose time passes only when a test says so. */
export class ManualEnvironment implements Environment {
  WebSocket: WebSocketConstructor | undefined;
  online = true;
  /** The next results of `random`. Zero makes each backoff the shortest. */
  chance = 0;
  readonly #timers = new Set<Timer>();
  readonly #wakes = new Set<() => void>();
  #now = 0;
  #ids = 0;

  now(): number {
    return this.#now;
  }

  setTimeout(callback: () => void, ms: number): unknown {
    const timer = { at: this.#now + Math.max(ms, 0), callback };
    this.#timers.add(timer);
    return timer;
  }

  clearTimeout(timer: unknown): void {
    this.#timers.delete(timer as Timer);
  }

  random(): number {
    return this.chance;
  }

  randomId(): string {
    this.#ids += 1;
    return `id-${this.#ids}`;
  }

  isOnline(): boolean {
    return this.online;
  }

  onWake(callback: () => void): () => void {
    this.#wakes.add(callback);
    return () => this.#wakes.delete(callback);
  }

  /** The page becomes visible, or the network is back. */
  async wake(): Promise<void> {
    for (const wake of [...this.#wakes]) wake();
    await settle();
  }

  get pendingTimers(): number {
    return this.#timers.size;
  }

  get pendingWakes(): number {
    return this.#wakes.size;
  }

  /** When the next timer fires, in milliseconds from now. */
  get nextTimerIn(): number | undefined {
    const next = this.#next();
    return next && next.at - this.#now;
  }

  /** Lets time pass. */
  async advance(ms: number): Promise<void> {
    await settle();
    const end = this.#now + ms;
    for (;;) {
      const next = this.#next();
      if (!next || next.at > end) break;
      this.#now = Math.max(this.#now, next.at);
      this.#timers.delete(next);
      next.callback();
      await settle();
    }
    this.#now = end;
  }

  /** Lets a device sleep: time passes, but timers do not run. */
  sleep(ms: number): void {
    this.#now += ms;
  }

  #next(): Timer | undefined {
    return [...this.#timers].reduce<Timer | undefined>(
      (first, timer) => (first && first.at <= timer.at ? first : timer),
      undefined,
    );
  }
}

/** Lets everything run that waits only for promises. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
