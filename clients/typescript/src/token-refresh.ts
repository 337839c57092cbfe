import { backoff } from "./backoff.js";
import { type Connection, remaining } from "./connection.js";
import type { Environment } from "./environment.js";
import type { ServerFrames } from "./generated/frames.js";
import { getToken, type TokenReason, type TokenSource } from "./token.js";

/** How long before its end a token is replaced. */
const AHEAD_MS = 60_000;

/** Extends the session of one connection with a new token before the old one expires, for as long as it lasts. */
export class TokenRefresh {
  readonly #environment: Environment;
  readonly #source: TokenSource;
  readonly #connection: Connection;
  #timer: unknown;
  #isStopped = false;
  #endsAt = 0;

  constructor(environment: Environment, source: TokenSource, connection: Connection) {
    this.#environment = environment;
    this.#source = source;
    this.#connection = connection;
  }

  /** The server has said when the token expires. */
  schedule(frame: ServerFrames["welcome"] | ServerFrames["auth.refreshed"]): void {
    const left = remaining(frame, frame.data.tokenExpiresAt);
    this.#endsAt = this.#environment.now() + left;
    // A token that is short-lived anyway is replaced after half of its life.
    this.#after(left - Math.min(AHEAD_MS, left / 2), "expiring", 0);
  }

  stop(): void {
    this.#isStopped = true;
    this.#environment.clearTimeout(this.#timer);
  }

  #after(ms: number, reason: TokenReason, failures: number): void {
    if (this.#isStopped) return;
    this.#timer = this.#environment.setTimeout(() => void this.#refresh(reason, failures), ms);
  }

  async #refresh(reason: TokenReason, failures: number): Promise<void> {
    const before = this.#endsAt;
    try {
      const token = await getToken(this.#environment, this.#source, reason);
      if (this.#isStopped) return;
      const frame = await this.#connection.request("auth.refresh", { token });
      // The same token as before extends nothing.
      if (this.#environment.now() + remaining(frame, frame.data.tokenExpiresAt) > before + 1_000) {
        this.schedule(frame);
        return;
      }
    } catch {
      // The server ends the session if no attempt succeeds, and then the client connects with a new token.
    }
    this.#after(backoff(failures + 1, this.#environment), "refused", failures + 1);
  }
}
