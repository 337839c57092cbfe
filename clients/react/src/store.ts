/** A value that components read with `useSyncExternalStore`. */
export class Store<T> {
  /** What the server renders, and hydration begins with. */
  readonly initial: T;
  #value: T;
  readonly #listeners = new Set<() => void>();

  constructor(initial: T) {
    this.initial = initial;
    this.#value = initial;
  }

  readonly get = (): T => this.#value;

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}
