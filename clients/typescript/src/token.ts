import type { Environment } from "./environment.js";
import { BelfryError } from "./errors.js";

/** The longest that the application may take to get a token. */
const TOKEN_MS = 30_000;

/**
 * Why the client needs a token. After `refused`, a cached one does not help: get a new one from the issuer.
 * `expiring` is asked before the end of the present one, for the same reason.
 */
export type TokenReason = "connect" | "expiring" | "refused";

/** Gets a token of the user who is signed in. Fails, or returns nothing, if nobody is. */
export type TokenSource = (request: { readonly reason: TokenReason }) => TokenResult | Promise<TokenResult>;
type TokenResult = string | null | undefined;

/** Asks the application for a token. Rejects with `TOKEN_UNAVAILABLE`. */
export async function getToken(environment: Environment, source: TokenSource, reason: TokenReason): Promise<string> {
  let timer: unknown;
  const tooLate = new Promise<never>((_, reject) => {
    timer = environment.setTimeout(() => reject(unavailable("`token` took too long")), TOKEN_MS);
  });
  try {
    const token = await Promise.race([tooLate, (async () => source({ reason }))()]);
    if (!token) throw unavailable("`token` returned none");
    return token;
  } catch (error) {
    throw error instanceof BelfryError ? error : unavailable("`token` failed", error);
  } finally {
    environment.clearTimeout(timer);
  }
}

function unavailable(message: string, cause?: unknown): BelfryError {
  return new BelfryError("TOKEN_UNAVAILABLE", message, { cause });
}
