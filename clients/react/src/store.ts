import { Listeners } from "./listeners.js";

/** A value that components read with `useSyncExternalStore`. */
export class Store<T> extends Listeners<T> {
  /** What a server renders, and what hydration begins with. */
  readonly initial: T;
  #value: T;

  constructor(initial: T) {
    super();
    this.initial = initial;
    this.#value = initial;
  }

  readonly get = (): T => this.#value;

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    this.tell(value);
  }
}
