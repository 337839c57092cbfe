import type { LockOptions } from "@belfry/client";
import { useCallback, useMemo } from "react";
import { useSession } from "./context.js";
import { FREE, type LockState } from "./shared-lock.js";
import { useLatest } from "./use-latest.js";
import { useJoined, useRequest, useShared } from "./use-shared-channel.js";

const LOCKS = { locks: true };

/** A lock, and the functions that acquire and release it. */
export interface UseLock extends LockState {
  /** Asks for the lock. Resolves with whether this page has it; if not, `error` says why. */
  lock(this: void): Promise<boolean>;
  /** Releases the lock. */
  unlock(this: void): Promise<void>;
}

/**
 * A lock in a channel. It renews itself, and is released when the last component that uses it is gone.
 *
 * ```tsx
 * const { state, holder, lock, unlock } = useLock("quote:q-1", "price");
 * ```
 */
export function useLock(name: string | null, lockName: string, options: LockOptions = {}): UseLock {
  const { channels } = useSession();
  const latest = useLatest(options);
  useRequest(name, LOCKS);
  useJoined(
    name,
    useCallback((channel) => channel.locks.join(lockName)[1], [lockName]),
  );
  const state = useShared(
    name,
    useCallback((channel) => channel.locks.get(lockName)?.state, [lockName]),
    FREE,
  );
  const actions = useMemo(
    () => ({
      lock: async () => {
        if (name === null) return false;
        // The focus may come before the component's effects have joined.
        const [channel, leave] = channels.join(name);
        const [lock, leaveLock] = channel.locks.join(lockName);
        try {
          return await lock.acquire(latest.current);
        } finally {
          leaveLock();
          leave();
        }
      },
      unlock: async () => (name === null ? undefined : channels.get(name)?.locks.get(lockName)?.release()),
    }),
    [channels, name, lockName, latest],
  );
  return { ...state, ...actions };
}
