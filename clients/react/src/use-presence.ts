import type { BelfryError, PresenceInfo } from "@belfry/client";
import { NOBODY, type PresenceState, type SharedChannel, SUBSCRIBING } from "./shared-channel.js";
import { useRequest, useShared } from "./use-shared-channel.js";

/** Who is present in a channel, as far as the server says. */
export interface UsePresence extends PresenceState {
  /** Why the server refuses. */
  readonly error: BelfryError | undefined;
}

const presence = (channel: SharedChannel) => channel.presence;
const state = (channel: SharedChannel) => channel.state;

/**
 * Makes the user present in a channel while the component is there, and tells who else is. Only those who are present see
 * each other. If several components give information, the others see all of it together.
 *
 * ```tsx
 * const { members, count } = usePresence("room:7", { name: "Alice" });
 * ```
 */
export function usePresence(name: string | null, info: PresenceInfo = {}): UsePresence {
  useRequest(name, { presence: info });
  const present = useShared(name, presence, NOBODY);
  const { error } = useShared(name, state, SUBSCRIBING);
  return { ...present, error };
}
