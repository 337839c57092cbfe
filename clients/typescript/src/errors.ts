import { type Advice, errorAdvice } from "./generated/advice.js";
import type { ErrorCode, ErrorData, Holder, Timestamp } from "./generated/frames.js";

/** An error that the client itself finds. */
export type ClientErrorCode =
  /** The client or the channel was closed, or another user has connected. */
  | "CLOSED"
  /** The connection ended before the answer came. The client handles this one itself. */
  | "DISCONNECTED"
  /** `maxQueued` messages are waiting to be published. */
  | "QUEUE_FULL"
  /** A loop reads messages more slowly than they arrive. */
  | "SLOW_CONSUMER"
  /** No answer came in time. The server may have done it. */
  | "TIMEOUT"
  /** The `token` function failed. `cause` has its error. */
  | "TOKEN_UNAVAILABLE";

/** The others give up. */
const clientAdvice: Readonly<Partial<Record<ClientErrorCode, Advice>>> = {
  DISCONNECTED: "retryNow",
  QUEUE_FULL: "retryLater",
  TIMEOUT: "retryLater",
  TOKEN_UNAVAILABLE: "retryLater",
};

/** Every error that the client rejects with or reports. */
export class BelfryError extends Error {
  override readonly name = "BelfryError";
  /** What went wrong, for programs. */
  declare readonly code: ErrorCode | ClientErrorCode;
  /** What to do about it. */
  declare readonly advice: Advice;
  /** How long to wait before the same again, in milliseconds, if the server said so. */
  declare readonly retryAfterMs: number | undefined;
  /** With `LOCKED`: who holds the lock. */
  declare readonly holder: Holder | undefined;
  /** With `LOCKED`: until when, unless the holder renews it. */
  declare readonly until: Timestamp | undefined;

  constructor(
    code: ErrorCode | ClientErrorCode,
    message: string,
    options: {
      advice?: Advice;
      retryAfterMs?: number | undefined;
      holder?: Holder | undefined;
      until?: Timestamp | undefined;
      cause?: unknown;
    } = {},
  ) {
    super(message, options);
    this.code = code;
    // The server may be newer than the client and have more codes.
    this.advice = options.advice ?? { ...clientAdvice, ...errorAdvice }[code] ?? "giveUp";
    this.retryAfterMs = options.retryAfterMs;
    this.holder = options.holder;
    this.until = options.until;
  }
}

/** The error that a frame reports. */
export function errorOf(data: Omit<ErrorData, "timestamp">): BelfryError {
  return new BelfryError(data.code, data.message, data);
}
