import WebSocket from "ws";

const PAUSE_MS = 1_000;
const PATIENCE_MS = 20_000;

/** Connects, says hello and leaves, again and again. */
export class Newcomer {
  #url;
  #options;
  /** How many attempts ended how. */
  outcomes;
  #running;
  #isWanted;

  constructor(url, token) {
    this.#url = url;
    this.#options = withToken(token);
  }

  begin() {
    this.outcomes = {};
    this.#isWanted = true;
    this.#running = this.#run();
  }

  /** Ends it. Returns the outcomes of all attempts, and of one more. */
  async end() {
    this.#isWanted = false;
    await this.#running;
    return { ...this.outcomes, last: await this.#attempt() };
  }

  async #run() {
    while (this.#isWanted) {
      const outcome = await this.#attempt();
      this.outcomes[outcome] = (this.outcomes[outcome] ?? 0) + 1;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  async #attempt() {
    const socket = new WebSocket(this.#url, this.#options);
    let patience;
    try {
      return await new Promise((resolve) => {
        patience = setTimeout(() => resolve("no answer"), PATIENCE_MS);
        socket.on("open", () => socket.send('{"type":"hello","version":"1.0"}'));
        socket.on("message", (text) => resolve(kindOf(JSON.parse(text))));
        socket.on("error", ({ message }) => resolve(message));
        socket.on("close", (code) => resolve(`closed with ${code}`));
      });
    } finally {
      clearTimeout(patience);
      socket.close();
    }
  }
}

/** The options of a socket with this token. MiniStack selects no subprotocol, so it goes into a header. */
export function withToken(token) {
  return { perMessageDeflate: false, headers: { Authorization: `Bearer ${token}` } };
}

/** The kind of an answer. One without a type is not Belfry's: MiniStack passes on what Lambda says. */
export function kindOf({ type, __type, errorType, message }) {
  return type ?? __type ?? errorType ?? message;
}
