import { BelfryError } from "./errors.js";

/** The most values that wait for their reader. */
const MAX_BUFFERED = 1_000;

/** The values of an event, for `for await`. */
export class Stream<T> implements AsyncIterableIterator<T> {
  readonly #buffer: T[] = [];
  readonly #readers: Array<{ resolve(result: IteratorResult<T>): void; reject(error: unknown): void }> = [];
  readonly #onEnd: () => void;
  #end: { error?: unknown } | undefined;

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  push(value: T): void {
    if (this.#end) return;
    const reader = this.#readers.shift();
    if (reader) reader.resolve({ value, done: false });
    else if (this.#buffer.length < MAX_BUFFERED) this.#buffer.push(value);
    else this.end(new BelfryError("SLOW_CONSUMER", `${MAX_BUFFERED} messages were not read in time`));
  }

  /** Ends the stream, with an error if there is one. The reader still gets the buffered values. */
  end(error?: unknown): void {
    if (this.#end) return;
    this.#end = error === undefined ? {} : { error };
    this.#onEnd();
    const [first, ...others] = this.#readers.splice(0);
    if (error !== undefined) first?.reject(error);
    else first?.resolve({ value: undefined, done: true });
    for (const { resolve } of others) resolve({ value: undefined, done: true });
  }

  next(): Promise<IteratorResult<T>> {
    const value = this.#buffer.shift();
    if (value !== undefined) return Promise.resolve({ value, done: false });
    if (!this.#end) return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }));
    const { error } = this.#end;
    this.#end = {};
    return error === undefined ? Promise.resolve({ value: undefined, done: true }) : Promise.reject(error);
  }

  return(): Promise<IteratorResult<T>> {
    this.#buffer.length = 0;
    this.end();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
