import { BelfryError } from "./errors.js";

/** The most values that wait for their reader. */
const MAX_BUFFERED = 1_000;

/** The values of an event, for `for await`. */
export class Stream<T> {
  readonly values: AsyncGenerator<T, void>;
  readonly #buffer: T[] = [];
  readonly #onEnd: () => void;
  #end: { error?: unknown } | undefined;
  #wake = (): void => {};

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
    this.values = this.#read();
    // A generator's own `return` would wait for the next value.
    this.values.return = () => {
      this.#buffer.length = 0;
      this.#end = {};
      this.end();
      return this.values.next();
    };
  }

  push(value: T): void {
    if (this.#end) return;
    if (this.#buffer.length < MAX_BUFFERED) this.#buffer.push(value);
    else this.end(new BelfryError("SLOW_CONSUMER", `${MAX_BUFFERED} messages were not read in time`));
    this.#wake();
  }

  /** Ends the stream, with an error if there is one. The reader still gets the buffered values. */
  end(error?: unknown): void {
    this.#end ??= { error };
    this.#onEnd();
    this.#wake();
  }

  async *#read(): AsyncGenerator<T, void> {
    for (;;) {
      while (this.#buffer.length > 0) yield this.#buffer.shift() as T;
      if (this.#end?.error) throw this.#end.error;
      if (this.#end) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
