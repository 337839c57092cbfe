import type { ChannelOptions } from "@belfry/client";
import { useCallback, useEffect, useSyncExternalStore } from "react";
import { useSession } from "./context.js";
import type { SharedChannel } from "./shared-channel.js";
import type { Store } from "./store.js";

/** Joins a channel as long as the component is there. `enter` returns a function that undoes it. */
export function useJoined(name: string | null, enter: (channel: SharedChannel) => () => void): void {
  const { channels } = useSession();
  useEffect(() => {
    if (name === null) return undefined;
    const [channel, leave] = channels.join(name);
    const undo = enter(channel);
    return () => {
      undo();
      leave();
    };
  }, [channels, name, enter]);
}

/** Asks something of a channel as long as the component is there. */
export function useRequest(name: string | null, options: ChannelOptions, limit = 0): void {
  // As text, so that an object that is written anew in each render makes no difference.
  const text = JSON.stringify(options);
  useJoined(
    name,
    useCallback((channel) => channel.request({ ...JSON.parse(text), limit }), [text, limit]),
  );
}

/** A value of a channel that the component has joined with {@link useJoined} before. `select` must not change. */
export function useShared<T>(
  name: string | null,
  select: (channel: SharedChannel) => Store<T> | undefined,
  initial: T,
): T {
  const { channels } = useSession();
  const find = useCallback(() => {
    const channel = name === null ? undefined : channels.get(name);
    return channel && select(channel);
  }, [channels, name, select]);
  return useSyncExternalStore(
    useCallback((listener) => find()?.add(listener) ?? (() => {}), [find]),
    () => find()?.get() ?? initial,
    () => initial,
  );
}
