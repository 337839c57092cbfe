import { backoff } from "./backoff.js";
import type { Connection } from "./connection.js";
import type { Environment } from "./environment.js";
import { BelfryError } from "./errors.js";
import type { Publish, Published } from "./generated/frames.js";

interface Entry {
  readonly data: Publish;
  readonly timer: unknown;
  failures: number;
  resolve(published: Published): void;
  reject(error: BelfryError): void;
}

interface Lane {
  readonly entries: Entry[];
  isBusy: boolean;
  retry?: unknown;
}

/**
 * The messages that wait to be published. Those of one channel go one after another, so that they keep their order; each
 * is sent again until the server has answered, with the same id, so that none is published twice.
 */
export class PublishQueue {
  readonly #environment: Environment;
  readonly #maxQueued: number;
  readonly #connection: () => Connection | undefined;
  readonly #lanes = new Map<string, Lane>();
  #size = 0;

  constructor(environment: Environment, maxQueued: number, connection: () => Connection | undefined) {
    this.#environment = environment;
    this.#maxQueued = maxQueued;
    this.#connection = connection;
  }

  publish(data: Publish, timeoutMs: number): Promise<Published> {
    return new Promise((resolve, reject) => {
      if (this.#size >= this.#maxQueued) {
        reject(new BelfryError("QUEUE_FULL", `${this.#maxQueued} messages are waiting to be published`));
        return;
      }
      const lane = this.#lanes.get(data.channel) ?? { entries: [], isBusy: false };
      this.#lanes.set(data.channel, lane);
      const late = () => this.#take(entry)?.reject(new BelfryError("TIMEOUT", "not published in time"));
      const entry = { data, failures: 0, resolve, reject, timer: this.#environment.setTimeout(late, timeoutMs) };
      lane.entries.push(entry);
      this.#size += 1;
      void this.#run(lane);
    });
  }

  /** A connection is ready. */
  flush(): void {
    for (const lane of this.#lanes.values()) void this.#run(lane);
  }

  /** Rejects everything that waits. */
  clear(error: BelfryError): void {
    for (const entry of [...this.#lanes.values()].flatMap(({ entries }) => entries)) this.#take(entry)?.reject(error);
  }

  async #run(lane: Lane): Promise<void> {
    if (lane.isBusy) return;
    lane.isBusy = true;
    for (;;) {
      const [entry] = lane.entries;
      const connection = this.#connection();
      if (!entry || !connection) break;
      try {
        const { data } = await connection.request("publish", entry.data);
        this.#take(entry)?.resolve(data);
      } catch (error) {
        const { advice, code } = error as BelfryError;
        if (code === "DISCONNECTED") continue;
        if (advice === "retryLater") {
          this.#runLater(lane, ++entry.failures);
          return;
        }
        this.#take(entry)?.reject(error as BelfryError);
      }
    }
    lane.isBusy = false;
  }

  #runLater(lane: Lane, failures: number): void {
    if (lane.entries.length === 0) return;
    const again = () => {
      lane.isBusy = false;
      void this.#run(lane);
    };
    lane.retry = this.#environment.setTimeout(again, backoff(failures, this.#environment));
  }

  /** Takes an entry out. `undefined` if it was settled before. */
  #take(entry: Entry): Entry | undefined {
    const { channel } = entry.data;
    const lane = this.#lanes.get(channel);
    if (!lane?.entries.includes(entry)) return undefined;
    lane.entries.splice(lane.entries.indexOf(entry), 1);
    if (lane.entries.length === 0) {
      this.#lanes.delete(channel);
      this.#environment.clearTimeout(lane.retry);
    }
    this.#size -= 1;
    this.#environment.clearTimeout(entry.timer);
    return entry;
  }
}
