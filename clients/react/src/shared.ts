/** Values that components share by name. The first one to join makes the value, the last one to leave ends it. */
export class Shared<T> {
  readonly #entries = new Map<string, { readonly value: T; members: number }>();
  readonly #make: (name: string) => T;
  readonly #end: (value: T) => void;

  constructor(make: (name: string) => T, end: (value: T) => void) {
    this.#make = make;
    this.#end = end;
  }

  get all(): readonly T[] {
    return [...this.#entries.values()].map(({ value }) => value);
  }

  /** The value, if somebody has joined. */
  get(name: string): T | undefined {
    return this.#entries.get(name)?.value;
  }

  /** Returns the value, and a function to leave. */
  join(name: string): [value: T, leave: () => void] {
    const entry = this.#entries.get(name) ?? { value: this.#make(name), members: 0 };
    this.#entries.set(name, entry);
    entry.members += 1;
    const leave = () => {
      entry.members -= 1;
      // StrictMode and components that take over join again at once: the server should not hear of that.
      queueMicrotask(() => {
        if (entry.members > 0 || this.#entries.get(name) !== entry) return;
        this.#entries.delete(name);
        this.#end(entry.value);
      });
    };
    return [entry.value, leave];
  }
}
