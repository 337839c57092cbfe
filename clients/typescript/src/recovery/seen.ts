import type { KeptFrame } from "../generated/frames.js";

/** How many messages are remembered. */
const REMEMBERED = 1_000;

/** Recognizes a message without a position that arrives twice. Two senders may use the same id. */
export class Seen {
  readonly #ids = new Set<string>();

  /** Whether this message was here before. Remembers it if not. */
  has({ channel, from, id }: KeptFrame): boolean {
    if (id === undefined) return false;
    const key = JSON.stringify([channel, from?.userId, id]);
    if (this.#ids.has(key)) return true;
    this.#ids.add(key);
    // A set keeps the order in which its values came.
    if (this.#ids.size > REMEMBERED) this.#ids.delete(this.#ids.values().next().value as string);
    return false;
  }
}
