import type { LockOptions } from "@belfry/client";
import { useCallback, useMemo, useSyncExternalStore } from "react";
import { useSession } from "./context.js";
import { FREE, type LockState } from "./shared-lock.js";
import { useLatest } from "./use-latest.js";

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
  const session = useSession();
  const latest = useLatest(options);
  const subscribe = useCallback(
    (listener: () => void) => {
      if (name === null) return () => {};
      const { channel, leave } = session.join(name);
      const joined = channel.joinLock(lockName);
      const stop = joined.lock.state.subscribe(listener);
      return () => {
        stop();
        joined.leave();
        leave();
      };
    },
    [session, name, lockName],
  );
  const find = useCallback(
    () => (name === null ? undefined : session.peek(name)?.peekLock(lockName)),
    [session, name, lockName],
  );
  const state = useSyncExternalStore(
    subscribe,
    () => find()?.state.get() ?? FREE,
    () => FREE,
  );
  return useMemo(
    () => ({
      ...state,
      lock: async () => (await find()?.acquire(latest.current)) ?? false,
      unlock: async () => find()?.release(),
    }),
    [state, find, latest],
  );
}
