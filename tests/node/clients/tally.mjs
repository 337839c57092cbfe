import WebSocket from "ws";
import { kindOf, withToken } from "./newcomer.mjs";

/** What clients notice at their sockets, and how long they wait. */
export class Tally {
  #sent = new Set();
  noticed;

  constructor() {
    this.begin();
  }

  /** Counts from now on. */
  begin() {
    this.noticed = { closed: {}, refused: {}, published: 0, repeated: 0, longestMs: 0 };
  }

  published(ms) {
    this.noticed.published += 1;
    this.noticed.longestMs = Math.max(this.noticed.longestMs, Math.round(ms));
  }

  /** A WebSocket for a client. */
  socket() {
    const tally = this;
    return class extends WebSocket {
      constructor(url, protocols) {
        super(url, withToken(protocols.find((name) => name.startsWith("bearer.")).slice("bearer.".length)));
        this.on("message", (text) => tally.#received(JSON.parse(text)));
        this.on("close", (code) => tally.#count("closed", code));
      }

      send(text) {
        tally.#sending(JSON.parse(text));
        super.send(text);
      }
    };
  }

  #sending({ type, data }) {
    if (type !== "publish") return;
    if (this.#sent.has(data.messageId)) this.noticed.repeated += 1;
    this.#sent.add(data.messageId);
  }

  #received(frame) {
    if (frame.type === "error") this.#count("refused", frame.data.code);
    else if (!frame.type) this.#count("refused", kindOf(frame));
  }

  #count(what, key) {
    this.noticed[what][key] = (this.noticed[what][key] ?? 0) + 1;
  }
}
