import { randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";

const ATTEMPTS = 8;

/** Publishes as a REST handler does. */
export class Broadcaster {
  #stack;
  #signal;

  constructor(stack, signal) {
    this.#stack = stack;
    this.#signal = signal;
  }

  /** Several notifications go in one request: all of them are published, or none. */
  toChannel(channel, ...notifications) {
    return this.#send({ type: "channel", channel }, notifications);
  }

  toAll(data) {
    return this.#send({ type: "all" }, [data]);
  }

  /**
   * Repeats a request with the same id until it is answered, so the message arrives once, even if the function died after
   * its work.
   */
  async #send(target, notifications) {
    const messages = notifications.map((data) => ({ type: "notification", data }));
    const request = { messageId: randomUUID(), target, messages };
    for (let attempt = 1; !this.#signal.aborted; attempt += 1) {
      try {
        await this.#stack.invoke("Broadcaster", request);
        return;
      } catch (error) {
        if (this.#signal.aborted) return;
        if (attempt === ATTEMPTS) {
          console.error(`demo: gave up ${notifications.map(({ kind }) => kind).join(", ")}: ${error.message}`);
          return;
        }
        await pause(100 * attempt, this.#signal);
      }
    }
  }
}

/** Waits, but no longer than the demo runs. */
export async function pause(ms, signal) {
  await setTimeout(ms, undefined, { signal }).catch(() => {});
}
