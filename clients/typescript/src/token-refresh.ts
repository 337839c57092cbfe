import { backoff } from "./backoff.js";
import { type Connection, remaining } from "./connection.js";
import type { Environment } from "./environment.js";
import type { ServerFrames } from "./generated/frames.js";
import { getToken, type TokenReason, type TokenSource } from "./token.js";

/** How long before its end a token is replaced. */
const AHEAD_MS = 60_000;

/** Extends the session of one connection. */
export interface TokenRefresh {
  /** The server has said when the token expires. */
  schedule(frame: ServerFrames["welcome"] | ServerFrames["auth.refreshed"]): void;
  stop(): void;
}

/** Extends a session with a new token before the old one expires, for as long as the connection lasts. */
export function tokenRefresh(environment: Environment, source: TokenSource, connection: Connection): TokenRefresh {
  let timer: unknown;
  let isStopped = false;
  let endsAt = 0;
  const after = (ms: number, reason: TokenReason, failures: number): void => {
    if (!isStopped) timer = environment.setTimeout(() => void refresh(reason, failures), ms);
  };
  const schedule: TokenRefresh["schedule"] = (frame) => {
    const left = remaining(frame, frame.data.tokenExpiresAt);
    endsAt = environment.now() + left;
    // A token that is short-lived anyway is replaced after half of its life.
    after(left - Math.min(AHEAD_MS, left / 2), "expiring", 0);
  };
  const refresh = async (reason: TokenReason, failures: number): Promise<void> => {
    const before = endsAt;
    try {
      const token = await getToken(environment, source, reason);
      if (isStopped) return;
      const frame = await connection.request("auth.refresh", { token });
      // The same token as before extends nothing.
      if (environment.now() + remaining(frame, frame.data.tokenExpiresAt) > before + 1_000) {
        schedule(frame);
        return;
      }
    } catch {
      // The server ends the session if no attempt succeeds, and then the client connects with a new token.
    }
    after(backoff(failures + 1, environment), "refused", failures + 1);
  };
  return {
    schedule,
    stop() {
      isStopped = true;
      environment.clearTimeout(timer);
    },
  };
}
