// A client of one room. Socket.IO's own client sends what recovery needs.
import { io } from "socket.io-client";

export class SocketIoClient {
  #socket;
  #counts;
  #joined = () => {};
  #attempts = 0;

  constructor(ticket, channel, seen, counts) {
    this.#counts = counts;
    this.#socket = io(ticket.url, {
      auth: { channel },
      autoConnect: false,
      forceNew: true,
      // Clients come back when the benchmark says so.
      reconnection: false,
      transports: ["websocket"],
    });
    this.#socket.on("message", ({ number }) => seen(number));
    this.#socket.on("connect", () => {
      this.#attempts = 0;
      if (this.#socket.recovered) counts.recovered += 1;
      this.#joined();
    });
    this.#socket.on("connect_error", () => this.#later());
  }

  /** Connects, and resolves when the server has accepted. */
  join() {
    return new Promise((resolve) => {
      this.#joined = resolve;
      this.#socket.connect();
    });
  }

  /** Loses the network: the socket ends without a close. */
  cut() {
    this.#socket.io.engine.transport.ws.terminate();
  }

  /** There is nothing to ask. */
  sync() {}

  /** The same waits as Belfry's client. */
  #later() {
    this.#counts.retries += 1;
    const wait = Math.min(1_000 * 2 ** this.#attempts, 60_000) * (0.5 + Math.random() / 2);
    this.#attempts += 1;
    setTimeout(() => this.#socket.connect(), wait);
  }
}
