import { BelfryError } from "@belfry/client";

/** The error as one of the client. It throws others for a wrong name, and if it lacks a part. */
export function errorOf(error: unknown): BelfryError {
  return error instanceof BelfryError ? error : new BelfryError("INVALID_MESSAGE", (error as Error).message);
}
