import { Listeners } from "./listeners.js";

/** A value that components read with `useSyncExternalStore`. */
export class Store<T> {
  /** What a server renders, and what hydration begins with. */
  readonly initial: T;
  readonly #changed = new Listeners<T>();
  #value: T;

  constructor(initial: T) {
    this.initial = initial;
    this.#value = initial;
  }

  readonly get = (): T => this.#value;

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    this.#changed.tell(value);
  }

  readonly subscribe: Listeners<T>["add"] = this.#changed.add;
}
