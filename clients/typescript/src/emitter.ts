/** Listeners by the name of their event. */
export class Emitter {
  readonly #listeners = new Map<string, Set<(value: never) => void>>();

  /** Adds a listener. Returns a function that removes it. */
  on(event: string, listener: (value: never) => void): () => void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners);
    // A function that is added twice is also removed twice.
    const own = (value: never) => listener(value);
    listeners.add(own);
    return () => listeners.delete(own);
  }

  emit(event: string, value: unknown): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(value as never);
      } catch (error) {
        // A listener's fault must not disturb the connection, but be as visible as any other uncaught error.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  get isUsed(): boolean {
    return [...this.#listeners.values()].some(({ size }) => size);
  }

  clear(): void {
    this.#listeners.clear();
  }
}
