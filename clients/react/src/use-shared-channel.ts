import type { ChannelOptions } from "@belfry/client";
import { useCallback, useEffect, useSyncExternalStore } from "react";
import { useSession } from "./context.js";
import type { SharedChannel } from "./shared-channel.js";
import type { Store } from "./store.js";

/** Joins a channel, and wants something of it, as long as the component is there. */
export function useWish(name: string | null, options: ChannelOptions, limit = 0): void {
  const session = useSession();
  // As text, so that an object that is written anew in each render makes no difference.
  const text = JSON.stringify(options);
  useEffect(() => {
    if (name === null) return undefined;
    const { channel, leave } = session.join(name);
    const takeBack = channel.wish({ ...(JSON.parse(text) as ChannelOptions), limit });
    return () => {
      takeBack();
      leave();
    };
  }, [session, name, text, limit]);
}

/** A value of a shared channel. `select` must not change. */
export function useShared<T>(name: string | null, select: (channel: SharedChannel) => Store<T>, initial: T): T {
  const session = useSession();
  const subscribe = useCallback(
    (listener: () => void) => {
      if (name === null) return () => {};
      const { channel, leave } = session.join(name);
      const stop = select(channel).subscribe(listener);
      return () => {
        stop();
        leave();
      };
    },
    [session, name, select],
  );
  const get = () => {
    const channel = name === null ? undefined : session.peek(name);
    return channel ? select(channel).get() : initial;
  };
  return useSyncExternalStore(subscribe, get, () => initial);
}
