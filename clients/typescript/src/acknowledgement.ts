import type { Environment } from "./environment.js";
import type { BelfryError } from "./errors.js";
import type { Position } from "./generated/frames.js";

/** The shortest time between two frames. */
const INTERVAL_MS = 1_000;

/** Tells the server how far the user has read in one channel. */
export interface Acknowledgement {
  reach(position: Position): void;
  stop(): void;
}

/** Sends the newest position that was reached, and repeats it until the server has it. */
export function acknowledgement(
  environment: Environment,
  send: (position: Position) => Promise<unknown>,
  refused: (error: BelfryError) => void,
): Acknowledgement {
  let reached: Position | undefined;
  let isDue = false;
  let timer: unknown;
  const run = (): void => {
    if (!reached || !isDue || timer) return;
    isDue = false;
    timer = environment.setTimeout(() => {
      timer = undefined;
      run();
    }, INTERVAL_MS);
    send(reached).catch((error: BelfryError) => {
      if (error.advice === "giveUp") refused(error);
      else due();
    });
  };
  const due = (): void => {
    isDue = true;
    run();
  };
  return {
    reach({ epoch, seq }) {
      if (reached?.epoch === epoch && reached.seq >= seq) return;
      reached = { epoch, seq };
      due();
    },
    stop() {
      reached = undefined;
      environment.clearTimeout(timer);
      timer = undefined;
    },
  };
}
