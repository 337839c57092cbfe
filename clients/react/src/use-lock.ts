import type { LockOptions } from "@belfry/client";
import { useCallback, useMemo } from "react";
import { useSession } from "./context.js";
import { FREE, type LockState } from "./shared-lock.js";
import { useLatest } from "./use-latest.js";
import { useJoined, useShared, useWish } from "./use-shared-channel.js";

const LOCKS = { locks: true };

/** What {@link useLock} returns. */
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
  useWish(name, LOCKS);
  useJoined(
    name,
    useCallback((channel) => channel.locks.join(lockName)[1], [lockName]),
  );
  const state = useShared(
    name,
    useCallback((channel) => channel.locks.get(lockName)?.state, [lockName]),
    FREE,
  );
  const actions = useMemo(() => {
    const find = () => (name === null ? undefined : channels.get(name)?.locks.get(lockName));
    return {
      lock: async () => (await find()?.acquire(latest.current)) ?? false,
      unlock: async () => find()?.release(),
    };
  }, [channels, name, lockName, latest]);
  return { ...state, ...actions };
}
