/** A set of listeners. */
export class Listeners<T> {
  readonly #listeners = new Set<(value: T) => void>();

  /** Adds a listener. Returns a function that removes it. */
  readonly add = (listener: (value: T) => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly tell = (value: T): void => {
    for (const listener of [...this.#listeners]) {
      try {
        listener(value);
      } catch (error) {
        // One listener's fault must not keep the value from the others, but be as visible as any uncaught error.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  };
}
