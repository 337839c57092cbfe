import type { Environment } from "./environment.js";

const LONGEST_MS = 30_000;

/** How long to wait after so many failures in a row, in milliseconds. Chance spreads clients that failed together. */
export function backoff(failures: number, environment: Pick<Environment, "random">): number {
  return Math.min(500 * 2 ** failures, LONGEST_MS) * (0.5 + environment.random() / 2);
}
