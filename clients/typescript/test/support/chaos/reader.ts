import { once } from "node:events";
import WebSocket from "ws";
import type { Position } from "../../../src/index.js";
import type { Stack } from "../stack.js";

/** What a channel's history has at the end. */
export interface Kept {
  newest: Position;
  /** The ids of its messages, by their number. */
  ids: Map<number, string>;
}

interface Page {
  epoch: string;
  seq: number;
  recovered?: boolean;
  messages?: Array<{ id: string; position: Position }>;
  more?: boolean;
}

/** Reads histories over a plain WebSocket, without any part of the client. */
export class Reader {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<string, (data: unknown) => void>();
  #ids = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (text) => {
      const { type, data, correlationId } = JSON.parse(String(text));
      if (type === "error") throw new Error(`the reader was refused: ${text}`);
      this.#waiting.get(correlationId)?.(data);
    });
  }

  static async connect(stack: Stack): Promise<Reader> {
    const socket = new WebSocket(stack.websocket, ["belfry.v1", `bearer.${await stack.token("reader")}`]);
    const reader = new Reader(socket);
    await once(socket, "open");
    return reader;
  }

  close(): void {
    this.#socket.close();
  }

  /** Everything that a history still has. */
  async read(channel: string): Promise<Kept> {
    const { channels } = (await this.#request("subscribe", { channels: [{ channel }] })) as { channels: [Page] };
    const { epoch, seq: top } = channels[0];
    const ids = new Map<number, string>();
    // The oldest message that is kept is somewhere between these two.
    let [gone, kept] = [-1, top];
    while (kept - gone > 1) {
      const middle = Math.floor((gone + kept) / 2);
      if ((await this.#page(channel, { epoch, seq: middle })).recovered) kept = middle;
      else gone = middle;
    }
    for (let seq = kept; seq < top; ) {
      const { messages = [], recovered } = await this.#page(channel, { epoch, seq });
      if (!recovered || messages.length === 0) throw new Error(`the history of ${channel} ends at ${seq}, not ${top}`);
      for (const { id, position } of messages) ids.set(position.seq, id);
      seq = messages.at(-1)?.position.seq ?? top;
    }
    return { newest: { epoch, seq: top }, ids };
  }

  async #page(channel: string, after: Position): Promise<Page> {
    return (await this.#request("history", { channel, after })) as Page;
  }

  #request(type: string, data: object): Promise<unknown> {
    const id = String(++this.#ids);
    this.#socket.send(JSON.stringify({ type, version: "1.0", id, data }));
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }
}
