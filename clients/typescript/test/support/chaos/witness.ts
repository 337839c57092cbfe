import type { Channel, Lost, Position } from "../../../src/index.js";
import type { Ledger } from "./ledger.js";

/** A client was told that messages are gone. */
export interface ToldLoss {
  lost: Lost;
  at: number;
  /** The messages up to this number could be gone at that time. */
  expiredUpTo: number;
}

/** What a client was told of a channel. */
export type Told = { id: string; position: Position } | ToldLoss;

/** Writes down what a channel delivers, in both of its ways. */
export class Witness {
  readonly name: string;
  /** Where the subscription began. */
  begin: Position | undefined;
  readonly told: Told[] = [];
  /** The ids that a `for await` loop got. Settles when the channel is closed. */
  readonly looped: Promise<string[]>;
  readonly #channel: Channel;
  #waiting: { id: string; resolve: () => void } | undefined;

  constructor(channel: Channel, ledger: Ledger) {
    this.#channel = channel;
    this.name = channel.name;
    channel.on("message", ({ id, position }) => {
      if (id === undefined || !position) throw new Error("a message has no id or no position");
      // The first message may come with the answer that says where the subscription begins.
      this.begin ??= { epoch: position.epoch, seq: position.seq - 1 };
      this.told.push({ id, position });
      if (this.#waiting?.id === id) this.#waiting.resolve();
    });
    channel.on("lost", (lost) => {
      this.told.push({ lost, at: performance.now(), expiredUpTo: ledger.expiredUpTo(this.name) });
    });
    this.looped = (async () => {
      const ids: string[] = [];
      for await (const { id } of channel) ids.push(String(id));
      return ids;
    })();
  }

  /** The ids of the messages, as they came. */
  get ids(): string[] {
    return this.told.flatMap((one) => ("id" in one ? [one.id] : []));
  }

  async subscribe(): Promise<void> {
    await this.#channel.subscribe();
    this.begin ??= this.#channel.position;
  }

  /** Waits for a message. */
  until(id: string): Promise<void> {
    if (this.ids.includes(id)) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting = { id, resolve };
    });
  }
}
