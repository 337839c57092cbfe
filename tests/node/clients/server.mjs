const RETRY_MS = 500;

/** The stack as an application's server uses it. */
export class Server {
  /** What is under way. */
  pending = new Set();
  #ledger;

  constructor({ websocket, api }, ledger) {
    this.websocket = websocket;
    this.api = api;
    this.#ledger = ledger;
  }

  /** An access token of a user. */
  async token(user, ttl) {
    const { accessToken } = await this.#post(`${this.api}/_local/tokens`, { user, ttl });
    return accessToken;
  }

  /** Publishes to a log with the broadcaster, again and again until it is there. */
  announce({ log, id }) {
    this.#ledger.published();
    const name = `announce ${id}`;
    this.pending.add(name);
    const message = { type: "notification", data: { kind: "soak.announcement" } };
    const request = { target: target(log), message, messageId: id };
    const announcing = async () => {
      for (;;) {
        try {
          const { position } = await this.#post(`${this.api}/2015-03-31/functions/Broadcaster/invocations`, request);
          if (position) {
            this.#ledger.acknowledged(id, log, position);
            return;
          }
        } catch {
          // The fault of the moment: it is repeated, as a server does.
        }
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    };
    announcing().then(() => this.pending.delete(name));
  }

  async #post(url, body) {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(60_000),
    });
    if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
    return response.json();
  }
}

function target(log) {
  if (log === "@all") return { type: "all" };
  if (log.startsWith("@me:")) return { type: "user", userId: log.slice("@me:".length) };
  return { type: "channel", channel: log };
}
