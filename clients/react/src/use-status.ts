import type { Status } from "@belfry/client";
import { useSession } from "./context.js";
import { useStore } from "./use-store.js";

/** The state of the connection. `connecting` on a server. */
export function useStatus(): Status {
  return useStore(useSession().status);
}
