import type { BelfryError } from "./errors.js";

/** The state of the connection to the server. */
export type Status =
  /** The first connection is being opened. `error`: why the last attempt failed. */
  | { readonly state: "connecting"; readonly error?: BelfryError | undefined; readonly retryInMs?: number }
  | { readonly state: "connected"; readonly connectionId: string; readonly userId: string }
  /** The connection was lost. The next attempt begins in `retryInMs`, or runs already. */
  | { readonly state: "reconnecting"; readonly error?: BelfryError | undefined; readonly retryInMs?: number }
  /** There is no token or no network. The client tries again for ever. */
  | { readonly state: "offline"; readonly error?: BelfryError | undefined; readonly retryInMs?: number }
  /** The application closed the client, the user was signed out, or nothing could help. `connect` tries again. */
  | { readonly state: "closed"; readonly error?: BelfryError | undefined };
