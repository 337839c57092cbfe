import type { Environment } from "./environment.js";

const WAITS_S = [1, 2, 4, 8, 16, 30];

/** How long to wait after so many failures in a row, in milliseconds. Chance spreads clients that failed together. */
export function backoff(failures: number, environment: Pick<Environment, "random">): number {
  const wait = WAITS_S[Math.min(Math.max(failures, 1), WAITS_S.length) - 1] as number;
  return wait * 1000 * (0.5 + environment.random() / 2);
}
