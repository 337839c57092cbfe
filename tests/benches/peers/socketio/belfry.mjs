// A client of one channel that recovers, as docs/PROTOCOL.md advises.
import WebSocket from "ws";

/** How long a message that skips numbers waits for the missing ones. */
const HOLD_MS = 2_000;

/** How long an answer may take before the client asks again. */
const ANSWER_MS = 35_000;

export class BelfryClient {
  #ticket;
  #channel;
  #seen;
  #counts;
  #socket;
  #joined = () => {};
  #position = null;
  #held = new Map();
  #holding = null;
  #asking = null;
  #attempts = 0;
  #away = true;

  /** `seen` is called for each message, in order. `counts` counts what happened. */
  constructor(ticket, channel, seen, counts) {
    this.#ticket = ticket;
    this.#channel = channel;
    this.#seen = seen;
    this.#counts = counts;
  }

  /** Connects, and resolves when the server has answered `subscribe`. */
  join() {
    this.#away = false;
    return new Promise((resolve) => {
      this.#joined = resolve;
      this.#open();
    });
  }

  /** Loses the network: the socket ends without a close. */
  cut() {
    this.#away = true;
    this.#socket.terminate();
  }

  /** Finds a last message that was lost. */
  sync() {
    this.#ask("sync", { channels: [{ channel: this.#channel, since: this.#position }] });
  }

  #open() {
    const socket = new WebSocket(this.#ticket.url, {
      headers: { authorization: this.#ticket.authorization },
      perMessageDeflate: false,
    });
    this.#socket = socket;
    socket.on("open", () => this.#hello());
    socket.on("message", (text) => this.#receive(JSON.parse(text)));
    // `close` follows.
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#answered();
      clearTimeout(this.#holding);
      this.#holding = null;
      if (!this.#away) this.#later(() => this.#open());
    });
  }

  #hello() {
    const since = this.#position ?? undefined;
    this.#ask("hello", { accepts: ["batch"], subscribe: { channels: [{ channel: this.#channel, since }] } });
  }

  #history() {
    this.#ask("history", { channel: this.#channel, after: this.#position });
  }

  #ask(type, data) {
    this.#answered();
    this.#socket.send(JSON.stringify({ type, version: "1.0", id: type, data }));
    this.#asking = { again: () => this.#ask(type, data) };
    this.#asking.timer = setTimeout(this.#asking.again, ANSWER_MS);
  }

  #answered() {
    clearTimeout(this.#asking?.timer);
    this.#asking = null;
  }

  /** The advice `retryLater`. */
  #later(act) {
    this.#counts.retries += 1;
    const wait = Math.min(1_000 * 2 ** this.#attempts, 60_000) * (0.5 + Math.random() / 2);
    this.#attempts += 1;
    setTimeout(() => {
      if (!this.#away) act();
    }, wait);
  }

  #receive(frame) {
    switch (frame.type) {
      case "message":
      case "notification":
        return this.#message(frame);
      case "batch":
        return frame.data.messages.forEach((message) => this.#receive(message));
      case "welcome":
        return this.#entry(frame.data.subscribed.channels[0]);
      case "history":
        return this.#entry(frame.data);
      case "synced":
        this.#answered();
        if (frame.data.channels[0].missed) this.#history();
        return;
      case "pong":
        return;
      case "ping":
        return this.#socket.send('{"type":"pong","version":"1.0"}');
      default: {
        // An error frame of Belfry's or of API Gateway's.
        const again = this.#asking?.again;
        this.#answered();
        if (again) this.#later(again);
      }
    }
  }

  /** An answer to `subscribe` or `history`. */
  #entry(entry) {
    const again = this.#asking?.again;
    this.#answered();
    if (entry.error) return this.#later(again);
    this.#attempts = 0;
    this.#joined();
    if (this.#position === null) {
      this.#position = { epoch: entry.epoch, seq: entry.seq };
      return this.#drain();
    }
    if (entry.recovered) {
      this.#counts.recovered += 1;
      for (const message of entry.messages) this.#message(message);
      if (entry.more) this.#history();
      return;
    }
    this.#counts[entry.reason] = (this.#counts[entry.reason] ?? 0) + 1;
    // Too many for one answer; pages have them all.
    if (entry.reason === "tooFar") return this.#history();
    this.#position = { epoch: entry.epoch, seq: entry.seq };
    this.#drain();
  }

  #message(frame) {
    const { epoch, seq } = frame.position;
    // The first message of a history begins another epoch.
    if (this.#position?.seq === 0) this.#position.epoch = epoch;
    if (this.#position && seq <= this.#position.seq) {
      this.#counts.dropped += 1;
      return;
    }
    this.#held.set(seq, frame);
    this.#drain();
  }

  #drain() {
    if (this.#position === null) return;
    for (let next; (next = this.#held.get(this.#position.seq + 1)); ) {
      this.#position.seq += 1;
      this.#held.delete(this.#position.seq);
      this.#seen(next.data.number);
    }
    for (const seq of this.#held.keys()) if (seq <= this.#position.seq) this.#held.delete(seq);
    if (this.#held.size === 0) {
      clearTimeout(this.#holding);
      this.#holding = null;
    } else {
      this.#holding ??= setTimeout(() => this.#overdue(this.#position.seq), HOLD_MS);
    }
  }

  #overdue(seq) {
    this.#holding = null;
    if (this.#held.size === 0) return;
    // While an answer is under way, or others arrive, the wait begins again.
    if (this.#asking === null && this.#position.seq === seq) {
      this.#counts.gaps += 1;
      this.#history();
    }
    this.#drain();
  }
}
