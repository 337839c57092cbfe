import {
  BelfryError,
  type ChannelOptions,
  type Kind,
  type Lost,
  type Message,
  type PublishArguments,
  type Published,
} from "@belfry/client";
import { useCallback, useMemo, useState } from "react";
import { useSession } from "./context.js";
import { type ChannelState, NO_MESSAGES, newest, type SharedChannel, SUBSCRIBING } from "./shared-channel.js";
import { useLatest } from "./use-latest.js";
import { useJoined, useRequest, useShared } from "./use-shared-channel.js";

/** How to use a channel. */
export interface UseChannelOptions extends ChannelOptions {
  /** The most messages to keep: 100 by default. With 0, the component does not re-render for each message. */
  limit?: number;
  /** Is called with each message. It may be another function in each render. */
  onMessage?: (message: Message) => void;
  /** Is called when messages are lost: fetch the state again. It may be another function in each render. */
  onLost?: (lost: Lost) => void;
}

/** A channel, its messages, and its last loss. */
export interface UseChannel extends ChannelState {
  /** The messages since the first component has joined, oldest first. */
  readonly messages: readonly Message[];
  /** The last loss of messages since {@link UseChannel.clearLost}. `null` if there was none. */
  readonly lost: Lost | null;
  /** Publishes a message. Waits for a connection if there is none. Rejects with a `BelfryError`. */
  publish<K extends Kind>(this: void, kind: K, ...rest: PublishArguments<K>): Promise<Published>;
  /** Forgets the loss, after the state was fetched again. */
  clearLost(this: void): void;
}

const state = (channel: SharedChannel) => channel.state;
const messages = (channel: SharedChannel) => channel.messages;

/**
 * Subscribes to a channel while the component is there. Components with the same name share one channel; the last one to
 * leave closes it. `null` instead of a name subscribes to nothing.
 *
 * ```tsx
 * const { messages, publish } = useChannel("room:7");
 * ```
 */
export function useChannel(name: string | null, options: UseChannelOptions = {}): UseChannel {
  const { limit = 100, onMessage, onLost, ...wanted } = options;
  const session = useSession();
  useRequest(name, wanted, limit);
  const shared = useShared(name, state, SUBSCRIBING);
  const kept = useShared(limit > 0 ? name : null, messages, NO_MESSAGES);

  const [loss, setLoss] = useState<{ name: string; lost: Lost } | null>(null);
  const listeners = useLatest({ onMessage, onLost });
  const listen = useCallback(
    (channel: SharedChannel) =>
      channel.on((event) => {
        if ("message" in event) {
          listeners.current.onMessage?.(event.message);
          return;
        }
        const { lost } = event;
        setLoss(lost && { name: channel.name, lost });
        if (lost) listeners.current.onLost?.(lost);
      }),
    [listeners],
  );
  useJoined(name, listen);

  const publish = useCallback(
    async <K extends Kind>(kind: K, ...rest: PublishArguments<K>): Promise<Published> => {
      if (name === null) throw new BelfryError("CLOSED", "the component has no channel");
      return (session.client.get() ?? (await session.ready())).channel(name).publish(kind, ...rest);
    },
    [session, name],
  );

  return {
    ...shared,
    messages: useMemo(() => newest(kept, limit), [kept, limit]),
    lost: loss?.name === name ? loss.lost : null,
    publish,
    clearLost: useCallback(() => setLoss(null), []),
  };
}
