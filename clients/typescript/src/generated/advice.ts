// Generated from schemas/ by `npm run generate`. Do not edit.
import type { ErrorCode } from "./frames.js";

/** What to do after a failure. */
export type Advice = "giveUp" | "retryLater" | "refreshToken" | "signIn" | "retryNow";

/** What to do after an error frame. After one that is not here: `giveUp`. */
export const errorAdvice: Readonly<Partial<Record<ErrorCode, Advice>>> = {
  RATE_LIMITED: "retryLater",
  TOKEN_EXPIRED: "refreshToken",
  UNAUTHORIZED: "refreshToken",
  SIGNED_OUT: "signIn",
  UNKNOWN_CONNECTION: "retryNow",
  RECONNECT: "retryLater",
  CHANNEL_BUSY: "retryLater",
  CALL_FAILED: "retryLater",
  LOCKED: "retryLater",
  INTERNAL: "retryLater",
};

/** The errors after which the server may close the connection. */
export const closingErrors: ReadonlySet<string> = new Set<ErrorCode>([
  "RATE_LIMITED",
  "TOKEN_EXPIRED",
  "UNAUTHORIZED",
  "SIGNED_OUT",
  "UNKNOWN_CONNECTION",
  "RECONNECT",
  "CLOSED_BY_OPERATOR",
]);

/** What to do after a connection was closed with this code and without an error frame before. After any other: `retryLater`. */
export const closeAdvice: Readonly<Record<number, Advice>> = {
  1001: "retryNow",
  1002: "giveUp",
  1003: "giveUp",
  1007: "giveUp",
  1009: "giveUp",
};

/** What to do after API Gateway's own error frame, which has no `type`. */
export const gatewayAdvice: Advice = "retryLater";
