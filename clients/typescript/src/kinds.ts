import type { Position, ProtocolKinds, ServerFrames } from "./generated/frames.js";

/**
 * The data of each kind of message. An application adds its own:
 *
 * ```ts
 * declare module "@belfry/client" {
 *   interface Kinds {
 *     "chat.line": { text: string };
 *   }
 * }
 * ```
 */
export interface Kinds extends ProtocolKinds {}

/** The name of a kind: one of {@link Kinds}, or any other. */
export type Kind = keyof Kinds | (string & {});

/** The data of a kind. `unknown` if {@link Kinds} does not have it. */
export type DataOf<K extends Kind> = K extends keyof Kinds ? Kinds[K] : unknown;

/** A message as it reaches the application. */
export interface Message<K extends Kind = Kind> {
  readonly kind: K;
  /** The published content. For a notification of a server, its `data` with all fields. */
  readonly data: DataOf<K>;
  /** The user who published it. `undefined` if a server did: no client can pass for one. */
  readonly from: string | undefined;
  /** The sender's id for the message. */
  readonly id: string | undefined;
  /** When it was published. */
  readonly timestamp: string | undefined;
  /** The channel, `@me` or `@all`. `undefined` if the server does not say. */
  readonly channel: string | undefined;
  /** Its position in the channel's history. `undefined` if the history does not keep it. */
  readonly position: Position | undefined;
}

/** The message that a frame carries. */
export function messageOf(frame: ServerFrames["message"] | ServerFrames["notification"]): Message {
  const { type, data, from, id, timestamp, channel, position } = frame;
  return {
    kind: data.kind,
    data: type === "message" ? data.data : data,
    from: from?.userId,
    id,
    timestamp,
    channel,
    position,
  } as Message;
}
